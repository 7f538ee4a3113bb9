"""Turn a version's folder into a model that runs: read, restore, look at its signatures.

Runs on a thread, for seconds; the manager does the rest on the event loop.
"""

import posixpath
import time
from dataclasses import dataclass

from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from ..batching.parameters import BatchingParameters
from ..config.files import read_batching, read_session
from ..flags import ServerConfig
from ..model.inspection import make_signatures
from ..model.model import ModelOptions
from ..model.saved_model import Runtime, SavedModel
from ..model.signatures import Signature
from ..model.version_files import LITE_FILE, check_graph_files, size_of
from ..monitoring.drift import DriftWindow
from ..vetting.vetting import Vetting
from . import warmup
from .model_card import read_reference

PER_MODEL_BATCHING_FILE = "batching_params.pbtxt"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadOptions:
    """How versions are loaded, the same for all models."""

    tags: frozenset[str] = frozenset({"serve"})
    session: config_pb2.ConfigProto
    batching: BatchingParameters | None = None
    per_model_batching: bool = False  # each version's own file counts; `batching` only sizes the threads
    prefer_lite: bool = False
    lite_interpreters: int = 1
    warm_up: bool = True
    warmup_iterations: int = 1
    max_queued_requests: int = 1024
    drift_window: int = 0  # examples; 0: drift is not watched
    vetting: Vetting = Vetting()

    @classmethod
    def of(cls, config: ServerConfig, batching: BatchingParameters | None) -> "LoadOptions":
        """What the flags say.

        Args:
            config: the flags.
            batching: what is in --batching_parameters_file; None without batching.

        Raises: ServingError if a file that the flags name is not usable.
        """
        return cls(
            tags=frozenset(tag.strip() for tag in config.saved_model_tags.split(",") if tag.strip()),
            session=session_config(config),
            batching=batching,
            per_model_batching=config.enable_per_model_batching_parameters,
            prefer_lite=config.prefer_tflite_model,
            lite_interpreters=config.num_tflite_pools * config.num_tflite_interpreters_per_pool,
            warm_up=config.enable_model_warmup,
            warmup_iterations=config.num_request_iterations_for_warmup or 1,
            max_queued_requests=config.max_queued_requests,
            drift_window=config.drift_window,
            vetting=Vetting.of(config),
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What comes out of a version's folder."""

    runtime: Runtime
    signatures: dict[str, Signature]
    model_options: ModelOptions
    warmup_records: list[PredictionLog]
    drift: DriftWindow | None
    load_s: float


def load(path: str, options: LoadOptions, *, name: str = "") -> Loaded:
    """Load the version in the folder or URI `path`, of the model `name`.

    Raises: ServingError.
    """
    started = time.perf_counter()
    check_graph_files(path)
    options.vetting.check_files(path)
    batching = _batching(path, options)
    records = warmup.read(path) if options.warm_up else []
    runtime = _runtime(path, options, name)
    try:
        signatures = make_signatures(runtime, warmup.samples(records, runtime.signature_defs))
    except BaseException:
        runtime.close()
        raise
    model_options = ModelOptions(batching=batching, max_queued_requests=options.max_queued_requests)
    reference = read_reference(path) if options.drift_window else None
    drift = DriftWindow(reference, options.drift_window) if reference else None
    return Loaded(runtime, signatures, model_options, records, drift, time.perf_counter() - started)


def _runtime(path: str, options: LoadOptions, name: str) -> Runtime:
    if options.prefer_lite and size_of(path, LITE_FILE) is not None:
        options.vetting.check_lite(name, posixpath.join(path, LITE_FILE))
        from ..model.tflite import LiteModel  # an optional extra

        return LiteModel(posixpath.join(path, LITE_FILE), interpreters=options.lite_interpreters)
    check = options.vetting.graph_check(name, path)
    return SavedModel(path, tags=options.tags, session_config=options.session, check=check)


def _batching(path: str, options: LoadOptions) -> BatchingParameters | None:
    if not options.per_model_batching:
        return options.batching
    if size_of(path, PER_MODEL_BATCHING_FILE) is None:
        return None
    return read_batching(posixpath.join(path, PER_MODEL_BATCHING_FILE))


def session_config(config: ServerConfig) -> config_pb2.ConfigProto:
    """TensorFlow's settings: those of --tensorflow_session_config_file, then those of the flags."""
    session = config_pb2.ConfigProto(allow_soft_placement=True)
    if config.tensorflow_session_config_file:
        session = read_session(config.tensorflow_session_config_file)
    both = config.tensorflow_session_parallelism
    if both or config.tensorflow_intra_op_parallelism:
        session.intra_op_parallelism_threads = config.tensorflow_intra_op_parallelism or both
    if both or config.tensorflow_inter_op_parallelism:
        session.inter_op_parallelism_threads = config.tensorflow_inter_op_parallelism or both
    if config.per_process_gpu_memory_fraction:
        session.gpu_options.per_process_gpu_memory_fraction = config.per_process_gpu_memory_fraction
    if config.xla_cpu_compilation_enabled or config.xla_gpu_compilation_enabled:
        session.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.ON_1
        session.graph_options.optimizer_options.cpu_global_jit = config.xla_cpu_compilation_enabled
    return session
