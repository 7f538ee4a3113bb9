"""Trackers of experiments: where a run is told to, beside its own folder."""
