"""The web page: `python -m client web`."""
