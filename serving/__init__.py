"""Serve SavedModels over the TensorFlow Serving API: `python -m serving --help`."""
