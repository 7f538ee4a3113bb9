"""What a server is made of, put together from its flags."""

from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401, reflection describes them
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .access.door import Door
from .access.setup import make_door
from .batching.parameters import BatchingParameters
from .config import files
from .config.files import MonitoringConfig
from .config.model_file import ModelConfigFile
from .config.startup import (
    check_combinations,
    configured_models,
    warn_of_keys_in_the_clear,
    warn_of_plaintext,
    with_ports_apart,
)
from .flags import ServerConfig
from .grpc import api as grpc_api
from .grpc import reflection
from .grpc.api import GrpcApi
from .grpc.door import DoorInterceptor
from .grpc.health import SERVICE as HEALTH_SERVICE
from .grpc.health import Health
from .grpc.v2 import V2Rpcs
from .lifecycle.loader import LoadOptions
from .lifecycle.manager import Manager, ManagerOptions
from .load_shedding import Drain, KnownFullQueues
from .model.model import ServerParts
from .model_service import ModelService
from .monitoring.metrics import Metrics
from .monitoring.request_log import RequestLog
from .monitoring.tracing import OFF, Tracing
from .names import MODEL_SERVICE, PREDICTION_SERVICE, V2_SERVICE
from .offload import Offload
from .prediction_service import PredictionService
from .processes.common_parts import CommonParts, OwnParts
from .processes.member import Member
from .processes.number import num_cpus
from .processes.share import of_batching, share_of
from .rest import api as rest_api
from .rest.door import Guard, RestDoor
from .rest.tls import ssl_context
from .v2.service import V2Service


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
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
    tls: files.TlsConfig | None  # of gRPC
    backend: rest_api.Backend
    monitoring: MonitoringConfig | None
    door: Door | None
    request_log: RequestLog | None
    member: Member | None  # None: the server has this process only
    tracing: Tracing


def make_parts(
    config: ServerConfig, models_folder: Path | None, member: Member | None = None, tracing: Tracing = OFF
) -> Parts:
    """A server that listens nowhere yet and has loaded nothing.

    Args:
        config: the flags.
        models_folder: serve every model in it, rather than what `config` names.
        member: this process among several; None: it is the only one.
        tracing: makes traces of requests.

    Raises: ServingError if flags do not go together or a file is not usable; OSError for the audit log's.
    """
    own = OwnParts() if member is None else CommonParts(member)
    check_combinations(config, names_models=models_folder is None)
    cpus = max(1, num_cpus() // own.number)
    config = share_of(with_ports_apart(config), own.number, num_cpus=cpus)
    file = ModelConfigFile(config.model_config_file) if config.model_config_file else None
    models = configured_models(config, file, models_folder)
    tls = files.read_tls(config.ssl_config_file) if config.ssl_config_file else None
    warn_of_plaintext(config, tls)
    warn_of_keys_in_the_clear(config)
    shared = _Shared(own.metrics(), Drain(is_loading=True), KnownFullQueues(), Offload(), tracing)
    door = make_door(config, shared.metrics, own.accounts())
    manager = _make_manager(config, of_batching(_batching(config), own.number), shared, cpus)
    request_log = _request_log(config, own, shared.metrics)
    predictions = _predictions(config, manager, request_log, shared)
    model_service = own.model_service(manager, drain=shared.drain, metrics=shared.metrics)
    health = Health(manager, model_service, shared.drain)
    repository = own.repository(
        manager,
        models=model_service,
        drain=shared.drain,
        may_change=config.allow_model_control,
        folder=models_folder,
    )
    v2 = V2Service(predictions, repository=repository, manager=manager, models=model_service, drain=shared.drain)
    api = _grpc_api(config, predictions, model_service, v2, shared, own.number)
    return Parts(
        config=config,
        file=file,
        models=repository.take_over() or models,
        drain=shared.drain,
        manager=manager,
        model_service=model_service,
        health=health,
        api=api,
        server=_make_grpc_server(config, api, health, door, own),
        tls=tls,
        backend=_backend(config, predictions, model_service, v2, shared, own.number),
        monitoring=files.read_monitoring(config.monitoring_config_file) if config.monitoring_config_file else None,
        door=door,
        request_log=request_log,
        member=member,
        tracing=tracing,
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What gRPC and REST have in common besides the models."""

    metrics: Metrics
    drain: Drain
    shedding: KnownFullQueues
    offload: Offload
    tracing: Tracing


def _predictions(
    config: ServerConfig, manager: Manager, request_log: RequestLog | None, shared: _Shared
) -> PredictionService:
    return PredictionService(
        manager,
        drain=shared.drain,
        events=shared.metrics,
        request_log=request_log,
        as_content=config.enable_serialization_as_tensor_content,
        check_method=config.enable_signature_method_name_check,
        offload=shared.offload,
    )


def _grpc_api(
    config: ServerConfig,
    predictions: PredictionService,
    models: ModelService,
    v2: V2Service,
    shared: _Shared,
    num_processes: int,
) -> GrpcApi:
    return GrpcApi(
        predictions,
        models,
        shedding=shared.shedding,
        events=shared.metrics,
        max_pending_bytes=config.grpc_max_pending_mb * 10**6 // num_processes,
        offload=shared.offload,
        v2=V2Rpcs(v2, shared.offload) if config.enable_v2 else None,
        tracing=shared.tracing,
    )


def _backend(
    config: ServerConfig,
    predictions: PredictionService,
    models: ModelService,
    v2: V2Service,
    shared: _Shared,
    num_processes: int,
) -> rest_api.Backend:
    return rest_api.Backend(
        predictions=predictions,
        models=models,
        drain=shared.drain,
        metrics=shared.metrics,
        offload=shared.offload,
        v2=v2 if config.enable_v2 else None,
        num_processes=num_processes,
        tracing=shared.tracing,
    )


def _make_manager(config: ServerConfig, batching: BatchingParameters | None, shared: _Shared, cpus: int) -> Manager:
    options = ManagerOptions(
        load=LoadOptions.of(config, batching),
        max_retries=config.max_num_load_retries,
        retry_interval_s=config.load_retry_interval_micros / 1e6,
        num_load_threads=config.num_load_threads,
        labels_for_unavailable=config.allow_version_labels_for_unavailable_models,
    )
    num_threads = batching.num_batch_threads if batching and batching.num_batch_threads else cpus
    return Manager(options, parts=ServerParts(num_threads=num_threads, events=shared.metrics, shedding=shared.shedding))


def _batching(config: ServerConfig) -> BatchingParameters | None:
    if not config.enable_batching:
        return None
    if config.batching_parameters_file:
        return files.read_batching(config.batching_parameters_file)
    return BatchingParameters()


def _request_log(config: ServerConfig, own: OwnParts, metrics: Metrics) -> RequestLog | None:
    if not config.request_log_file:
        return None
    request_files = own.request_files(
        config.request_log_file,
        max_bytes=config.request_log_max_mb * 10**6,
        max_files=config.request_log_max_files,
    )
    return RequestLog(request_files, sampling_rate=config.request_log_sampling_rate, events=metrics)


def _make_grpc_server(
    config: ServerConfig, api: GrpcApi, health: Health, door: Door | None, own: OwnParts
) -> grpc.aio.Server:
    server = grpc_api.make_server(
        arguments=config.grpc_channel_arguments,
        max_concurrent_rpcs=config.grpc_max_concurrent_rpcs,
        max_message_bytes=config.grpc_max_pending_mb << 20,
        interceptors=[DoorInterceptor(door)] if door is not None else (),
        shares_port=own.number > 1,
    )
    api.add_to(server)
    services = [PREDICTION_SERVICE, MODEL_SERVICE]
    if config.enable_v2:
        services.append(V2_SERVICE)
    if config.enable_grpc_healthcheck_service:
        health.add_to(server)
        services.append(HEALTH_SERVICE)
    if config.enable_profiler:
        own.profiler().add_to(server)
    reflection.add_to(server, services)
    return server


def guard(config: ServerConfig, door: Door | None, monitoring: files.MonitoringConfig | None) -> Guard:
    """What stands before the REST API.

    Raises: ServingError if its certificates are not usable.
    """
    tls = ssl_context(files.read_tls(config.rest_ssl_config_file)) if config.rest_ssl_config_file else None
    if door is None:
        return Guard(tls=tls)
    is_open = monitoring is not None and monitoring.enable and not config.metrics_need_key
    open_path = monitoring.path if monitoring is not None and is_open else None
    return Guard(RestDoor(door, open_path=open_path, cors=config.rest_api_enable_cors_support), tls)
