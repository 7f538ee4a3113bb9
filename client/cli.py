"""The command line: `inkling`, or `python -m client` in a checkout.

The result goes to standard output and nothing else does; errors are one line on standard error.
"""

import argparse
import inspect
import io
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from . import commands, trace_export
from .errors import DeadlineExceeded, InklingError, InvalidInput, ServerUnavailable
from .pictures import SUFFIXES
from .settings import DEFAULT_ADDRESS, TLS, Connection

MAX_KEY_LENGTH = 8192
FAILED, USAGE, UNAVAILABLE, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141

DESCRIPTION = """Read handwriting, by asking an Inkling or TensorFlow Serving server.

    inkling read page.jpg                  print what is written there
    inkling read scans/ --json --jobs 4    all pictures of a folder, four at a time, one JSON object a line
    inkling predict images.npy             class and probability of 28x28 images
    inkling status                         the versions of the model on the server
    inkling metadata                       its signatures
    inkling wait --timeout 120             wait until the model is served
    inkling bench --concurrency 32         put load on the server and measure it
    inkling web                            draw in the browser"""

EPILOG = """environment:
  INKLING_SERVER  the server's address, if --server is not given (localhost:8500 without both)
  INKLING_TOKEN   a bearer token to send with every call; only over TLS, or with --token-over-plaintext
  INKLING_API_KEY an API key, likewise; --api-key-file FILE reads one from a file. There is no flag for the key itself:
                  whoever may list processes could read it there

  OTEL_EXPORTER_OTLP_ENDPOINT, and the other variables of OpenTelemetry: traces of each call (extra `otel`)

exit status:
  0  done
  1  failed: the server refused, there is no such model, a picture cannot be read, calls of a bench failed
  2  wrong usage
  3  the server is unavailable, or did not respond in time
  130  interrupted        141  the reader of the output went away"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, as --help lists it."""
    # gRPC's core writes its own log lines to standard error; errors are reported here, once.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name goes out in the bytes that it came in
    parser = make_parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        parser.exit(USAGE)
    try:
        flags = parser.parse_args(arguments)
        with trace_export.exported(os.environ, _warn):
            status: int = flags.command(flags, connection_of(flags))
            sys.stdout.flush()
        return status
    except (ServerUnavailable, DeadlineExceeded) as error:
        return _fail(error, UNAVAILABLE)
    except InvalidInput as error:
        return _fail(error, USAGE if error.status is None and not error.address else FAILED)
    except (InklingError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError):
            # What is left in the buffer cannot be written at exit either:
            # https://docs.python.org/3/library/signal.html#note-on-sigpipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _warn(text: str) -> None:
    print("warning:", text, file=sys.stderr)


def _fail(error: Exception, status: int) -> int:
    if isinstance(error, OSError) and error.filename is not None:
        commands.complain(f"{error.filename}: {error.strerror}")
    else:
        commands.complain(error)
    return status


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    """Says what was probably meant by a command or a flag that there is not."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"(?:unrecognized arguments: |invalid choice: ')([^'\s=]+)", message)
        meant = self._meant(wrong[1]) if wrong else ""
        super().error(f"{message}; did you mean {meant}?" if meant else message)

    def _meant(self, wrong: str) -> str:
        import difflib  # here, as it is slow to import and only needed for a mistake

        if Path(wrong).suffix.lower() in SUFFIXES:
            return f"`{self.prog} read {wrong}`"
        near = difflib.get_close_matches(wrong, self.names(), n=1)
        return near[0] if near and near[0] != wrong else ""

    def names(self) -> Iterator[str]:
        """The flags, and the commands with theirs."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for name, parser in action.choices.items():
                    yield from (name, *parser.names())


class _Version(argparse.Action):
    """Prints the version; asked for when it is wanted, as looking it up takes time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        try:
            print(f"{parser.prog} {metadata.version('inkling-client')}")
        except metadata.PackageNotFoundError:
            print(f"{parser.prog} of a checkout, not installed")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it parses has the command's function as `command`."""
    parser = _Parser(
        prog="inkling", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, help="print the version")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, command: Callable[[argparse.Namespace, Connection], int], summary: str
    ) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            help=summary,
            description=inspect.getdoc(command),
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(command=command)
        add_connection(added)
        return added

    read = add("read", commands.read, "print what is written in pictures")
    read.add_argument("pictures", nargs="+", metavar="PICTURE", help="file, folder of files, or - for standard input")
    read.add_argument("--json", action="store_true", help="one JSON object a line: text, digits, boxes, probabilities")
    read.add_argument(
        "--draw", metavar="OUT", help="write the picture with boxes and digits; a folder where there are several"
    )
    read.add_argument(
        "--jobs", type=positive(int), default=1, metavar="N", help="pictures at a time, in processes (%(default)s)"
    )
    read.add_argument("--table", action="store_true", help="write the page's columns and cells as CSV")
    read.add_argument("-o", "--output", metavar="OUT", help="file for the table; standard output by default")
    add_model(read)

    predict = add("predict", commands.predict, "classify 28x28 images in a .npy file")
    predict.add_argument(
        "array",
        metavar="ARRAY",
        help=".npy file of uint8 [n, 28, 28] or [28, 28], in colour [n, height, width, 3]; - for stdin",
    )
    predict.add_argument("--json", action="store_true", help="one JSON object, with all probabilities")
    predict.add_argument("--as-is", action="store_true", help="send images that look inverted, or far too faint, too")
    add_model(predict)

    status = add("status", commands.status, "list the versions of a model and their states")
    status.add_argument("--json", action="store_true", help="one JSON object")

    metadata = add("metadata", commands.metadata, "list a model's signatures")
    metadata.add_argument("--json", action="store_true", help="one JSON object")
    add_model(metadata)

    wait = add("wait", commands.wait, "wait until a model is served")
    wait.set_defaults(timeout=60.0)
    wait.add_argument("--model-version", type=int, metavar="N", help="wait for this version; by default for any")

    bench = add("bench", commands.bench, "put load on the server and measure it")
    bench.add_argument("--concurrency", type=positive(int), default=16, help="calls under way at once (%(default)s)")
    bench.add_argument("--batch-size", type=positive(int), default=1, help="images in each call (%(default)s)")
    bench.add_argument("--duration", type=positive(float), default=10.0, help="seconds to measure (%(default)s)")
    bench.add_argument("--warmup", type=_not_negative, default=1.0, help="seconds of load before that (%(default)s)")
    bench.add_argument("--images", metavar="ARRAY", help=".npy file to take images from; noise by default")
    bench.add_argument("--json", action="store_true", help="one JSON object")
    add_model(bench)

    web = add("web", commands.web, "draw in the browser")
    web.set_defaults(timeout=5.0)
    web.add_argument("--host", default="127.0.0.1", help="listen here; 0.0.0.0 for other machines too (%(default)s)")
    web.add_argument("--port", type=_port, default=8600, help="(%(default)s)")
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model-version", type=int, metavar="N", help="version of the model; the newest by default")
    which.add_argument("--label", help="version of the model, by its label")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Where the server is and how to talk to it: the flags that `connection_of` reads, the same for every command."""
    group = parser.add_argument_group("the server")
    group.add_argument("--server", metavar="HOST:PORT", help="address; several with commas between them")
    group.add_argument("--model", default="mnist", help="name of the model (%(default)s)")
    group.add_argument(
        "--timeout", type=positive(float), default=10.0, metavar="SECONDS", help="deadline of each call (%(default)s)"
    )
    group.add_argument("--tls", action="store_true", help="use TLS; the other tls flags do so too")
    group.add_argument("--tls-ca", metavar="FILE", help="authorities to trust, as PEM")
    group.add_argument("--tls-cert", metavar="FILE", help="the client's own certificate, as PEM")
    group.add_argument("--tls-key", metavar="FILE", help="its key, as PEM")
    group.add_argument("--tls-name", metavar="NAME", help="name in the server's certificate, if not the address")
    group.add_argument("--token-over-plaintext", action="store_true", help="send token and key without TLS too")
    group.add_argument("--api-key-file", metavar="FILE", help="send the API key in this file; else INKLING_API_KEY")


def connection_of(flags: argparse.Namespace) -> Connection:
    """The server's address and the client's settings: flags first, then the environment."""
    tls = None
    if flags.tls or flags.tls_ca or flags.tls_cert or flags.tls_key or flags.tls_name:
        tls = TLS(ca=flags.tls_ca, certificate=flags.tls_cert, key=flags.tls_key, server_name=flags.tls_name or "")
    return {
        "address": flags.server or os.environ.get("INKLING_SERVER") or DEFAULT_ADDRESS,
        "model": flags.model,
        "timeout_s": flags.timeout,
        "tls": tls,
        "token": os.environ.get("INKLING_TOKEN") or None,
        "api_key": _api_key(flags.api_key_file),
        "token_over_plaintext": flags.token_over_plaintext,
    }


def _api_key(file: str | None) -> str | None:
    """The key in `file`, or else that of the environment.

    Raises: InvalidInput if the file cannot be read.
    """
    if file is None:
        return os.environ.get("INKLING_API_KEY") or None
    try:
        with open(file, encoding="ascii", errors="replace") as opened:
            return opened.read(MAX_KEY_LENGTH) or " "  # an empty one is refused, and not passed over
    except OSError as error:
        raise InvalidInput(f"--api-key-file {file} cannot be read: {error.strerror}") from error


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number, 0 or more, got {text}")
    return value


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text}")
    return int(text)


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A parser of a flag's number, which is above 0 and finite."""

    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse
