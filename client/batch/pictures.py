"""The list of the pictures that a job reads: made once, before the first of them is read, and kept beside the result.

So a job that goes on reads the same pictures as the one before it, whatever has come or gone since, and says what has.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InvalidInput
from ..pictures import SUFFIXES
from .places import FileFacts, Place

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("modified_ns", pa.int64())])
NAMED = 3  # pictures in a message


def find_pictures(place: Place) -> pa.Table:
    """The list of the pictures in a folder and below it: SCHEMA, by path.

    Raises: InvalidInput if there are none, or a name that is no text.
    """
    try:
        found = [facts for facts in place.files() if _is_picture(facts.path)]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"a name in {place} is no UTF-8 ({error.object!r}); rename that file") from error
    if not found:
        raise InvalidInput(f"{place} has no pictures ({', '.join(sorted(SUFFIXES))})")
    return pa.Table.from_pylist([facts._asdict() for facts in found], SCHEMA)


def _is_picture(path: str) -> bool:
    name = path.rpartition("/")[2]
    return "." in name and "." + name.rpartition(".")[2].lower() in SUFFIXES


def name_of(pictures: pa.Table) -> str:
    """The name of a list's file, by what is in the list: two lists never share one."""
    digest = hashlib.sha256()
    for facts in facts_of(pictures):
        digest.update(repr(tuple(facts)).encode())
    return f"pictures-{digest.hexdigest()[:16]}.parquet"


def facts_of(pictures: pa.Table) -> Iterable[FileFacts]:
    """The pictures of a list, or of a slice of one."""
    return (FileFacts(*row.values()) for row in pictures.to_pylist())


def to_file(pictures: pa.Table) -> bytes:
    """A list as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(pictures, sink)
    return bytes(sink.getvalue())


def from_file(content: bytes) -> pa.Table:
    """The list in a Parquet file."""
    return pq.read_table(pa.BufferReader(content), schema=SCHEMA)


class Changes(NamedTuple):
    """What has happened to the pictures of a list since it was made; paths."""

    changed: list[str]
    gone: list[str]
    new: list[str]

    def notes(self) -> list[str]:
        """A sentence for each kind that there is."""
        sentences = {
            "have changed since this job began; those not read by now become rows with that error": self.changed,
            "are gone since this job began; those not read by now become rows with that error": self.gone,
            "have come since this job began, and are not part of it; read them into another OUTPUT": self.new,
        }
        return [f"{_named(paths)} {what}" for what, paths in sentences.items() if paths]


def compare(before: pa.Table, now: pa.Table) -> Changes:
    """What differs between two lists of one folder."""
    old = {facts.path: facts for facts in facts_of(before)}
    new = {facts.path: facts for facts in facts_of(now)}
    return Changes(
        changed=[path for path, facts in old.items() if path in new and new[path] != facts],
        gone=[path for path in old if path not in new],
        new=[path for path in new if path not in old],
    )


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
    return f"{len(paths):,} picture(s) ({', '.join(paths[:NAMED])}{more})"
