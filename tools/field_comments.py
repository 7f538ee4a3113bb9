"""An extension of Griffe (mkdocs.yml): the comment beside a dataclass's field, or above it, is the field's description.

That is where the code has them, for the command lines' `--help` too.
"""

from functools import cache
from pathlib import Path
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Gives attributes that have no docstring their comment."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.lineno and attr.endlineno and isinstance(attr.filepath, Path):
            text = _comment(_lines(attr.filepath), attr.lineno, attr.endlineno)
            if text:
                attr.docstring = griffe.Docstring(text, lineno=attr.lineno, parent=attr)


@cache
def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _comment(lines: list[str], first: int, last: int) -> str:
    """The comment on line `last`, counted from 1; without one, the whole lines of comment above line `first`."""
    _, _, beside = lines[last - 1].partition("  # ")
    if beside:
        return beside
    above: list[str] = []
    while first > 1 and lines[first - 2].strip().startswith("# "):
        first -= 1
        above.insert(0, lines[first - 1].strip().removeprefix("# "))
    return " ".join(above)
