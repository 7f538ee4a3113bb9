"""What becomes of a picture: one row, which Parquet takes with its lines nested and CSV flat."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import printable
from ..reading.result import Reading
from .places import FileFacts

BOX = pa.struct([(side, pa.int32()) for side in ("left", "top", "right", "bottom")])  # pixels of the upright picture
DIGIT = pa.struct(
    [
        ("label", pa.string()),
        ("probability", pa.float32()),
        ("box", BOX),
        ("doubtful", pa.bool_()),
        ("is_digit", pa.bool_()),
    ]
)
SIGN = pa.struct([("text", pa.string()), ("box", BOX)])
LINE = pa.struct([("text", pa.string()), ("box", BOX), ("digits", pa.list_(DIGIT)), ("signs", pa.list_(SIGN))])
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # in the folder that was read
        pa.field("size", pa.int64(), nullable=False),  # bytes
        pa.field("modified", pa.timestamp("us", tz="UTC"), nullable=False),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("text", pa.string()),  # a line for each line of the page
        ("confident", pa.bool_()),
        ("left_out", pa.int32()),  # what may be writing, and was not read
        ("lines", pa.list_(LINE)),
        ("marks", pa.list_(pa.string())),  # why it reads badly, and why digits are doubtful
        ("model_version", pa.int64()),
        ("error", pa.string()),  # why it could not be read; the columns from width on are null then
    ]
)
CSV_COLUMNS = ("path", "size", "modified", "width", "height", "text", "confident", "left_out", "line_boxes", "marks",
               "model_version", "error")  # fmt: skip


def row_of(picture: FileFacts, reading: Reading) -> dict[str, Any]:
    """A picture that was read."""
    found = reading.to_json()
    return _row(
        picture,
        width=found["width"],
        height=found["height"],
        text=reading.text,
        confident=reading.confident,
        left_out=len(reading.left_out),
        lines=[_line(line) for line in found["lines"]],
        marks=reading.marks(),
        model_version=reading.model_version,
    )


def row_of_error(picture: FileFacts, error: Exception | str) -> dict[str, Any]:
    """A picture that could not be read."""
    return _row(picture, error=printable(" ".join(str(error).split()) or type(error).__name__))


def _row(picture: FileFacts, **found: Any) -> dict[str, Any]:
    modified = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=picture.modified_ns // 1000)
    empty = dict.fromkeys(SCHEMA.names)
    return empty | {"path": picture.path, "size": picture.size, "modified": modified} | found


def _line(line: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": line["text"],
        "box": _around([each["box"] for each in (*line["digits"], *line["signs"])]),
        "digits": [digit | {"box": _box(digit["box"])} for digit in line["digits"]],
        "signs": [sign | {"box": _box(sign["box"])} for sign in line["signs"]],
    }


def _around(boxes: Sequence[Sequence[int]]) -> dict[str, int]:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return _box([min(lefts), min(tops), max(rights), max(bottoms)])


def _box(sides: Sequence[int]) -> dict[str, int]:
    return dict(zip(BOX.names, sides, strict=True))


def to_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """The rows as a file of SCHEMA."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink, compression="zstd")
    return bytes(sink.getvalue())


def to_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """The rows as comma-separated values, with a header; UTF-8.

    `line_boxes` has "left top right bottom" for each line of the text, with "; " between them.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(row) for row in rows)
    return text.getvalue().encode()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    boxes = [" ".join(str(side) for side in line["box"].values()) for line in row["lines"] or ()]
    flat = row | {"modified": row["modified"].isoformat(), "line_boxes": "; ".join(boxes)}
    flat["marks"] = "; ".join(row["marks"] or ())
    flat["confident"] = "" if row["confident"] is None else str(row["confident"]).lower()
    return flat
