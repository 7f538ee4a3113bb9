"""What a server is made of, put together from its flags."""

from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401, reflection describes them
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from .access.door import Door
from .access.limits import Accounts, OwnAccounts
from .access.setup import make_door
from .access.shared_accounts import SharedAccounts
from .batching.parameters import BatchingParameters
from .config import files
from .config.files import MonitoringConfig
from .config.model_file import ModelConfigFile
from .config.startup import check_combinations, configured_models, warn_of_plaintext, with_ports_apart
from .errors import invalid_argument
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
from .monitoring.metrics import Metrics
from .monitoring.request_log import Files, RequestLog, RotatedFiles
from .monitoring.shared_request_files import SharedFiles
from .monitoring.tracing import OFF, Tracing
from .names import MODEL_SERVICE, PREDICTION_SERVICE, V2_SERVICE
from .offload import Offload
from .prediction_service import PredictionService
from .processes.member import Member
from .processes.number import num_cpus
from .processes.services import SharedMetrics, SharedModelService, SharedRepository
from .processes.share import of_batching, share_of
from .rest import api as rest_api
from .rest.door import Guard, RestDoor
from .rest.tls import ssl_context
from .v2.repository import Repository
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
    check_combinations(config, names_models=models_folder is None)
    config = with_ports_apart(config)
    num_processes = member.start.number if member is not None else 1
    cpus = max(1, num_cpus() // num_processes)
    config = share_of(config, num_processes, num_cpus=cpus)
    file = ModelConfigFile(config.model_config_file) if config.model_config_file else None
    models = configured_models(config, file, models_folder)
    batching = of_batching(_batching(config), num_processes)
    tls = files.read_tls(config.ssl_config_file) if config.ssl_config_file else None
    warn_of_plaintext(config, tls)
    monitoring = files.read_monitoring(config.monitoring_config_file) if config.monitoring_config_file else None
    metrics = Metrics() if member is None else SharedMetrics(member)
    shedding, drain, offload = KnownFullQueues(), Drain(is_loading=True), Offload()
    door = make_door(config, metrics, _accounts(member))
    manager = _make_manager(config, batching, metrics, shedding, cpus)
    request_log = _request_log(config, metrics, member)
    predictions = PredictionService(
        manager,
        drain=drain,
        events=metrics,
        request_log=request_log,
        as_content=config.enable_serialization_as_tensor_content,
        check_method=config.enable_signature_method_name_check,
        offload=offload,
    )
    model_service = _model_service(manager, drain, metrics, member)
    health = Health(manager, model_service, drain)
    repository = _repository(config, manager, model_service, drain, models_folder, member)
    if isinstance(repository, SharedRepository):
        models = repository.take_over() or models
    v2 = V2Service(predictions, repository=repository, manager=manager, models=model_service, drain=drain)
    api = GrpcApi(
        predictions,
        model_service,
        shedding=shedding,
        events=metrics,
        max_pending_bytes=config.grpc_max_pending_mb * 10**6 // num_processes,
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
        num_processes=num_processes,
        tracing=tracing,
    )
    return Parts(
        config=config,
        file=file,
        models=models,
        drain=drain,
        manager=manager,
        model_service=model_service,
        health=health,
        api=api,
        server=_make_grpc_server(config, api, health, door, member),
        tls=tls,
        backend=backend,
        monitoring=monitoring,
        door=door,
        request_log=request_log,
        member=member,
        tracing=tracing,
    )


def _accounts(member: Member | None) -> Accounts:
    if member is None:
        return OwnAccounts()
    return SharedAccounts(member.start.shared_file, process=member.start.index, number=member.start.number)


def _model_service(manager: Manager, drain: Drain, metrics: Metrics, member: Member | None) -> ModelService:
    if member is None:
        return ModelService(manager, drain=drain, metrics=metrics)
    return SharedModelService(manager, drain=drain, metrics=metrics, member=member)


def _repository(
    config: ServerConfig,
    manager: Manager,
    models: ModelService,
    drain: Drain,
    models_folder: Path | None,
    member: Member | None,
) -> Repository:
    may_change = config.allow_model_control
    if member is None:
        return Repository(manager, models=models, drain=drain, may_change=may_change, folder=models_folder)
    return SharedRepository(
        manager, models=models, drain=drain, may_change=may_change, folder=models_folder, member=member
    )


def _make_manager(
    config: ServerConfig,
    batching: BatchingParameters | None,
    metrics: Metrics,
    shedding: KnownFullQueues,
    cpus: int,
) -> Manager:
    options = ManagerOptions(
        load=LoadOptions.of(config, batching),
        max_retries=config.max_num_load_retries,
        retry_interval_s=config.load_retry_interval_micros / 1e6,
        num_load_threads=config.num_load_threads,
        labels_for_unavailable=config.allow_version_labels_for_unavailable_models,
    )
    num_threads = batching.num_batch_threads if batching and batching.num_batch_threads else cpus
    return Manager(options, parts=ServerParts(num_threads=num_threads, events=metrics, shedding=shedding))


def _batching(config: ServerConfig) -> BatchingParameters | None:
    if not config.enable_batching:
        return None
    if config.batching_parameters_file:
        return files.read_batching(config.batching_parameters_file)
    return BatchingParameters()


def _request_log(config: ServerConfig, metrics: Metrics, member: Member | None) -> RequestLog | None:
    if not config.request_log_file:
        return None
    path, max_bytes, max_files = (
        config.request_log_file,
        config.request_log_max_mb * 10**6,
        config.request_log_max_files,
    )
    if member is None:
        request_files: Files = RotatedFiles(path, max_bytes=max_bytes, max_files=max_files)
    elif "://" in path:
        raise invalid_argument(
            f"--request_log_file={path} cannot be written by several processes; name a file on this machine, or leave "
            "out --num_processes"
        )
    else:
        shared = member.start.shared_file
        request_files = SharedFiles(path, max_bytes=max_bytes, max_files=max_files, state_file=shared)
    return RequestLog(request_files, sampling_rate=config.request_log_sampling_rate, events=metrics)


def _profiler(member: Member | None) -> Profiler:
    if member is None:
        return Profiler()

    async def end_everywhere(session_id: str) -> None:
        await member.ask("end trace", session_id.encode())

    async def end(content: bytes) -> bytes:
        await profiler.end(content.decode())
        return b""

    profiler = Profiler(end_everywhere)
    member.does("end trace", end)
    return profiler


def _make_grpc_server(
    config: ServerConfig, api: GrpcApi, health: Health, door: Door | None, member: Member | None
) -> grpc.aio.Server:
    server = grpc_api.make_server(
        arguments=config.grpc_channel_arguments,
        max_concurrent_rpcs=config.grpc_max_concurrent_rpcs,
        max_message_bytes=config.grpc_max_pending_mb << 20,
        interceptors=[DoorInterceptor(door)] if door is not None else (),
        shares_port=member is not None,
    )
    api.add_to(server)
    services = [PREDICTION_SERVICE, MODEL_SERVICE]
    if config.enable_v2:
        services.append(V2_SERVICE)
    if config.enable_grpc_healthcheck_service:
        health.add_to(server)
        services.append(HEALTH_SERVICE)
    if config.enable_profiler:
        _profiler(member).add_to(server)
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
