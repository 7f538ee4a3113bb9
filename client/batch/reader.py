"""Reads the pictures of a part, one after the other, and makes the part's two files of them.

What is wrong with a picture becomes its row. What is wrong with the server or the storage is waited for, and in the end
stops the job: the next picture would fare no better.
"""

import logging
import time
from dataclasses import dataclass, field

import pyarrow as pa

from ..blocking import Client
from ..errors import DeadlineExceeded, InklingError, InvalidInput, ServerUnavailable
from ..operations.options import VersionOptions
from ..pictures import REFUSALS
from ..reading.picture import MAX_FILE_BYTES
from ..reading.result import Reading
from ..settings import Connection
from .pictures import facts_of
from .places import FINAL_ERRORS, FileFacts, Place, patiently
from .rows import row_of, row_of_error, to_csv, to_parquet

logger = logging.getLogger(__name__)

SLOW_TRIES = 3  # of a page that gets no answer in time, from a server that answers otherwise


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderConfig:
    """What each reader is told; it travels to the nodes."""

    pictures: str  # the folder that they lie in
    pages_per_part: int
    connection: Connection = field(repr=False)  # with the credentials
    version: VersionOptions
    patience_s: float  # for how long a server or a storage that is away is waited for


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The pages of a part, as its two files; with a `stopped` in place of them if it could not be read."""

    number: int
    parquet: bytes = b""
    csv: bytes = b""
    pages: int = 0
    unreadable: int = 0
    duration_s: float = 0.0
    stopped: str = ""  # why the job must stop


class JobStopped(Exception):
    """No page can be read at present; the message says why."""


class PartReader:
    """Reads parts by one client, which it keeps."""

    def __init__(self, config: ReaderConfig, pictures: pa.Table) -> None:
        self._config = config
        self._pictures = pictures
        self._place = Place(config.pictures)
        self._client = Client(**config.connection)

    def read(self, number: int) -> Part:
        """Read the pictures of part `number`."""
        size, begun = self._config.pages_per_part, time.monotonic()
        try:
            rows = [self._row(picture) for picture in facts_of(self._pictures.slice(number * size, size))]
        except JobStopped as stopped:
            return Part(number=number, stopped=str(stopped))
        unreadable = sum(row["error"] is not None for row in rows)
        return Part(
            number=number,
            parquet=to_parquet(rows),
            csv=to_csv(rows),
            pages=len(rows),
            unreadable=unreadable,
            duration_s=time.monotonic() - begun,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _row(self, picture: FileFacts) -> dict[str, object]:
        try:
            return row_of(picture, self._read(self._content(picture)))
        except JobStopped:
            raise
        except Exception as error:  # of a hostile or broken picture, any: it must not end the job of all others
            if not isinstance(error, InklingError | OSError):
                logger.warning("%s could not be read", picture.path, exc_info=True)
            return row_of_error(picture, error)

    def _content(self, picture: FileFacts) -> bytes:
        """The picture's file, if it is the one of the list.

        Raises: InvalidInput, FileNotFoundError or PermissionError; JobStopped if the storage stays away.
        """
        if picture.size > MAX_FILE_BYTES:
            raise InvalidInput(f"it is larger than {MAX_FILE_BYTES // 2**20} MiB; shrink the picture")
        try:
            return patiently(lambda: self._unchanged(picture), retried=(OSError,), patience_s=self._config.patience_s)
        except FINAL_ERRORS:
            raise
        except OSError as error:
            raise JobStopped(f"{self._place}/{picture.path}: {error}") from error

    def _unchanged(self, picture: FileFacts) -> bytes:
        now = self._place.facts(picture.path)
        if now != picture:
            raise InvalidInput(
                f"it has changed since the job began: {picture.size:,} bytes then, {now.size:,} now, or another time "
                "of writing; read it in a job of its own"
            )
        return self._place.read(picture.path)

    def _read(self, content: bytes) -> Reading:
        """Read a picture's file, waiting for a server that is away.

        Raises: what `Client.read` raises of a picture; JobStopped for what is not the picture's fault.
        """
        patience_s = self._config.patience_s
        try:
            return patiently(lambda: self._in_time(content), retried=(ServerUnavailable,), patience_s=patience_s)
        except ServerUnavailable as error:
            raise JobStopped(f"{error}; waited for {patience_s:g} s") from error
        except (*REFUSALS, ImportError) as error:
            raise JobStopped(str(error)) from error

    def _in_time(self, content: bytes) -> Reading:
        """Read it; a page that is too much for a server that answers otherwise is the page's error."""
        for _ in range(SLOW_TRIES - 1):
            try:
                return self._client.read(content, **self._config.version)
            except DeadlineExceeded:
                self._client.status()  # raises what stops the job, or is waited for
        return self._client.read(content, **self._config.version)
