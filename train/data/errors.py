"""The error of data that cannot be trained on."""


class DataError(ValueError):
    """The data cannot be trained on; the message says what was found, what was expected and what to do."""
