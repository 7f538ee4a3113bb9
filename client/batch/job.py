"""One job: what is to be read, what is written already, and the parts that are written one by one.

A part is the same pages under the same name whoever reads them, and is there whole or not at all. So a job that was
killed goes on with the parts that are not there, and two jobs of one place do work twice and harm nothing.

    OUTPUT/job.json                  what is read, and how it is parted; written first
    OUTPUT/pictures-<digest>.parquet the list of pictures
    OUTPUT/csv/part-00000.csv        a row for each page
    OUTPUT/parquet/part-00000.parquet  the same, with boxes and digits; where it is, the part is done
    OUTPUT/report.json               how many, how fast; written last
"""

import functools
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.dataset

from ..errors import InvalidInput
from .pictures import compare, find_pictures, from_file, name_of, to_file
from .places import Place, patiently
from .reader import JobStopped, Part, ReaderConfig

JOB, REPORT = "job.json", "report.json"
CSV, PARQUET = "csv", "parquet"
FORMAT = 1

# Reads parts, wherever, and yields them in any order.
ReadParts = Callable[[ReaderConfig, pa.Table, Sequence[int]], Generator[Part, None, None]]


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a job."""

    pages: int  # in all
    unreadable: int  # of them, whose rows have an error
    read_now: int  # the others were there before
    duration_s: float  # of these, without the start of Ray

    @property
    def pages_per_s(self) -> float:
        """Of what was read now."""
        return self.read_now / self.duration_s if self.duration_s else 0.0

    def to_json(self) -> dict[str, float]:
        """As plain values."""
        return {
            "pages": self.pages,
            "unreadable": self.unreadable,
            "read_now": self.read_now,
            "duration_s": round(self.duration_s, 3),
            "pages_per_s": round(self.pages_per_s, 3),
        }

    def __str__(self) -> str:
        before = f", {self.pages - self.read_now:,} of them before" if self.read_now < self.pages else ""
        speed = f"; {self.pages_per_s:,.1f} pages/s" if self.read_now else ""
        return f"{self.pages:,} pages read{before}, {self.unreadable:,} of them unreadable{speed}"


@dataclass(slots=True)
class Progress:
    """How far a job is."""

    pages: int  # in all
    written: int  # those in parts that are there
    unreadable: int = 0  # of those read now
    read_now: int = 0
    started: float = 0.0  # on time.monotonic's clock, when the first reader began

    def took(self, part: Part) -> None:
        """Count a part that was written."""
        self.started = self.started or time.monotonic() - part.duration_s
        self.written += part.pages
        self.read_now += part.pages
        self.unreadable += part.unreadable

    @property
    def duration_s(self) -> float:
        """Since the first reader began."""
        return time.monotonic() - self.started if self.started else 0.0

    def __str__(self) -> str:
        speed = f", {self.read_now / self.duration_s:,.1f} pages/s" if self.read_now else ""
        wrong = f", {self.unreadable:,} unreadable" if self.unreadable else ""
        return f"{self.written:,} of {self.pages:,} pages{speed}{wrong}"


class Job:
    """A folder of pictures on its way into a folder of tables."""

    def __init__(self, output: Place, config: ReaderConfig, tell: Callable[[str], None]) -> None:
        """Begin the job, or go on with it.

        Args:
            output: where the tables go.
            config: what the readers are told.
            tell: takes lines for the display.

        Raises: InvalidInput if the place holds anything else, or a job with other settings.
        """
        self._output, self._config, self._tell = output, config, tell
        self._asked = {
            "format": FORMAT,
            "pictures": str(Place(config.pictures)),
            "pages_per_part": config.pages_per_part,
            "model": config.connection.get("model"),
            "version": config.version.get("version"),
            "label": config.version.get("label"),
        }
        self._list = ""
        self.pictures = self._go_on() if output.has(JOB) else self._begin()
        self.progress = Progress(len(self.pictures), sum(self._size(number) for number in self._done()))

    def _begin(self) -> pa.Table:
        others = sorted(self._output.names("") - {"_unfinished"})
        if others and not all(name.startswith("pictures-") for name in others):  # which a killed job leaves
            raise InvalidInput(f"{self._output} is not empty ({', '.join(others[:3])}); give OUTPUT a new folder")
        found = find_pictures(Place(self._config.pictures))
        self._output.write(name_of(found), to_file(found))
        self._output.create_json(JOB, self._asked | {"list": name_of(found), "count": len(found)})
        return self._listed()  # another job may have been faster, with its list

    def _go_on(self) -> pa.Table:
        listed = self._listed()
        if not self._output.has(REPORT):
            for note in compare(listed, find_pictures(Place(self._config.pictures))).notes():
                self._tell(note)
        return listed

    def _listed(self) -> pa.Table:
        """The job's own list, if the job is the one that is asked for."""
        job = self._output.read_json(JOB)
        different = [
            f"{name} {job.get(name)!r} there, {value!r} now"
            for name, value in self._asked.items()
            if job.get(name) != value
        ]
        if different:
            raise InvalidInput(
                f"{self._output} is another job's ({'; '.join(different)}); give OUTPUT another folder, or the same "
                "flags to go on with that job"
            )
        self._list = job["list"]
        return from_file(self._output.read(self._list))

    def run(self, read_parts: ReadParts, show: Callable[[Progress], None]) -> Report:
        """Read what is not there yet.

        Args:
            read_parts: reads parts, and yields them.
            show: is called whenever a part is written.

        Raises: JobStopped if no page can be read at present, or another job has taken the place.
        """
        missing = sorted(set(range(self._count())) - self._done())
        if missing:
            self._read(read_parts, missing, show)
        report = self._report()
        if missing or not self._output.has(REPORT):
            self._output.write_json(REPORT, report.to_json())
        self._output.remove_unfinished()
        return report

    def _read(self, read_parts: ReadParts, missing: Sequence[int], show: Callable[[Progress], None]) -> None:
        config, progress = self._config, self.progress
        with closing(read_parts(config, self.pictures, missing)) as parts:
            for part in parts:
                if part.stopped:
                    raise JobStopped(part.stopped)
                write = functools.partial(self._write, part)
                patiently(write, retried=(OSError,), patience_s=config.patience_s)
                progress.took(part)
                show(progress)

    def _write(self, part: Part) -> None:
        """Write a part's files, of which the second one says that it is done."""
        self._output.write(_csv(part.number), part.csv)
        self._output.write(_parquet(part.number), part.parquet)

    def _report(self) -> Report:
        """Of all parts, counted in the files.

        Raises: JobStopped if they are not this job's pages, each once.
        """
        if self._output.read_json(JOB)["list"] != self._list:
            raise JobStopped(f"another job began in {self._output} at the same moment, with another list of pictures")
        files = [self._output.at(_parquet(number)) for number in range(self._count())]
        written = pyarrow.dataset.dataset(files, filesystem=self._output.filesystem, format="parquet")
        pages, unreadable = 0, 0
        for batch in written.to_batches(columns=["error"]):
            pages, unreadable = pages + len(batch), unreadable + len(batch) - batch.column("error").null_count
        if pages != len(self.pictures):
            raise JobStopped(f"{self._output}/{PARQUET} has {pages:,} rows for {len(self.pictures):,} pictures")
        return Report(pages, unreadable, self.progress.read_now, self.progress.duration_s)

    def _done(self) -> set[int]:
        """The parts that are there."""
        names = self._output.names(PARQUET)
        return {number for number in range(self._count()) if _parquet(number).rpartition("/")[2] in names}

    def _count(self) -> int:
        return -(-len(self.pictures) // self._config.pages_per_part)

    def _size(self, number: int) -> int:
        size = self._config.pages_per_part
        return min(size, len(self.pictures) - number * size)


def _csv(number: int) -> str:
    return f"{CSV}/part-{number:05d}.csv"


def _parquet(number: int) -> str:
    return f"{PARQUET}/part-{number:05d}.parquet"
