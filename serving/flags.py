"""The server's flags: TensorFlow Serving's own, with its spelling and defaults, and a few of ours.

`ServerConfig` is the one description: a field's name is the flag's name, its type how the value is read, its text what
`--help` says. `--flag=value`, `--flag value`, and for booleans `--flag`, `--flag=true|false` are understood. As in
TensorFlow Serving, an unknown flag is named and passed over; a value that cannot be read ends the start.
"""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Default = TypeVar("Default")


def flag(default: Default, text: str) -> Default:
    """A field of `ServerConfig`: its default value, and its line of `--help`."""
    field: Default = dataclasses.field(default=default, metadata={"help": text})
    return field


class FlagError(ValueError):
    """A flag's value cannot be read; the message names flag, value and what is expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """All flags. Those in `WITHOUT_EFFECT` are accepted for compatibility and do nothing here."""

    # Where to listen.
    port: int = flag(8500, "TCP port of gRPC on 0.0.0.0")
    grpc_socket_path: str = flag("", "UNIX socket on which gRPC listens too")
    rest_api_port: int = flag(0, "TCP port of the REST API; 0: none")
    rest_api_num_threads: int = flag(4 * (os.cpu_count() or 1), "threads for REST requests")
    rest_api_timeout_in_ms: int = flag(30_000, "milliseconds until a REST request is given up")
    rest_api_enable_cors_support: bool = flag(False, "allow browsers from other origins")
    rest_api_max_body_mb: int = flag(256, "largest REST request body in 10^6 bytes; all bodies at once take twice that")
    rest_api_max_json_depth: int = flag(64, "deepest nesting of a REST request's JSON")
    enable_v2: bool = flag(True, "the Open Inference Protocol (KServe V2) too, on both ports")
    allow_model_control: bool = flag(False, "let callers of the Open Inference Protocol load and unload models")
    grpc_channel_arguments: str = flag("", "key=value,key=value for the gRPC server")
    grpc_max_threads: int = flag(4 * (os.cpu_count() or 1), "gRPC threads")
    grpc_max_concurrent_rpcs: int = flag(4096, "RPCs held at once; further ones are refused")
    grpc_max_pending_mb: int = flag(2048, "size of all requests held at once, in 10^6 bytes; further ones are refused")
    ssl_config_file: str = flag("", "text file with an SSLConfig: gRPC with TLS")
    rest_ssl_config_file: str = flag("", "text file with an SSLConfig: the REST API with TLS")
    use_alts_credentials: bool = flag(False, "Google's ALTS")

    # Who may do what, and what a model may.
    api_keys_file: str = flag(
        "", "file with the hashes of keys, which predictions then take; read again when it changes"
    )
    admin_api_keys_file: str = flag("", "the same of administrators' keys, which administration then takes")
    enable_admin: bool = flag(True, "reloading, loading and unloading models, and the profiler; false: for nobody")
    jwt_jwks: str = flag("", "file or https URL with the public keys (JWKS) of an issuer whose tokens (JWT) are taken")
    jwt_issuer: str = flag("", "what tokens must have as iss")
    jwt_audience: str = flag("", "what tokens must have in aud")
    admin_jwt_scope: str = flag("", "scope that makes an administrator of a token's subject; empty: none does")
    key_requests_per_second: float = flag(0.0, "of one caller, where the line of its key has no limits; 0: any number")
    key_concurrent_requests: int = flag(0, "held at once of one caller, likewise; 0: any number")
    metrics_need_key: bool = flag(False, "the metrics' page takes a key or token too")
    allowed_ops: str = flag("any", "any, or safe: a graph that uses files, networks or Python is not loaded")
    allowed_ops_by_model: str = flag("", "NAME=any,NAME=safe for single models")
    verify_models: str = flag("", "public key (PEM) with which versions must be signed to be loaded")
    audit_log_file: str = flag("", "file to which a line is appended for each call of administration")

    # Which models.
    model_name: str = flag("default", "name of the model, if there is no config file")
    model_base_path: str = flag("", "folder or URI of the model's version folders")
    model_config_file: str = flag("", "text file with a ModelServerConfig")
    model_config_file_poll_wait_seconds: int = flag(0, "seconds between two readings of the file; 0: read it once")
    platform_config_file: str = flag("", "text file with a PlatformConfigMap")
    allow_version_labels_for_unavailable_models: bool = flag(False, "let labels point at versions not loaded yet")
    file_system_poll_wait_seconds: int = flag(1, "seconds between two looks for new versions; 0 or less: look once")
    flush_filesystem_caches: bool = flag(True, "drop file caches after the first load")
    max_num_load_retries: int = flag(5, "retries of a failed load")
    load_retry_interval_micros: int = flag(60_000_000, "microseconds between two tries")
    num_load_threads: int = flag(0, "loads at once; 0: one")
    num_unload_threads: int = flag(0, "unloads at once; 0: one")
    saved_model_tags: str = flag("serve", "tags of the graph to load, with commas between")
    prefer_tflite_model: bool = flag(False, "serve model.tflite where a version has one")
    num_tflite_pools: int = flag(os.cpu_count() or 1, "pools of TFLite interpreters")
    num_tflite_interpreters_per_pool: int = flag(1, "interpreters in each")
    enable_model_warmup: bool = flag(True, "run assets.extra/tf_serving_warmup_requests before a version serves")
    num_request_iterations_for_warmup: int = flag(0, "times that each warm-up request is run; 0: once")
    remove_unused_fields_from_bundle_metagraph: bool = flag(True, "keep only the signatures of a loaded graph")

    # How to compute.
    enable_batching: bool = flag(False, "batch by batching_parameters_file")
    batching_parameters_file: str = flag("", "text file with BatchingParameters")
    enable_per_model_batching_parameters: bool = flag(False, "read batching_params.pbtxt in each version folder")
    max_queued_requests: int = flag(1024, "requests that may wait for one signature without batching parameters")
    tensorflow_session_parallelism: int = flag(0, "threads of TensorFlow for both kinds below; 0: its own choice")
    tensorflow_intra_op_parallelism: int = flag(0, "threads inside an operation")
    tensorflow_inter_op_parallelism: int = flag(0, "operations at once")
    tensorflow_session_config_file: str = flag("", "text file with a ConfigProto")
    per_process_gpu_memory_fraction: float = flag(0.0, "share of the GPU memory to take; 0: all")
    xla_cpu_compilation_enabled: bool = flag(False, "compile with XLA on CPU")
    xla_gpu_compilation_enabled: bool = flag(False, "compile with XLA on GPU")
    enable_serialization_as_tensor_content: bool = flag(False, "respond with tensor_content, not typed lists")
    enable_signature_method_name_check: bool = flag(False, "require Predict signatures to say so")

    # How it is watched.
    monitoring_config_file: str = flag("", "text file with a MonitoringConfig")
    enable_grpc_healthcheck_service: bool = flag(True, "grpc.health.v1")
    enable_profiler: bool = flag(True, "TensorFlow's profiler service, which writes where its caller asks")
    request_log_file: str = flag("", "TFRecord of PredictionLog to which sampled requests go")
    request_log_sampling_rate: float = flag(1.0, "share of the requests to write")
    request_log_max_mb: int = flag(64, "size at which the file is rotated, in 10^6 bytes")
    request_log_max_files: int = flag(5, "rotated files kept")
    drift_window: int = flag(1000, "live examples compared with the model card's reference statistics; 0: none")
    log_format: str = flag("text", "text or json")

    # How it runs.
    num_processes: str = flag("1", "processes that serve together on the same ports; auto: by cores and models")
    drain_seconds: float = flag(30.0, "seconds after SIGTERM to finish what was accepted")
    engine: str = flag(
        "embedded", "embedded, tensorflow_model_server (the binary on the PATH), or auto (the binary if there is one)"
    )
    version: bool = flag(False, "print the version and exit")

    # Accepted for compatibility.
    num_request_iterations: int = flag(0, "see num_request_iterations_for_warmup")
    thread_pool_factory_config_file: str = flag("", "")
    mixed_precision: str = flag("", "")
    skip_initialize_tpu: bool = flag(False, "")
    use_saved_model: bool = flag(True, "")
    tensorflow_tpu_profiling: bool = flag(False, "")

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:  # so that nan is refused too
                raise FlagError(f"--{name}={getattr(self, name)} is not usable: expected {least} to {most}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise FlagError(f"--{name}={getattr(self, name)} is not usable: expected one of {', '.join(choices)}")
        if self.num_processes != "auto" and not re.fullmatch("[1-9][0-9]{0,2}", self.num_processes):
            raise FlagError(f"--num_processes={self.num_processes} is not usable: expected 1 to 999, or auto")
        for pair in self.grpc_channel_arguments.split(","):
            if pair.strip() and not _is_channel_argument(pair.strip()):
                raise FlagError(
                    f"--grpc_channel_arguments={self.grpc_channel_arguments} is not usable: {pair!r} is not key=value, "
                    f"or its number does not fit in 32 bits"
                )


LARGEST = 2**31 - 1
DAY_S = 86_400
RANGES: Mapping[str, tuple[float, float]] = {
    "port": (0, 65535),
    "rest_api_port": (0, 65535),
    "rest_api_num_threads": (1, LARGEST),
    "rest_api_max_body_mb": (1, LARGEST),
    "rest_api_max_json_depth": (1, LARGEST),
    "grpc_max_concurrent_rpcs": (1, LARGEST),
    "grpc_max_pending_mb": (0, LARGEST),
    "max_num_load_retries": (0, LARGEST),
    "load_retry_interval_micros": (0, 2**63 - 1),
    "num_load_threads": (0, LARGEST),
    "num_tflite_pools": (1, LARGEST),
    "num_tflite_interpreters_per_pool": (1, LARGEST),
    "max_queued_requests": (1, LARGEST),
    "drift_window": (0, 1_000_000),
    "per_process_gpu_memory_fraction": (0.0, 100.0),  # above 1 TensorFlow takes the machine's memory too
    "key_requests_per_second": (0.0, 1e9),
    "key_concurrent_requests": (0, LARGEST),
    "request_log_sampling_rate": (0.0, 1.0),
    "request_log_max_mb": (1, LARGEST),
    "request_log_max_files": (1, LARGEST),
    "drain_seconds": (0, DAY_S),
}
CHOICES = {
    "allowed_ops": ("any", "safe"),
    "engine": ("embedded", "tensorflow_model_server", "auto"),
    "log_format": ("text", "json"),
}


def _is_channel_argument(pair: str) -> bool:
    key, equals, value = pair.partition("=")
    if not key or not equals:
        return False
    if value.lstrip("-").isdecimal():
        return re.fullmatch("-?[0-9]{1,10}", value) is not None and -LARGEST <= int(value) <= LARGEST
    return True


ALIASES = {"use_tflite_model": "prefer_tflite_model"}
WITHOUT_EFFECT = frozenset(
    {
        "flush_filesystem_caches",
        "grpc_max_threads",
        "mixed_precision",
        "num_request_iterations",
        "num_unload_threads",
        "platform_config_file",
        "rest_api_num_threads",
        "remove_unused_fields_from_bundle_metagraph",
        "skip_initialize_tpu",
        "tensorflow_tpu_profiling",
        "thread_pool_factory_config_file",
        "use_saved_model",
    }
)
# Without them a server is open to whom these were to keep out: the real binary, which knows none, is not started then.
ACCESS = frozenset(
    {
        "admin_api_keys_file",
        "admin_jwt_scope",
        "allowed_ops",
        "allowed_ops_by_model",
        "api_keys_file",
        "audit_log_file",
        "enable_admin",
        "jwt_audience",
        "jwt_issuer",
        "jwt_jwks",
        "key_concurrent_requests",
        "key_requests_per_second",
        "metrics_need_key",
        "rest_ssl_config_file",
        "verify_models",
    }
)
OURS = ACCESS | frozenset(
    {
        "allow_model_control",
        "drain_seconds",
        "drift_window",
        "enable_v2",
        "engine",
        "grpc_max_concurrent_rpcs",
        "grpc_max_pending_mb",
        "log_format",
        "max_queued_requests",
        "num_processes",
        "request_log_file",
        "request_log_max_files",
        "request_log_max_mb",
        "request_log_sampling_rate",
        "rest_api_max_body_mb",
        "rest_api_max_json_depth",
    }
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a command line says."""

    config: ServerConfig
    given: dict[str, bool | int | float | str]  # the flags that were there, by their name
    unknown: tuple[str, ...]  # arguments that mean nothing


def parse(arguments: Sequence[str]) -> Parsed:
    """Read `arguments`, without the program's name.

    Raises: FlagError.
    """
    types = {field.name: field.type for field in dataclasses.fields(ServerConfig)}
    given: dict[str, bool | int | float | str] = {}
    unknown: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.removeprefix("--").partition("=")
        name = ALIASES.get(name, name)
        if not argument.startswith("--") or name not in types:
            unknown.append(argument)
            continue
        if not equals:
            follows = bool(rest) and not rest[0].startswith("--")
            if types[name] is not bool:
                if not follows:
                    raise FlagError(f"--{name} needs a value: --{name}=VALUE")
                value = rest.pop(0)
            else:
                value = rest.pop(0) if follows and rest[0].lower() in ("true", "false") else "true"
        given[name] = _read(name, types[name], value)
    return Parsed(ServerConfig(**given), given, tuple(unknown))  # type: ignore[arg-type]


def _read(name: str, kind: object, text: str) -> bool | int | float | str:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind is int:
            return int(text)
        return float(text) if kind is float else text
    except (KeyError, ValueError):
        expected = {bool: "true or false", int: "an integer", float: "a number"}[kind]  # type: ignore[index]
        raise FlagError(f"--{name}={text} is not usable: expected {expected}") from None


def for_the_real_binary(parsed: Parsed) -> list[str]:
    """`parsed` as the real binary reads it: `--flag=value`, booleans as true and false; without our own flags.

    Raises: FlagError if one of those keeps somebody out.
    """
    if protecting := sorted(ACCESS & set(parsed.given)):
        raise FlagError(
            f"tensorflow_model_server has no {', '.join(f'--{name}' for name in protecting)}, and would be open "
            f"without; use --engine=embedded, or leave it to a gateway"
        )
    given = {name: value for name, value in parsed.given.items() if name not in OURS}
    spelled = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
    return [*(f"--{name}={value}" for name, value in spelled.items()), *parsed.unknown]


def usage() -> str:
    """All flags with their defaults and meanings."""
    lines = [
        "usage: python -m serving [flags]",
        "       python -m serving promote|rollback ...",
        "       python -m serving keys new NAME",
        "       python -m serving tune ...",
        "",
    ]
    lines.append("Without model flags every model under ./models is served, on gRPC 8500 and REST 8501.")
    lines.append("")
    for field in dataclasses.fields(ServerConfig):
        note = " (accepted, without effect here)" if field.name in WITHOUT_EFFECT else ""
        note += " (not one of TensorFlow Serving's)" if field.name in OURS else ""
        default = str(field.default).lower() if isinstance(field.default, bool) else repr(field.default)
        lines.append(f"  --{field.name}={default}\n        {field.metadata['help']}{note}".rstrip())
    return "\n".join(lines)
