"""One loaded version of a model: its graph, its signatures, and what may be fed to it."""
