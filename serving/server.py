"""A server's life: load, listen, serve, drain, stop.

Everything runs on one event loop; TensorFlow computes on threads. As in TensorFlow Serving nothing listens
before the models that are there are loaded. SIGTERM or SIGINT begins the drain: health turns NOT_SERVING, new work is
refused, what was accepted is finished; a second SIGINT stops at once.
"""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import NoReturn

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401, reflection describes them
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .batching.parameters import BatchingParameters
from .config import files
from .config.model_file import ModelConfigFile
from .config.models import PLATFORM, model_names
from .errors import ServingError, failed_precondition, invalid_argument
from .flags import ServerConfig
from .grpc import api as grpc_api
from .grpc.api import GrpcApi
from .grpc.health import Health
from .grpc.profiler import Profiler
from .lifecycle.loader import LoadOptions
from .lifecycle.manager import Manager, ManagerOptions
from .load_shedding import Drain, KnownFullQueues
from .model.model import ServerParts
from .model_service import ModelService
from .monitoring.metrics import Metrics
from .monitoring.request_log import RequestLog
from .names import MODEL_SERVICE, PREDICTION_SERVICE
from .offload import Offload
from .prediction_service import PredictionService
from .rest import api as rest_api

logger = logging.getLogger(__name__)

OK, FAILED, KILLED = 0, 255, 130
FLUSH_S = 0.2  # for the last responses to leave
LOG_FLUSH_S = 2.0  # for the request log to be written to its end
LEAST_PAUSE_S = 0.1  # pause before a due retry: its files may still be changing


def run(config: ServerConfig, models_folder: Path | None = None) -> int:
    """Serve until a signal comes, and end the process; returns the exit code if the start fails.

    Args:
        config: the flags.
        models_folder: serve every model in it, rather than what `config` names.
    """
    try:
        _collect_garbage_rarely()
        with asyncio.Runner() as runner:
            code = runner.run(_serve(config, models_folder))
            _end_process(code)
    except ServingError as error:
        name = error.code.name
        print(f"Failed to start server. Error: {name}: {error}", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"Failed to start server. Error: UNKNOWN: {error}", file=sys.stderr, flush=True)
    return FAILED


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


async def _serve(config: ServerConfig, models_folder: Path | None) -> int:
    check_combinations(config, names_models=models_folder is None)
    config = _with_ports_apart(config)
    file = ModelConfigFile(config.model_config_file) if config.model_config_file else None
    models = _configured_models(config, file, models_folder)
    batching = _batching(config)
    tls = files.read_tls(config.ssl_config_file) if config.ssl_config_file else None
    monitoring = files.read_monitoring(config.monitoring_config_file) if config.monitoring_config_file else None
    metrics, shedding, drain, offload = Metrics(), KnownFullQueues(), Drain(), Offload()
    manager = _make_manager(config, batching, metrics, shedding)
    stop = _on_signals()
    request_log = _request_log(config, metrics)
    prediction_service = PredictionService(
        manager,
        drain=drain,
        events=metrics,
        request_log=request_log,
        as_content=config.enable_serialization_as_tensor_content,
        check_method=config.enable_signature_method_name_check,
        offload=offload,
    )
    model_service = ModelService(manager, drain=drain, metrics=metrics)
    starting = asyncio.create_task(_load_first(model_service, manager, models))
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        return OK
    starting.result()
    health = Health(manager, model_service, drain)
    api = GrpcApi(
        prediction_service,
        model_service,
        shedding=shedding,
        events=metrics,
        max_pending_bytes=config.grpc_max_pending_mb * 10**6,
        offload=offload,
    )
    server = _make_grpc_server(config, api, health, tls)
    backend = rest_api.Backend(
        predictions=prediction_service, models=model_service, drain=drain, metrics=metrics, offload=offload
    )
    rest = await rest_api.start(config, backend, monitoring) if config.rest_api_port else None
    await server.start()
    _announce(config)
    background = [asyncio.create_task(work) for work in _background_work(config, file, model_service, manager, health)]
    await stop
    logger.info("draining for up to %g s", config.drain_seconds)
    drain.begin()
    await health.update()
    for task in background:
        task.cancel()
    async with asyncio.TaskGroup() as group:
        group.create_task(_drain_grpc(server, api, config.drain_seconds))
        if rest is not None:
            group.create_task(rest.stop(config.drain_seconds))
    if request_log is not None:
        request_log.close(timeout_s=LOG_FLUSH_S)
    logger.info("stopped")
    return OK


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


def _background_work(
    config: ServerConfig, file: ModelConfigFile | None, models: ModelService, manager: Manager, health: Health
) -> Iterator[Coroutine[None, None, None]]:
    yield health.watch()
    yield manager.poll_forever(max(0, config.file_system_poll_wait_seconds))
    if file is not None and config.model_config_file_poll_wait_seconds > 0:
        apply = functools.partial(models.apply_config, can_wait=True)
        yield file.poll_forever(apply, config.model_config_file_poll_wait_seconds)


async def _drain_grpc(server: grpc.aio.Server, api: GrpcApi, drain_s: float) -> None:
    # Not server.stop(drain_s): it ends what is new as CANCELLED, which no caller tries again
    # (https://github.com/grpc/grpc/issues/41785). Drain ends it as UNAVAILABLE, which callers do try again.
    await api.until_idle(drain_s)
    await server.stop(FLUSH_S)


def check_combinations(config: ServerConfig, *, names_models: bool) -> None:
    """Refuse flags that do not go together.

    Args:
        config: the flags.
        names_models: whether they must say which models to serve.

    Raises: ServingError INVALID_ARGUMENT with TensorFlow Serving's text.
    """
    if not config.port and not config.grpc_socket_path:
        raise invalid_argument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        )
    if config.use_alts_credentials and config.ssl_config_file:
        raise invalid_argument("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if names_models and not config.model_base_path and not config.model_config_file:
        raise invalid_argument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if config.batching_parameters_file and not config.enable_batching:
        raise invalid_argument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    if config.use_alts_credentials:
        raise invalid_argument("ALTS exists on Google's own network only; use --ssl_config_file")


def _with_ports_apart(config: ServerConfig) -> ServerConfig:
    if config.rest_api_port and config.rest_api_port == config.port:
        logger.error("--rest_api_port=%d is the port of gRPC; the REST API is not started", config.rest_api_port)
        return dataclasses.replace(config, rest_api_port=0)
    return config


def _configured_models(
    config: ServerConfig, file: ModelConfigFile | None, models_folder: Path | None
) -> ModelServerConfig:
    if file is not None:
        if file.models.WhichOneof("config") == "custom_model_config":
            raise failed_precondition("custom_model_config is not supported; use a model_config_list")
        return file.models
    if models_folder is not None:
        return _models_in(models_folder)
    path = config.model_base_path
    if "://" not in path and not path.startswith("/"):
        path = str(Path(path).absolute())
    models = ModelServerConfig()
    models.model_config_list.config.add(name=config.model_name, base_path=path, model_platform=PLATFORM)
    return models


def _models_in(folder: Path) -> ModelServerConfig:
    models = ModelServerConfig()
    for name in model_names(folder):
        models.model_config_list.config.add(name=name, base_path=str(folder / name), model_platform=PLATFORM)
    return models


async def _load_first(model_service: ModelService, manager: Manager, models: ModelServerConfig) -> None:
    """Load what is there; a model of which nothing loads ends the start, one that is not there yet does not."""
    while True:
        try:
            await model_service.apply_config(models, can_wait=True)
            return
        except ServingError as error:
            failures = model_service.failures()
            if not failures:
                raise
            retry_at = manager.next_retry()
            if retry_at is None:
                text = f"{len(failures)} servable(s) did not become available: {{{', '.join(failures)}, }}"
                raise ServingError(grpc.StatusCode.UNKNOWN, text) from error
            pause_s = max(LEAST_PAUSE_S, retry_at - time.monotonic())
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
    config: ServerConfig, api: GrpcApi, health: Health, tls: files.TlsConfig | None
) -> grpc.aio.Server:
    server = grpc_api.make_server(
        arguments=config.grpc_channel_arguments, max_concurrent_rpcs=config.grpc_max_concurrent_rpcs
    )
    api.add_to(server)
    services = [PREDICTION_SERVICE, MODEL_SERVICE, reflection.SERVICE_NAME]
    if config.enable_grpc_healthcheck_service:
        health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
        services.append("grpc.health.v1.Health")
    if config.enable_profiler:
        Profiler().add_to(server)
    reflection.enable_server_reflection(services, server)
    if config.port:
        grpc_api.add_port(server, f"0.0.0.0:{config.port}", tls)
    if config.grpc_socket_path:
        grpc_api.add_port(server, f"unix:{config.grpc_socket_path}", None)
    return server


def _announce(config: ServerConfig) -> None:
    """The lines that scripts wait for, in TensorFlow Serving's words."""
    if config.port:
        logger.info("Running gRPC ModelServer at 0.0.0.0:%d ...", config.port)
    if config.grpc_socket_path:
        logger.info("Running gRPC ModelServer at UNIX socket %s ...", config.grpc_socket_path)
    if config.rest_api_port:
        logger.info("Exporting HTTP/REST API at:localhost:%d ...", config.rest_api_port)


def _on_signals() -> "asyncio.Future[None]":
    """A future that is done at the first SIGTERM or SIGINT; a second SIGINT ends the process."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal(number: int) -> None:
        if stop.done() and number == signal.SIGINT:
            os._exit(KILLED)
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _num_cpus() -> int:
    with contextlib.suppress(AttributeError):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
