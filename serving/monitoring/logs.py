"""How the server writes its log: lines of text, or of JSON for machines, on standard error.

In JSON every line that a request caused carries the request's id, and every request gets a line of its own. The id is
the caller's (`x-request-id`, as HTTP header or gRPC metadata) or a new one. Those of a request that is traced have the
ids of its trace and span as well.
"""

import asyncio
import contextlib
import contextvars
import errno
import json
import logging
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc

from . import tracing

logger = logging.getLogger(__name__)
request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
requests = logging.getLogger("serving.requests")

TEXT_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
USABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")
COMPLAINT_INTERVAL_S = 60.0  # between two lines about the same trouble
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
RESERVED = frozenset(
    {"time", "severity", "logger", "message", "process", "request_id", "trace_id", "span_id", "exception"}
)


def configure(log_format: str, *, process: int | None = None) -> None:
    """Send the log to standard error.

    Args:
        log_format: `text` or `json`.
        process: the number of this one among several, which lines then have; None: they have none.
    """
    handler = logging.StreamHandler(sys.stderr)
    mark = "" if process is None else f"[{process}] "
    text = logging.Formatter(mark + TEXT_FORMAT, "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonFormatter(process) if log_format == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    requests.setLevel(logging.INFO if log_format == "json" else logging.WARNING)


@contextlib.contextmanager
def stderr_silenced() -> Iterator[None]:
    """Drop what is printed to standard error, by C++ too: TensorFlow's first lines are neither levelled nor JSON."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def quieten_accept_errors() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An event loop's exception handler that says once a minute that there are no file descriptors for connections.

    asyncio reports each connection that it cannot take, and tries a thousand times a second.
    """
    told_at = -COMPLAINT_INTERVAL_S

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told_at
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in OUT_OF_RESOURCES:
            loop.default_exception_handler(context)
        elif time.monotonic() - told_at >= COMPLAINT_INTERVAL_S:
            told_at = time.monotonic()
            logger.warning("REST connections wait to be taken: %s; raise the limit (ulimit -n)", error)

    return handle


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, severity, logger, message, and what the event has to say."""

    def __init__(self, process: int | None = None) -> None:
        super().__init__()
        self._process = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._process,
        }
        if identifier := request_id.get():
            entry["request_id"] = identifier
        entry.update(tracing.current().ids())
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        fields: dict[str, Any] = getattr(record, "fields", {})
        entry.update({name: value for name, value in fields.items() if name not in RESERVED})
        return json.dumps(entry, ensure_ascii=False, default=str)


def begin_request(identifier: str | None) -> str:
    """Log what follows in this task under the caller's `identifier`, or under a new one if it is unusable."""
    chosen = identifier if identifier and USABLE_ID.fullmatch(identifier) else uuid.uuid4().hex
    request_id.set(chosen)
    return chosen


def request_lines_enabled() -> bool:
    """Whether requests get lines of their own: callers need not prepare anything otherwise."""
    return requests.isEnabledFor(logging.INFO)


def request_finished(
    *, entrypoint: str, api: str, model_name: str, code: grpc.StatusCode, latency_s: float, error: str = ""
) -> None:
    """Write the line of one request, if requests get lines."""
    if not request_lines_enabled():
        return
    fields = {
        "entrypoint": entrypoint,
        "api": api,
        "model_name": model_name,
        "code": code.name,
        "latency_ms": round(latency_s * 1e3, 3),
    }
    if error:
        fields["error"] = error
    requests.info("%s %s %s", entrypoint, api, code.name, extra={"fields": fields})
