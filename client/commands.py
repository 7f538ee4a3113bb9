"""The subcommands of the command line. Each prints its result and returns the exit status."""

import argparse
import asyncio
import dataclasses
import importlib.util
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from .aio import AsyncClient
from .blocking import Client
from .errors import InvalidInput, printable
from .flag_names import in_flags
from .load_test import Report, measure
from .pictures import STDIN, Found, Picture, Wanted, find_pictures, read_pictures
from .results import ModelStatus
from .settings import Connection

# How pictures' files begin, by https://en.wikipedia.org/wiki/List_of_file_signatures: PNG, JPEG, GIF, WebP, BMP, TIFF.
PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def complain(error: Exception | str) -> None:
    """One line about it on standard error, in the command line's own words."""
    print("error:", printable(in_flags(" ".join(str(error).split()))), file=sys.stderr)


def read(flags: argparse.Namespace, connection: Connection) -> int:
    """Print what is written in pictures.

    For one picture, its lines; for several, each line after the picture's name. What is doubtful is told on
    standard error; "?" stands for what is not a digit.
    """
    names = list(find_pictures(flags.pictures))
    many = len(names) > 1 or any(Path(name).is_dir() for name in flags.pictures)
    drawings = _drawings(names, flags.draw, many=many)
    _check_table_flags(flags, many=many)
    wanted = Wanted(json=flags.json, table=flags.table, version=flags.model_version, label=flags.label)
    pictures = (_picture(name, drawing) for name, drawing in zip(names, drawings, strict=True))
    found = read_pictures(pictures, wanted, connection, jobs=min(flags.jobs, len(names)))
    failures = 0
    with closing(found), _Progress(len(names) if many else 0) as progress:
        for name in names:
            progress.show(name)
            one = next(found)
            progress.clear()
            _print_found(_name(name), one, flags, named=many)
            failures += bool(one.error)
    return 1 if failures else 0


def _picture(name: str, drawing: Path | None) -> Picture:
    content = sys.stdin.buffer.read() if name == STDIN else None
    return Picture(name=_name(name), content=content, drawing=drawing)


def _drawings(pictures: Sequence[str], target: str | None, *, many: bool) -> list[Path | None]:
    """Where each drawn-in picture goes.

    Raises: InvalidInput if two would be one file.
    """
    if target is None:
        return [None] * len(pictures)
    if not many:
        return [Path(target)]
    drawings: list[Path | None] = [Path(target, Path(_name(picture)).stem + ".png") for picture in pictures]
    twice = {str(drawing) for drawing in drawings if drawings.count(drawing) > 1}
    if twice:
        raise InvalidInput(f"--draw would write {min(twice)} more than once; read the folders one by one")
    return drawings


def _name(picture: str) -> str:
    return "stdin" if picture == STDIN else picture


def _shown(name: str, stream: TextIO) -> str:
    """A picture's name in its own bytes, or with its control characters escaped where a terminal would obey them."""
    return printable(name) if stream.isatty() else name


def _print_found(name: str, found: Found, flags: argparse.Namespace, *, named: bool) -> None:
    """What was read on standard output, what is doubtful or wrong on standard error."""
    if found.text is not None and flags.output:
        Path(flags.output).write_text(found.text, encoding="utf-8", newline="")
    elif found.text is not None:
        before = f"{_shown(name, sys.stdout)}:" if named and not flags.json else ""
        for line in found.text.split("\n") if before else [found.text]:
            print(f"{before}{line}", end="" if flags.table else "\n", flush=True)
    about = f"{_shown(name, sys.stderr)}: "
    if not flags.json:
        for mark in found.marks:
            print(f"{about if named else ''}{mark}", file=sys.stderr)
        if found.is_blank:
            print(f"{about}nothing is written there", file=sys.stderr)
    if found.error:
        complain(f"{name}: {found.error}")


def _check_table_flags(flags: argparse.Namespace, *, many: bool) -> None:
    """Refuse what --table and --output cannot do.

    Raises: InvalidInput.
    """
    if flags.output and not flags.table:
        raise InvalidInput("--output is where the table goes; add --table")
    if flags.table and (many or flags.json):
        what = "--json" if flags.json else f"{len(flags.pictures)} names, or a folder"
        raise InvalidInput(f"--table writes the table of one picture; got {what}")


class _Progress:
    """How far a command is, on one line of a terminal's standard error; silent elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total if sys.stderr.isatty() else 0
        self._done = 0

    def show(self, name: str) -> None:
        self._done += 1
        if self._total:
            print(f"\r\x1b[K{self._done}/{self._total} {printable(name)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._total:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def predict(flags: argparse.Namespace, connection: Connection) -> int:
    """Print the class of each image in a .npy file and its probability, a line for each, with a tab between them."""
    images = _load(flags.array)
    with Client(**connection) as client:
        prediction = client.predict(images, version=flags.model_version, label=flags.label, as_is=flags.as_is)
    if flags.json:
        result = {
            "model": prediction.model_name,
            "model_version": prediction.version,
            "classes": prediction.classes.tolist(),
            "probabilities": prediction.probabilities.tolist(),
        }
        print(json.dumps(result))
    else:
        for name, probability in prediction:
            print(f"{name}\t{probability:.4f}")
    return 0


def _load(name: str) -> NDArray[Any]:
    """The array in a .npy file, of any dtype and shape.

    Raises: InvalidInput if it is not one, OSError if it cannot be opened.
    """
    try:
        # Opened here, as numpy leaves a file open that it takes for an archive of arrays.
        with io.BytesIO(sys.stdin.buffer.read()) if name == STDIN else open(name, "rb") as source:
            if source.read(4).startswith(PICTURE_STARTS):
                raise InvalidInput(f"{_name(name)} is a picture; `inkling read {name}` reads it")
            source.seek(0)
            array: NDArray[Any] = np.load(source, allow_pickle=False)  # a pickle could run anything
    except InvalidInput:
        raise
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{_name(name)} is not a .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{name} holds several arrays (.npz); expected one (.npy)")
    return array


def status(flags: argparse.Namespace, connection: Connection) -> int:
    """Print the versions of the model that the server knows of, and the state that each is in."""
    with Client(**connection) as client:
        _print_status(client.status(), as_json=flags.json)
    return 0


def _print_status(status: ModelStatus, *, as_json: bool) -> None:
    if as_json:
        versions = [dataclasses.asdict(one) for one in status.versions]
        print(json.dumps({"model": status.model_name, "versions": versions}))
    else:
        print(status)


def wait(flags: argparse.Namespace, connection: Connection) -> int:
    """Wait until the server is up and serves a version of the model, or this version; print its versions."""
    with Client(**connection) as client:
        _print_status(client.wait_until_ready(version=flags.model_version, timeout_s=flags.timeout), as_json=False)
    return 0


def metadata(flags: argparse.Namespace, connection: Connection) -> int:
    """Print the model's signatures: names, dtypes and shapes of inputs and outputs. -1 is a dimension of any size."""
    with Client(**connection) as client:
        found = client.metadata(version=flags.model_version, label=flags.label)
    if flags.json:
        signatures = {name: dataclasses.asdict(signature) for name, signature in found.signatures.items()}
        described = {"model": found.model_name, "model_version": found.version, "signatures": signatures}
        print(json.dumps(described, default=sorted))  # the names of optional inputs are a set
    else:
        print(found)
        print(printable(f"({found.model_name} version {found.version})"))
    return 0


def bench(flags: argparse.Namespace, connection: Connection) -> int:
    """Keep a number of calls under way for a time, each followed by the next, and print what the server did.

    The client is one process on one core: at some thousand requests a second it is the client that is measured.
    """
    images = _load(flags.images) if flags.images else None

    async def run() -> Report:
        async with AsyncClient(**connection) as client:
            await client.status()  # fails at once if the server is unavailable or has no such model
            return await measure(
                client,
                images,
                concurrency=flags.concurrency,
                batch_size=flags.batch_size,
                duration_s=flags.duration,
                warmup_s=flags.warmup,
                version=flags.model_version,
                label=flags.label,
            )

    report = asyncio.run(run())
    print(json.dumps(report.to_json()) if flags.json else report)
    if report.errors:
        complain("; ".join(report.examples.values()))
    elif not len(report.latencies_ms):
        complain("no call began and ended while it was measured; give a longer --duration, or fewer images at once")
    return 0 if len(report.latencies_ms) and not report.errors else 1


def web(flags: argparse.Namespace, connection: Connection) -> int:
    """Serve a page to draw numbers on, which are read as they are drawn.

    The page talks to the model server by gRPC; the browser needs nothing but the page's address.
    """
    client = AsyncClient(**connection)
    try:
        # Here, as only this command needs what the extra `web` brings.
        from .web.serve import serve

        # Of the process that decodes pictures: found missing now rather than at the first drawing.
        if importlib.util.find_spec("cv2") is None:
            raise ImportError(name="cv2")
    except ImportError as error:
        remedy = "the extra `web` brings it: pip install 'inkling-client[web]'"
        raise ImportError(f"{error.name} is not installed; {remedy}") from error
    return serve(client, host=flags.host, port=flags.port)
