"""The command line: `python -m client`, or `inkling`.

The result goes to standard output and nothing else does; errors are one line on standard error.
"""

import argparse
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from . import commands, connection_flags
from .connection_flags import positive
from .errors import DeadlineExceeded, InklingError, InvalidInput, ServerUnavailable

OK, FAILED, USAGE, AWAY, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141

DESCRIPTION = """Read handwriting, by asking an Inkling or TensorFlow Serving server.

    inkling read page.jpg                  print what is written there
    inkling read scans/ --json             all pictures of a folder, one JSON object a line
    inkling predict images.npy             class and probability of 28x28 images
    inkling status                         the versions of the model on the server
    inkling metadata                       its signatures
    inkling wait --timeout 120             wait until the model is served
    inkling bench --concurrency 32         put load on the server and measure it
    inkling web                            draw in the browser"""

EPILOG = """environment:
  INKLING_SERVER  the server's address where --server is not given (localhost:8500 without both)
  INKLING_TOKEN   a bearer token to send with every call; only over TLS, or with --token-over-plaintext

exit status:
  0  done
  1  failed: the server refused, there is no such model, a picture cannot be read, calls of a bench failed
  2  wrong usage
  3  the server is away, or did not answer in time
  130  interrupted        141  the reader of the output went away"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, as --help lists it."""
    # gRPC's core writes its own log lines to standard error; errors are reported here, once.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name goes out in the bytes that it came in
    try:
        flags = _parser().parse_args(arguments)
        status: int = flags.command(flags, connection_flags.settings(flags))
        sys.stdout.flush()
        return status
    except (ServerUnavailable, DeadlineExceeded) as error:
        return _fail(error, AWAY)
    except InvalidInput as error:
        return _fail(error, USAGE if error.status is None and not error.address else FAILED)
    except (InklingError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError):
            # What is left in the buffer cannot be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _fail(error: Exception, status: int) -> int:
    if isinstance(error, OSError) and error.filename is not None:
        commands.complain(f"{error.filename}: {error.strerror}")
    else:
        commands.complain(error)
    return status


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inkling", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, command: Callable[[argparse.Namespace, dict[str, Any]], int], summary: str
    ) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            help=summary,
            description=inspect.getdoc(command),
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(command=command)
        connection_flags.add_connection(added)
        return added

    read = add("read", commands.read, "print what is written in pictures")
    read.add_argument("pictures", nargs="+", metavar="PICTURE", help="file, folder of files, or - for standard input")
    read.add_argument("--json", action="store_true", help="one JSON object a line: text, digits, boxes, probabilities")
    read.add_argument(
        "--draw", metavar="OUT", help="write the picture with boxes and digits; a folder where there are several"
    )
    _add_model(read)

    predict = add("predict", commands.predict, "classify 28x28 images in a .npy file")
    predict.add_argument("array", metavar="ARRAY", help=".npy file of uint8 [n, 28, 28] or [28, 28]; - for stdin")
    predict.add_argument("--json", action="store_true", help="one JSON object, with all probabilities")
    _add_model(predict)

    status = add("status", commands.status, "list the versions of a model and their states")
    status.add_argument("--json", action="store_true", help="one JSON object")

    metadata = add("metadata", commands.metadata, "list a model's signatures")
    metadata.add_argument("--json", action="store_true", help="one JSON object")
    _add_model(metadata)

    wait = add("wait", commands.wait, "wait until a model is served")
    wait.set_defaults(timeout=60.0)
    wait.add_argument("--model-version", type=int, metavar="N", help="wait for this version; for any without")

    bench = add("bench", commands.bench, "put load on the server and measure it")
    bench.add_argument("--concurrency", type=positive(int), default=16, help="calls under way at once (%(default)s)")
    bench.add_argument("--batch-size", type=positive(int), default=1, help="images in each call (%(default)s)")
    bench.add_argument("--duration", type=positive(float), default=10.0, help="seconds to measure (%(default)s)")
    bench.add_argument("--warmup", type=float, default=1.0, help="seconds of load before that (%(default)s)")
    bench.add_argument("--images", metavar="ARRAY", help=".npy file to take images from; noise without")
    bench.add_argument("--json", action="store_true", help="one JSON object")
    _add_model(bench)

    web = add("web", commands.web, "draw in the browser")
    web.set_defaults(timeout=5.0)
    web.add_argument("--host", default="127.0.0.1", help="listen here; 0.0.0.0 for other machines too (%(default)s)")
    web.add_argument("--port", type=int, default=8600, help="(%(default)s)")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model-version", type=int, metavar="N", help="version of the model; the newest without")
    which.add_argument("--label", help="version of the model, by its label")
