"""A server's life: listen, load, serve, drain, stop.

Everything runs on one event loop; TensorFlow computes on threads. The ports are opened first, so that one that is taken
ends the start at once; until the first models are loaded health is NOT_SERVING, and what is not there yet UNAVAILABLE.
SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 begin the drain: health turns NOT_SERVING, new work is refused, what was
accepted is finished; a second SIGINT stops at once.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import grpc
import tensorflow as tf

from .errors import ServingError
from .flags import ServerConfig
from .grpc import api as grpc_api
from .grpc.api import GrpcApi
from .monitoring.logs import quieten_accept_errors
from .monitoring.tracing import OFF, Tracing
from .parts import Parts, guard, make_parts
from .processes.member import Member
from .processes.ports import announce
from .rest import api as rest_api

logger = logging.getLogger(__name__)

OK, FAILED, KILLED = 0, 255, 130
FLUSH_S = 0.2  # for the last responses to leave, and for callers to be told UNAVAILABLE
LOG_FLUSH_S = 2.0  # for the request log to be written to its end, and for traces to be sent
LEAST_PAUSE_S = 0.1  # pause before a due retry: its files may still be changing


def run(
    config: ServerConfig, models_folder: Path | None = None, member: Member | None = None, tracing: Tracing = OFF
) -> int:
    """Serve until a signal comes, and end the process; returns the exit code if the start fails.

    Args:
        config: the flags.
        models_folder: serve every model in it, rather than what `config` names.
        member: this process among several; None: it is the only one.
        tracing: makes traces of requests.
    """
    _collect_garbage_rarely()
    with contextlib.suppress(ServingError, OSError), asyncio.Runner() as runner:  # which has been told
        runner.run(_serve(config, models_folder, member, tracing))
    return FAILED


async def _tell(error: ServingError | OSError, member: Member | None) -> None:
    code = error.code.name if isinstance(error, ServingError) else "UNKNOWN"
    text = f"Failed to start server. Error: {code}: {error}"
    if member is not None:
        await member.fail(text)
    else:
        print(text, file=sys.stderr, flush=True)


def num_gpus() -> int:
    """How many GPUs TensorFlow sees."""
    return len(tf.config.list_physical_devices("GPU"))


def _collect_garbage_rarely() -> None:
    # A request with many lists would have Python look through all that TensorFlow has imported again and again:
    # measured with 300,000 empty lists, 130 ms to parse them in place of 30. Models are loaded later, and freed.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def _end_process(code: int) -> NoReturn:
    # Python would wait for its threads, and one that loads a model or looks at a base path may hang there.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


async def _serve(config: ServerConfig, models_folder: Path | None, member: Member | None, tracing: Tracing) -> NoReturn:
    stop = _on_signals()
    asyncio.get_running_loop().set_exception_handler(quieten_accept_errors())
    try:
        if member is not None:
            await member.connect()
        parts = make_parts(config, models_folder, member, tracing)
        ports = Ports(parts)
        if member is None or not member.takes_a_place:
            await ports.open()
    except (ServingError, OSError) as error:
        await _tell(error, member)
        raise
    starting = asyncio.create_task(_start_up(parts, ports))
    background = [asyncio.create_task(work) for work in _background(parts)]
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not stop.done():
        await _end_if_failed(starting, member)
        if parts.file is not None and parts.config.model_config_file_poll_wait_seconds > 0:
            apply = functools.partial(parts.model_service.apply_config, can_wait=True)
            poll = parts.file.poll_forever(apply, parts.config.model_config_file_poll_wait_seconds)
            background.append(asyncio.create_task(poll))
        await stop
    await _shut(parts, ports, [starting, *background])
    logger.info("stopped")
    # Here, where the gRPC server is still referred to: one that is stopped or let go ends what is new as CANCELLED,
    # which no caller tries again (https://github.com/grpc/grpc/issues/41785). A connection that closes is UNAVAILABLE.
    _end_process(OK)


class Ports:
    """What the server listens on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.rest: rest_api.RestServer | None = None

    async def open(self) -> None:
        """Listen on all ports; raises OSError or ServingError if one is taken."""
        parts, config = self._parts, self._parts.config
        if config.port:
            grpc_api.add_port(parts.server, f"0.0.0.0:{config.port}", parts.tls)
        if config.grpc_socket_path:
            grpc_api.add_port(parts.server, f"unix:{config.grpc_socket_path}", parts.tls)
        if config.rest_api_port:
            before = guard(config, parts.door, parts.monitoring)
            shares_port = parts.member is not None
            self.rest = await rest_api.start(config, parts.backend, parts.monitoring, before, shares_port=shares_port)
        await parts.health.update()
        await parts.server.start()


async def _start_up(parts: Parts, ports: Ports) -> None:
    """Load the first models, and open the ports where others have served until now.

    Raises: ServingError or OSError.
    """
    member = parts.member
    if member is None or not member.takes_a_place:
        await _load_first(parts)
    else:
        await _load_as_the_others(parts)
        await ports.open()
    if member is not None:
        await member.until_all_have_loaded()
    parts.drain.has_loaded()
    await parts.health.update()
    if member is None:
        announce(parts.config)


async def _load_as_the_others(parts: Parts) -> None:
    try:
        await parts.model_service.apply_config(parts.models, can_wait=True)
    except ServingError as error:  # of one model, say; the other ones are better served by one process more
        logger.error("not all is loaded that the other processes serve: %s", error)


def _background(parts: Parts) -> Iterator[Coroutine[Any, Any, None]]:
    yield parts.health.watch()
    yield parts.manager.poll_forever(max(0, parts.config.file_system_poll_wait_seconds))
    if parts.door is not None:
        yield parts.door.watch()
    if parts.member is not None:
        yield _tell_what_is_missing(parts, parts.member)


async def _tell_what_is_missing(parts: Parts, member: Member) -> None:
    """Tell the other processes which models have no available version here, for ever."""
    async with parts.manager.changed:
        while True:
            member.lacks(parts.model_service.missing_here())
            await parts.manager.changed.wait()


async def _shut(parts: Parts, ports: Ports, background: Sequence["asyncio.Task[None]"]) -> None:
    """Finish what was accepted, take nothing new, and let go of files."""
    config = parts.config
    logger.info("draining for up to %g s", config.drain_seconds)
    parts.drain.begin()
    await parts.health.update()
    for task in background:
        task.cancel()
    async with asyncio.TaskGroup() as group:
        group.create_task(_drain_grpc(parts.api, config.drain_seconds))
        if ports.rest is not None:
            group.create_task(ports.rest.stop(config.drain_seconds))
    if parts.request_log is not None:
        parts.request_log.close(timeout_s=LOG_FLUSH_S)
    if parts.door is not None:
        parts.door.close(timeout_s=LOG_FLUSH_S)
    parts.tracing.close(timeout_s=LOG_FLUSH_S)
    if config.grpc_socket_path:
        Path(config.grpc_socket_path).unlink(missing_ok=True)


async def _end_if_failed(starting: "asyncio.Task[None]", member: Member | None) -> None:
    """End the process if the first models did not load: what listens already is not taken down first."""
    try:
        starting.result()
    except (ServingError, OSError) as error:
        await _tell(error, member)
        _end_process(FAILED)


async def _drain_grpc(api: GrpcApi, drain_s: float) -> None:
    await api.until_idle(drain_s)
    await asyncio.sleep(FLUSH_S)


async def _load_first(parts: Parts) -> None:
    """Load what is there; a model of which nothing loads ends the start, one that is not there yet does not."""
    while True:
        try:
            await parts.model_service.apply_config(parts.models, can_wait=True)
            return
        except ServingError as error:
            failures, retry_at = parts.model_service.failures(), parts.manager.next_retry()
            if not failures and error.code is not grpc.StatusCode.UNKNOWN:
                raise
            if failures and retry_at is None:
                text = f"{len(failures)} servable(s) did not become available: {{{', '.join(failures)}, }}"
                raise ServingError(grpc.StatusCode.UNKNOWN, text) from error
            pause_s = max(LEAST_PAUSE_S, retry_at - time.monotonic() if retry_at is not None else 0)
            logger.warning("not serving yet: what did not load is tried again in %.1f s", pause_s)
            await asyncio.sleep(pause_s)


def _on_signals() -> "asyncio.Future[None]":
    """A future that is done at the first signal that asks to end; a second SIGINT ends the process."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal(number: int) -> None:
        if stop.done() and number == signal.SIGINT:
            os._exit(KILLED)
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it for SIGHUP
            loop.add_signal_handler(number, on_signal, number)
    return stop
