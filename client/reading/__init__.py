"""From pixels to text: find the ink of a picture, cut it into digits, and choose the reading that costs least.

    from inkling.client.reading import find_digits, read_page

    page = find_digits("page.jpg")
    reading = read_page(page, classify)  # classify: uint8 [n, 28, 28] -> probabilities float [n, 10]
    print(reading.text)

The way, a module for each step: `picture` opens it, `sheet` finds the paper and flattens it, `skew` turns it level,
`ink`, `frames` and `ruled_lines` tell ink from paper, `text_lines` sorts the ink into lines, `signs` tells the signs in
them, `cuts` cuts the lines into segments, `mnist_form` brings candidates into the classifier's form, `page` is all of
that in order; `novelty`, `second_opinion`, `votes`, `sign_votes` and `best_path` weigh the candidates, `marks` tells
what is doubtful, `spacing` what parts the marks, `result` is the reading, `fields` its cells, tables and numbers;
`rounds` and `turn` ask again about a page that may lie on its side, `draw` shows it.

The words:

    component    ink that hangs together, by its pixels (8-connected); `patches.InkPatch` is ink with its place
    segment      a part of a line that is not cut any further: a component, or what lies between two cuts of one
    span         neighbouring segments, taken together
    candidate    a span as one digit: a hypothesis, of which a line has more than it has digits
    view         a candidate's image for the classifier; each has two, as it is written and with its slant taken out
    path         candidates that follow each other from a line's first segment to its last; the cheapest is the reading

This package needs of the client the error class `InvalidInput` and nothing else.
"""

from .fields import Field, Number, Table
from .marks import ReadDigit, ReadSign
from .page import find_digits
from .result import Reading
from .rounds import read_page

__all__ = ["Field", "Number", "ReadDigit", "ReadSign", "Reading", "Table", "find_digits", "read_page"]
