"""The REST API, as TensorFlow Serving speaks it."""
