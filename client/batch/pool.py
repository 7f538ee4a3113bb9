"""Many readers at a time, as actors of Ray Data: on this machine, or on a Ray cluster.

Ray puts the readers where there is room, gives each the next part when it has done one, and starts another in place of
one that dies. It hands out no more parts than the readers can hold, so that a bucket may be larger than any memory.
"""

import functools
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray._private import services

from .reader import JobStopped, Part, PartReader, ReaderConfig

POLL_S = 0.2  # between two looks for a part, so that Ctrl-C and SIGTERM are heard
SILENCE_S = 60.0  # without a part, after which it is said what is waited for
CONNECT_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0  # for a node on this machine to come up, at each of its tries
STARTS = 3
DEATHS = 3  # of readers over one part, by a picture that ends the process or takes all memory
# Parts that were read, and None at the end, or what ended it before.
_Parts = queue.Queue[Part | BaseException | None]
COLUMNS = ("number", "parquet", "csv", "pages", "unreadable", "duration_s", "stopped")


class ClusterUnreachable(RuntimeError):
    """No Ray cluster answers at the address; the message says what to try."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray while the context lasts: started on this machine (`local`), or a cluster that is joined.

    Raises: ClusterUnreachable.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["include_dashboard"] = False
    if address != "local" and "." not in (__package__ or "").removesuffix(".batch"):
        # A checkout's code travels to the nodes; installed, it is there as it is here.
        options["runtime_env"] = {"py_modules": [str(Path(__file__).parents[1])], "excludes": ["**/__pycache__"]}
    try:
        _check_listening(address)
        with _own_signal_handlers(), patience():
            _init(address, options, tries=STARTS if address == "local" else 1)
    except (OSError, ray.exceptions.AuthenticationError) as error:
        raise ClusterUnreachable(
            f"no Ray cluster answers at {address} ({last_line(error)}); correct --address, or leave it out to use this "
            "machine alone; a cluster with token authentication wants RAY_AUTH_MODE=token and its token in "
            "RAY_AUTH_TOKEN"
        ) from error
    except Exception as error:
        # Beside these two Ray raises bare exceptions, as when its processes do not answer in time.
        if type(error) is not Exception and not isinstance(error, RuntimeError | ValueError):
            raise
        verb = "start" if address == "local" else "join the cluster"
        raise ClusterUnreachable(f"Ray could not {verb}: {last_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _init(address: str, options: dict[str, Any], *, tries: int) -> None:
    """Join Ray, or start it: on a busy machine its raylet ends when its agents are not there within 15 s.

    https://github.com/ray-project/ray/issues/65983
    """
    try:
        ray.init(address=address, **options)
    except Exception as error:
        if type(error) is not Exception or tries == 1:  # as Ray says that a node of its own did not come up
            raise
        ray.shutdown()
        _init(address, options, tries=tries - 1)


def _check_listening(address: str) -> None:
    """Raise OSError at once if nothing listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep SIGTERM as it was: `ray.init` has it end the process with status 15, without a hint how to go on.

    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/worker.py#L1679
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def patience() -> Iterator[None]:
    """Let a node that starts here take START_TIMEOUT_S: Ray gives up after 30 s, which a busy machine may need.

    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/node.py#L428
    """
    get_node = services.get_node

    def ask_again(gcs_address: str, node_id: str) -> Any:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return get_node(gcs_address, node_id)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    services.get_node = ask_again
    try:
        yield
    finally:
        services.get_node = get_node


def read_on_ray(
    config: ReaderConfig,
    pictures: pa.Table,
    numbers: Sequence[int],
    *,
    address: str,
    readers: int | None,
    tell: Callable[[str], None],
) -> Generator[Part, None, None]:
    """Read parts by many readers; yields them as they are done.

    Args:
        config: what the readers are told.
        pictures: the list of which `numbers` are parts.
        address: of the Ray cluster; `local` starts one on this machine.
        readers: how many; one for each CPU of the cluster if None.
        tell: takes lines for the display.

    Raises: ClusterUnreachable; JobStopped if readers die again and again.
    """
    tell("starting Ray" if address == "local" else f"joining the Ray cluster at {address}")
    with connected(address):
        parts: _Parts = queue.Queue(maxsize=8)  # they are written one by one, so there is no need of more
        what = (parts, config, pictures, numbers, readers)
        threading.Thread(target=_fill, args=what, daemon=True).start()
        yield from _until_none(parts, functools.partial(tell, _waiting(config)))


def _until_none(parts: _Parts, tell_silence: Callable[[], None]) -> Iterator[Part]:
    told = time.monotonic()
    while True:
        try:
            part = parts.get(timeout=POLL_S)
        except queue.Empty:
            if time.monotonic() - told > SILENCE_S:
                tell_silence()
                told = time.monotonic()
            continue
        told = time.monotonic()
        if part is None:
            return
        if isinstance(part, BaseException):
            remedy = "if readers were ended for want of memory, give fewer --readers"
            raise JobStopped(f"Ray failed: {last_line(part)}; {remedy}") from part
        yield part


def _waiting(config: ReaderConfig) -> str:
    server = config.connection.get("address")
    return (
        f"no part was read for {SILENCE_S:g} s: the readers wait for room on the cluster or for {server}, which they "
        f"give {config.patience_s:g} s"
    )


def _fill(
    parts: _Parts,
    config: ReaderConfig,
    pictures: pa.Table,
    numbers: Sequence[int],
    readers: int | None,
) -> None:
    """Put the parts that Ray Data yields into the queue, then None; or what went wrong."""
    try:
        for row in _dataset(config, pictures, numbers, readers).iter_batches(batch_size=1, batch_format="pyarrow"):
            for fields in row.to_pylist():
                parts.put(Part(**fields))
        parts.put(None)
    except BaseException as error:  # handed over to the thread that asked
        parts.put(error)


def _dataset(config: ReaderConfig, pictures: pa.Table, numbers: Sequence[int], readers: int | None) -> ray.data.Dataset:
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # what is to be seen, the command line shows
    most = min(len(numbers), readers or max(1, int(ray.cluster_resources().get("CPU", 1))))
    each = [{"number": number} for number in numbers]
    return ray.data.from_items(each, override_num_blocks=len(each)).map_batches(
        RemoteReader,
        fn_constructor_args=(config, ray.put(pictures)),  # one copy of the list serves all readers of a node
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
        num_cpus=1,
        max_task_retries=DEATHS,
    )


class RemoteReader:
    """A `PartReader` as Ray Data calls it, in an actor with one CPU."""

    def __init__(self, config: ReaderConfig, pictures: ray.ObjectRef) -> None:
        import cv2  # here, on a node: the driver may have none

        cv2.setNumThreads(1)  # the CPU that Ray counts
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors are told once, by the driver
        self._reader = PartReader(config, ray.get(pictures))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """A row for each part: its files, and what is in them."""
        read = [self._reader.read(number) for number in batch.column("number").to_pylist()]
        return pa.table({name: [getattr(part, name) for part in read] for name in COLUMNS})


def last_line(error: BaseException) -> str:
    """The last line of an error, or of what caused it in another process, with its class."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"[:400]
