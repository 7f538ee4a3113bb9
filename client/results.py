"""What the calls return: plain values that print well. Nothing here knows the wire."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import printable

AVAILABLE = "AVAILABLE"
SHOWN_ROWS = 20


class Outputs(dict[str, NDArray[Any]]):
    """The outputs of a signature by name, and the model that they are from.

    Attributes:
        model_name: the model's name on the server.
        version: the version of the model that computed them.
        signature: the signature's name.
    """

    __slots__ = ("model_name", "signature", "version")

    def __init__(self, *, model_name: str, version: int, signature: str) -> None:
        self.model_name = model_name
        self.version = version
        self.signature = signature

    def __str__(self) -> str:
        lines = [f"{name}: {array.dtype} {list(array.shape)}\n{array}" for name, array in sorted(self.items())]
        return printable("\n".join([*lines, f"({self.model_name} version {self.version}, {self.signature})"]))


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What images show.

    Attributes:
        classes: int64 [n], the most probable class of each image.
        probabilities: float32 [n, number of classes], each row adding up to 1.
        model_name: the model's name on the server.
        version: the version of the model that computed them.
    """

    classes: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    model_name: str
    version: int

    @property
    def confidence(self) -> NDArray[np.float32]:
        """float32 [n]: the probability of each image's class."""
        best: NDArray[np.float32] = self.probabilities.max(axis=1, initial=0)
        return best

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """The class and its probability, image by image."""
        return zip(self.classes.tolist(), self.confidence.tolist(), strict=True)

    def __str__(self) -> str:
        if len(self) == 1:
            return "{} ({:.1%})".format(*next(iter(self)))
        shown = zip(range(SHOWN_ROWS), self, strict=False)
        lines = [f"{row:5d}  {name:5d}  {probability:11.1%}" for row, (name, probability) in shown]
        more = [f"... and {len(self) - SHOWN_ROWS:,} more"] if len(self) > SHOWN_ROWS else []
        return "\n".join(["image  class  probability", *lines, *more, f"({_source(self)})"])

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        shown = zip(range(SHOWN_ROWS), self, strict=False)
        rows = [(str(row), str(name), f"{probability:.1%}") for row, (name, probability) in shown]
        more = f"and {len(self) - SHOWN_ROWS:,} more, " if len(self) > SHOWN_ROWS else ""
        return html_table([("image", "class", "probability"), *rows], caption=f"{more}{_source(self)}")


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class that an example may belong to, with the model's score for it."""

    name: str
    score: float  # higher is more likely; Inkling's models give probabilities

    def __str__(self) -> str:
        return printable(f"{self.name} ({self.score:.3g})")


@dataclass(frozen=True, slots=True)
class Classification:
    """What one example is, by the scores of the classes in the model's order."""

    classes: tuple[ClassScore, ...]
    model_name: str
    version: int

    @property
    def best(self) -> ClassScore:
        """The class with the highest score."""
        return max(self.classes, key=lambda one: one.score)

    def __str__(self) -> str:
        return ", ".join(str(one) for one in sorted(self.classes, key=lambda one: -one.score))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a signature."""

    dtype: str  # as NumPy names it, or TensorFlow: "uint8", "float32", "string", "bfloat16"
    shape: tuple[int, ...] | None  # -1 is a dimension of any size; None a shape of any rank

    def __str__(self) -> str:
        return f"{self.dtype} {'[...]' if self.shape is None else list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model."""

    name: str
    method: str  # "tensorflow/serving/predict", ".../classify", ...
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    optional: frozenset[str] = frozenset()  # inputs with a default


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The signatures of one version of a model."""

    model_name: str
    version: int
    signatures: dict[str, Signature]

    def __str__(self) -> str:
        return table(self._rows())

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        return html_table(self._rows(), caption=_source(self))

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("signature", "", "name", "dtype and shape")]
        for name, signature in sorted(self.signatures.items()):
            if name.startswith("__"):  # TensorFlow's own, such as __saved_model_init_op
                continue
            for direction, specs in (("in", signature.inputs), ("out", signature.outputs)):
                for tensor, spec in sorted(specs.items()):
                    default = " (has a default)" if direction == "in" and tensor in signature.optional else ""
                    rows.append((name, direction, tensor, f"{spec}{default}"))
        return rows


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version of a model on the server."""

    version: int
    state: str  # START, LOADING, AVAILABLE, UNLOADING or END
    error: str = ""  # why it could not be loaded

    def __str__(self) -> str:
        return printable(f"version {self.version}: {self.state}" + (f" ({self.error})" if self.error else ""))


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The versions of a model that the server knows of, newest first."""

    model_name: str
    versions: tuple[VersionStatus, ...]

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that are served, newest first."""
        return tuple(status.version for status in self.versions if status.state == AVAILABLE)

    def __str__(self) -> str:
        rows = [("model", "version", "state", "error")]
        return table(rows + [(self.model_name, str(one.version), one.state, one.error) for one in self.versions])


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A model that `reload` tells a server to serve."""

    name: str
    base_path: str  # absolute path or URI of the folder of its versions, as the server sees it
    latest: int = 1  # serve this many of the highest versions
    versions: tuple[int, ...] = ()  # or exactly these
    all_versions: bool = False  # or all
    labels: Mapping[str, int] | None = None  # label: version, such as {"stable": 3}
    platform: str = "tensorflow"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as aligned columns, without trailing spaces; each cell on one line, as a terminal may show it."""
    rows = [tuple(printable(" ".join(cell.split())) for cell in row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def html_table(rows: Sequence[tuple[str, ...]], *, caption: str) -> str:
    """Rows as a table of HTML, the first of them its head; texts are escaped."""
    head, *body = rows
    lines = "".join(f"<tr>{_html_cells(row, 'td')}</tr>" for row in body)
    title = f"<caption>{html.escape(caption)}</caption><thead><tr>{_html_cells(head, 'th')}</tr></thead>"
    return f"<table>{title}<tbody>{lines}</tbody></table>"


def _html_cells(row: tuple[str, ...], tag: str) -> str:
    return "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in row)


def _source(result: Prediction | ModelMetadata) -> str:
    """Where a result is from."""
    return printable(f"{result.model_name} version {result.version}")
