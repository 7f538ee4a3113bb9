"""From pixels to text: find the ink of a picture, cut it into digits, and choose the reading that costs least."""

from .page import find_digits
from .result import ReadDigit, Reading, read_page

__all__ = ["ReadDigit", "Reading", "find_digits", "read_page"]
