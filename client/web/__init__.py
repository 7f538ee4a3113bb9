"""The web page: draw a number or drop a picture and see it read. Reached by `python -m client web`."""
