"""Which versions of which models are live, and how they come and go."""
