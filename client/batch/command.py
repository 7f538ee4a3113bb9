"""The command line of a batch job: `python -m inkling.client.batch`, or `python -m client.batch` in a checkout."""

import argparse
import functools
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, Self

from ..cli import FAILED, INTERRUPTED, UNAVAILABLE, USAGE, add_connection, add_model, connection_of, positive
from ..commands import complain
from ..errors import InklingError, InvalidInput, printable
from ..operations.options import VersionOptions
from ..settings import TLS, Connection, Settings

EVERY_S = 10.0  # between two lines of progress where nobody sits at a terminal
DESCRIPTION = """Read a folder or a bucket of pictures into a table, by many readers at a time.

    python -m inkling.client.batch scans/ read/                      all pictures in scans/, on all CPUs of this machine
    python -m inkling.client.batch s3://post/2026 s3://post/read     from and to buckets
    python -m inkling.client.batch scans/ read/ --address auto --server serving:8500
                                                                     on the Ray cluster that this machine is part of

OUTPUT/parquet has a row for each picture, with its lines, digits and boxes nested; OUTPUT/csv the same rows, flat. A
picture that cannot be read is a row with its error. Give the same command again to go on with a job that was stopped or
killed: each page is there once. Pictures are listed when the job begins; those that come later are for another job."""

EPILOG = """the table:
  path, size, modified     the picture, as it was listed
  width, height            upright, in pixels
  text                     a line for each line of the page; "?" for what is no digit
  confident                nothing is doubtful, and nothing was left out that may be a digit
  left_out                 how many marks on the page may be writing, and were not read
  lines                    (Parquet) of each line: text, box, digits with box and probability, signs
  line_boxes               (CSV) of each line: left top right bottom, in pixels
  marks                    why the page reads badly
  model_version, error

places:
  a folder; s3://bucket/folder, with AWS_ACCESS_KEY_ID and the like, or ?endpoint_override=HOST:PORT&scheme=http behind
  it for another store; gs://bucket/folder. On a cluster all nodes must see the pictures; this process writes OUTPUT.

environment:
  INKLING_SERVER, INKLING_TOKEN, INKLING_API_KEY   as `inkling --help` has them; they travel to the readers
  RAY_ADDRESS              the cluster, if --address is not given (this machine alone without both)

exit status:
  0  all pages are written
  1  the tables could not be written, or no picture could be read
  2  wrong usage
  3  stopped: the server, the storage or the cluster stayed away, or refused
  130  interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, as --help lists it."""
    # gRPC's core and Ray write their own lines to standard error; errors are reported here, once.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    signal.signal(signal.SIGTERM, _interrupt)
    given = list(sys.argv[1:] if arguments is None else arguments)
    flags = _parser().parse_args(given)
    resume = f"go on by the same command: {shlex.join(['python', '-m', __package__, *given])}"
    try:
        return _run(flags, resume)
    except ImportError as error:
        complain(f"{error.name} is not installed; the extra `batch` brings it: pip install 'inkling-client[batch]'")
        return FAILED
    except InvalidInput as error:
        complain(error)
        return USAGE
    except (InklingError, OSError) as error:
        complain(f"{error}; {resume}")
        return FAILED
    except KeyboardInterrupt:
        complain(f"interrupted; {resume}")
        return INTERRUPTED


def _run(flags: argparse.Namespace, resume: str) -> int:
    # Here, as --help and a wrong flag need neither Ray nor PyArrow, and say what to do where they are missing.
    from .job import Job
    from .places import Place
    from .pool import ClusterUnreachable, read_on_ray
    from .reader import JobStopped, ReaderConfig

    config = ReaderConfig(
        pictures=flags.pictures,
        pages_per_part=flags.pages_per_part,
        connection=_connection(flags),
        version=VersionOptions(version=flags.model_version, label=flags.label),
        patience_s=flags.patience,
    )
    with _Display() as display:
        job = Job(Place(flags.output), config, display.tell)
        display.tell(str(job.progress))
        read_parts = functools.partial(read_on_ray, address=flags.address, readers=flags.readers, tell=display.tell)
        try:
            report = job.run(read_parts, display.show)
        except (JobStopped, ClusterUnreachable) as error:
            display.clear()
            complain(f"{error}; {job.progress} are written; {resume}")
            return UNAVAILABLE
    print(f"{report}: {flags.output}")
    if report.unreadable == report.pages:
        complain(f"no picture could be read; {flags.output}/csv says why, in the column error")
        return FAILED
    return 0


def _connection(flags: argparse.Namespace) -> Connection:
    """The server and how to talk to it, as readers on other machines can be told: certificates and not their files."""
    connection = connection_of(flags)
    if tls := connection.get("tls"):
        pems = {name: tls.pem(name) for name in ("ca", "certificate", "key")}
        connection["tls"] = TLS(**pems, server_name=tls.server_name)
    Settings(**connection)  # refuses what makes no sense here, and not on each node
    return connection


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class _Display:
    """Lines on standard error; how far the job is, on the last line of a terminal, or now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = 0.0

    def tell(self, line: str) -> None:
        """Print a line."""
        self.clear()
        print(printable(line), file=sys.stderr, flush=True)

    def show(self, progress: object) -> None:
        """Print how far the job is."""
        if self._is_terminal:
            print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._shown_at >= EVERY_S:
            self._shown_at = time.monotonic()
            self.tell(str(progress))

    def clear(self) -> None:
        """Take the last line away."""
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", metavar="PICTURES", help="folder, or URI of one; what is in folders below it too")
    parser.add_argument(
        "output", metavar="OUTPUT", help="folder, or URI of one, for the tables: a new one, or this job's"
    )
    parser.add_argument(
        "--readers", type=positive(int), metavar="N", help="pictures at a time, each on a CPU; all CPUs by default"
    )
    parser.add_argument(
        "--pages-per-part",
        type=positive(int),
        default=64,
        metavar="N",
        help="rows of a file; a killed job has each reader's part to read again (%(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=positive(float),
        default=300.0,
        metavar="SECONDS",
        help="for how long a server or storage that is away is asked again, before the job stops (%(default)s)",
    )
    parser.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS") or "local",
        metavar="CLUSTER",
        help="Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT (%(default)s)",
    )
    add_model(parser)
    add_connection(parser)
    parser.set_defaults(timeout=30.0)
    return parser
