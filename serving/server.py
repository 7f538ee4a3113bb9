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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401, reflection describes them
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .access.door import Door
from .access.setup import make_door
from .batching.parameters import BatchingParameters
from .config import files
from .config.files import MonitoringConfig
from .config.model_file import ModelConfigFile
from .config.startup import check_combinations, configured_models, warn_of_plaintext, with_ports_apart
from .errors import ServingError
from .flags import ServerConfig
from .grpc import api as grpc_api
from .grpc import reflection
from .grpc.api import GrpcApi
from .grpc.door import DoorInterceptor
from .grpc.health import SERVICE as HEALTH_SERVICE
from .grpc.health import Health
from .grpc.profiler import Profiler
from .grpc.v2 import V2Rpcs
from .lifecycle.loader import LoadOptions
from .lifecycle.manager import Manager, ManagerOptions
from .load_shedding import Drain, KnownFullQueues
from .model.model import ServerParts
from .model_service import ModelService
from .monitoring.logs import quieten_accept_errors
from .monitoring.metrics import Metrics
from .monitoring.request_log import RequestLog
from .monitoring.tracing import OFF, Tracing
from .names import MODEL_SERVICE, PREDICTION_SERVICE, V2_SERVICE
from .offload import Offload
from .prediction_service import PredictionService
from .rest import api as rest_api
from .rest.door import Guard, RestDoor
from .rest.tls import ssl_context
from .v2.repository import Repository
from .v2.service import V2Service

logger = logging.getLogger(__name__)

OK, FAILED, KILLED = 0, 255, 130
FLUSH_S = 0.2  # for the last responses to leave, and for callers to be told UNAVAILABLE
LOG_FLUSH_S = 2.0  # for the request log to be written to its end, and for traces to be sent
LEAST_PAUSE_S = 0.1  # pause before a due retry: its files may still be changing


def run(config: ServerConfig, models_folder: Path | None = None, tracing: Tracing = OFF) -> int:
    """Serve until a signal comes, and end the process; returns the exit code if the start fails.

    Args:
        config: the flags.
        models_folder: serve every model in it, rather than what `config` names.
        tracing: makes traces of requests.
    """
    try:
        _collect_garbage_rarely()
        with asyncio.Runner() as runner:
            runner.run(_serve(config, models_folder, tracing))
    except (ServingError, OSError) as error:
        _tell(error)
    return FAILED


def _tell(error: ServingError | OSError) -> None:
    code = error.code.name if isinstance(error, ServingError) else "UNKNOWN"
    print(f"Failed to start server. Error: {code}: {error}", file=sys.stderr, flush=True)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """What a server is made of, put together and not open yet."""

    config: ServerConfig
    file: ModelConfigFile | None  # that the models come from
    models: ModelServerConfig
    drain: Drain
    manager: Manager
    model_service: ModelService
    health: Health
    api: GrpcApi
    server: grpc.aio.Server
    backend: rest_api.Backend
    monitoring: MonitoringConfig | None
    door: Door | None
    request_log: RequestLog | None
    tracing: Tracing


async def _serve(config: ServerConfig, models_folder: Path | None, tracing: Tracing) -> NoReturn:
    stop = _on_signals()
    parts = _make_parts(config, models_folder, tracing)
    asyncio.get_running_loop().set_exception_handler(quieten_accept_errors())
    rest = await _open(parts)
    starting = asyncio.create_task(_load_first(parts.model_service, parts.manager, parts.models))
    background = [asyncio.create_task(work) for work in _background(parts)]
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not stop.done():
        _end_if_failed(starting)
        parts.drain.has_loaded()
        await parts.health.update()
        _announce(parts.config)
        if parts.file is not None and parts.config.model_config_file_poll_wait_seconds > 0:
            apply = functools.partial(parts.model_service.apply_config, can_wait=True)
            poll = parts.file.poll_forever(apply, parts.config.model_config_file_poll_wait_seconds)
            background.append(asyncio.create_task(poll))
        await stop
    await _shut(parts, rest, [starting, *background])
    logger.info("stopped")
    # Here, where the gRPC server is still referred to: one that is stopped or let go ends what is new as CANCELLED,
    # which no caller tries again (https://github.com/grpc/grpc/issues/41785). A connection that closes is UNAVAILABLE.
    _end_process(OK)


def _make_parts(config: ServerConfig, models_folder: Path | None, tracing: Tracing) -> _Parts:
    check_combinations(config, names_models=models_folder is None)
    config = with_ports_apart(config)
    file = ModelConfigFile(config.model_config_file) if config.model_config_file else None
    models = configured_models(config, file, models_folder)
    batching = _batching(config)
    tls = files.read_tls(config.ssl_config_file) if config.ssl_config_file else None
    warn_of_plaintext(config, tls)
    monitoring = files.read_monitoring(config.monitoring_config_file) if config.monitoring_config_file else None
    metrics, shedding, drain, offload = Metrics(), KnownFullQueues(), Drain(is_loading=True), Offload()
    door = make_door(config, metrics)
    manager = _make_manager(config, batching, metrics, shedding)
    request_log = _request_log(config, metrics)
    predictions = PredictionService(
        manager,
        drain=drain,
        events=metrics,
        request_log=request_log,
        as_content=config.enable_serialization_as_tensor_content,
        check_method=config.enable_signature_method_name_check,
        offload=offload,
    )
    model_service = ModelService(manager, drain=drain, metrics=metrics)
    health = Health(manager, model_service, drain)
    repository = Repository(
        manager, models=model_service, drain=drain, may_change=config.allow_model_control, folder=models_folder
    )
    v2 = V2Service(predictions, repository=repository, manager=manager, models=model_service, drain=drain)
    api = GrpcApi(
        predictions,
        model_service,
        shedding=shedding,
        events=metrics,
        max_pending_bytes=config.grpc_max_pending_mb * 10**6,
        offload=offload,
        v2=V2Rpcs(v2, offload) if config.enable_v2 else None,
        tracing=tracing,
    )
    backend = rest_api.Backend(
        predictions=predictions,
        models=model_service,
        drain=drain,
        metrics=metrics,
        offload=offload,
        v2=v2 if config.enable_v2 else None,
        tracing=tracing,
    )
    return _Parts(
        config=config,
        file=file,
        models=models,
        drain=drain,
        manager=manager,
        model_service=model_service,
        health=health,
        api=api,
        server=_make_grpc_server(config, api, health, tls, door),
        backend=backend,
        monitoring=monitoring,
        door=door,
        request_log=request_log,
        tracing=tracing,
    )


async def _open(parts: _Parts) -> rest_api.RestServer | None:
    """Listen on all ports; raises OSError or ServingError if one is taken."""
    config, rest = parts.config, None
    if config.rest_api_port:
        guard = _guard(config, parts.door, parts.monitoring)
        rest = await rest_api.start(config, parts.backend, parts.monitoring, guard)
    await parts.health.update()
    await parts.server.start()
    return rest


def _background(parts: _Parts) -> Iterator[Coroutine[Any, Any, None]]:
    yield parts.health.watch()
    yield parts.manager.poll_forever(max(0, parts.config.file_system_poll_wait_seconds))
    if parts.door is not None:
        yield parts.door.watch()


async def _shut(parts: _Parts, rest: rest_api.RestServer | None, background: Sequence["asyncio.Task[None]"]) -> None:
    """Finish what was accepted, take nothing new, and let go of files."""
    config = parts.config
    logger.info("draining for up to %g s", config.drain_seconds)
    parts.drain.begin()
    await parts.health.update()
    for task in background:
        task.cancel()
    async with asyncio.TaskGroup() as group:
        group.create_task(_drain_grpc(parts.api, config.drain_seconds))
        if rest is not None:
            group.create_task(rest.stop(config.drain_seconds))
    if parts.request_log is not None:
        parts.request_log.close(timeout_s=LOG_FLUSH_S)
    if parts.door is not None:
        parts.door.close(timeout_s=LOG_FLUSH_S)
    parts.tracing.close(timeout_s=LOG_FLUSH_S)
    if config.grpc_socket_path:
        Path(config.grpc_socket_path).unlink(missing_ok=True)


def _make_manager(
    config: ServerConfig, batching: BatchingParameters | None, metrics: Metrics, shedding: KnownFullQueues
) -> Manager:
    options = ManagerOptions(
        load=LoadOptions.of(config, batching),
        max_retries=config.max_num_load_retries,
        retry_interval_s=config.load_retry_interval_micros / 1e6,
        num_load_threads=config.num_load_threads,
        labels_for_unavailable=config.allow_version_labels_for_unavailable_models,
    )
    num_threads = batching.num_batch_threads if batching and batching.num_batch_threads else _num_cpus()
    return Manager(options, parts=ServerParts(num_threads=num_threads, events=metrics, shedding=shedding))


def _end_if_failed(starting: "asyncio.Task[None]") -> None:
    """End the process if the first models did not load: what listens already is not taken down first."""
    try:
        starting.result()
    except ServingError as error:
        _tell(error)
        _end_process(FAILED)


async def _drain_grpc(api: GrpcApi, drain_s: float) -> None:
    await api.until_idle(drain_s)
    await asyncio.sleep(FLUSH_S)


async def _load_first(model_service: ModelService, manager: Manager, models: ModelServerConfig) -> None:
    """Load what is there; a model of which nothing loads ends the start, one that is not there yet does not."""
    while True:
        try:
            await model_service.apply_config(models, can_wait=True)
            return
        except ServingError as error:
            failures, retry_at = model_service.failures(), manager.next_retry()
            if not failures and error.code is not grpc.StatusCode.UNKNOWN:
                raise
            if failures and retry_at is None:
                text = f"{len(failures)} servable(s) did not become available: {{{', '.join(failures)}, }}"
                raise ServingError(grpc.StatusCode.UNKNOWN, text) from error
            pause_s = max(LEAST_PAUSE_S, retry_at - time.monotonic() if retry_at is not None else 0)
            logger.warning("not serving yet: what did not load is tried again in %.1f s", pause_s)
            await asyncio.sleep(pause_s)


def _batching(config: ServerConfig) -> BatchingParameters | None:
    if not config.enable_batching:
        return None
    if config.batching_parameters_file:
        return files.read_batching(config.batching_parameters_file)
    return BatchingParameters()


def _request_log(config: ServerConfig, metrics: Metrics) -> RequestLog | None:
    if not config.request_log_file:
        return None
    return RequestLog(
        config.request_log_file,
        sampling_rate=config.request_log_sampling_rate,
        max_bytes=config.request_log_max_mb * 10**6,
        max_files=config.request_log_max_files,
        events=metrics,
    )


def _make_grpc_server(
    config: ServerConfig, api: GrpcApi, health: Health, tls: files.TlsConfig | None, door: Door | None
) -> grpc.aio.Server:
    server = grpc_api.make_server(
        arguments=config.grpc_channel_arguments,
        max_concurrent_rpcs=config.grpc_max_concurrent_rpcs,
        max_message_bytes=config.grpc_max_pending_mb << 20,
        interceptors=[DoorInterceptor(door)] if door is not None else (),
    )
    api.add_to(server)
    services = [PREDICTION_SERVICE, MODEL_SERVICE]
    if config.enable_v2:
        services.append(V2_SERVICE)
    if config.enable_grpc_healthcheck_service:
        health.add_to(server)
        services.append(HEALTH_SERVICE)
    if config.enable_profiler:
        Profiler().add_to(server)
    reflection.add_to(server, services)
    if config.port:
        grpc_api.add_port(server, f"0.0.0.0:{config.port}", tls)
    if config.grpc_socket_path:
        grpc_api.add_port(server, f"unix:{config.grpc_socket_path}", tls)
    return server


def _guard(config: ServerConfig, door: Door | None, monitoring: files.MonitoringConfig | None) -> Guard:
    """What stands before the REST API.

    Raises: ServingError if its certificates are not usable.
    """
    tls = ssl_context(files.read_tls(config.rest_ssl_config_file)) if config.rest_ssl_config_file else None
    if door is None:
        return Guard(tls=tls)
    is_open = monitoring is not None and monitoring.enable and not config.metrics_need_key
    open_path = monitoring.path if monitoring is not None and is_open else None
    return Guard(RestDoor(door, open_path=open_path, cors=config.rest_api_enable_cors_support), tls)


def _announce(config: ServerConfig) -> None:
    """The lines that scripts wait for, in TensorFlow Serving's words."""
    if config.port:
        logger.info("Running gRPC ModelServer at 0.0.0.0:%d ...", config.port)
    if config.grpc_socket_path:
        logger.info("Running gRPC ModelServer at UNIX socket %s ...", config.grpc_socket_path)
    if config.rest_api_port:
        logger.info("Exporting HTTP/REST API at:localhost:%d ...", config.rest_api_port)


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


def _num_cpus() -> int:
    with contextlib.suppress(AttributeError):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
