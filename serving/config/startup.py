"""What the flags mean together: combinations that cannot be, and the models to begin with."""

import dataclasses
import logging
from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..errors import failed_precondition, invalid_argument
from ..flags import ServerConfig
from .files import TlsConfig
from .model_file import ModelConfigFile
from .models import PLATFORM, model_names

logger = logging.getLogger(__name__)


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
    if (
        config.tensorflow_session_parallelism > 0
        and config.tensorflow_intra_op_parallelism > 0
        and config.tensorflow_inter_op_parallelism > 0
    ):
        raise invalid_argument(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    if config.use_alts_credentials:
        raise invalid_argument("ALTS exists on Google's own network only; use --ssl_config_file")


def with_ports_apart(config: ServerConfig) -> ServerConfig:
    """`config` without a REST port that is gRPC's."""
    if config.rest_api_port and config.rest_api_port == config.port:
        logger.error("--rest_api_port=%d is the port of gRPC; the REST API is not started", config.rest_api_port)
        return dataclasses.replace(config, rest_api_port=0)
    return config


def configured_models(
    config: ServerConfig, file: ModelConfigFile | None, models_folder: Path | None
) -> ModelServerConfig:
    """The models to begin with.

    Args:
        config: the flags.
        file: of --model_config_file; None without.
        models_folder: serve every model in it, rather than what `config` names.

    Raises: ServingError.
    """
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


def warn_of_plaintext(config: ServerConfig, tls: TlsConfig | None) -> None:
    """Say so where gRPC is protected and the REST API beside it is not."""
    if tls is None or not config.rest_api_port or config.rest_ssl_config_file:
        return
    asks = ", and asks callers for no certificate" if tls.client_verify else ""
    logger.warning(
        "--ssl_config_file is for gRPC only: the REST API on port %d is plaintext%s; give --rest_ssl_config_file too, "
        "keep it to this machine, or leave out --rest_api_port",
        config.rest_api_port,
        asks,
    )


def warn_of_keys_in_the_clear(config: ServerConfig) -> None:
    """Say so where callers send keys or tokens over a port without TLS."""
    asks = config.api_keys_file or config.admin_api_keys_file or config.jwt_jwks
    ports = (
        ("--ssl_config_file", config.port, config.ssl_config_file),
        ("--rest_ssl_config_file", config.rest_api_port, config.rest_ssl_config_file),
    )
    missing = [flag for flag, port, file in ports if port and not file]
    if asks and missing:
        logger.warning(
            "keys and tokens come in the clear, and whoever reads one on its way has it; give %s, or have a proxy or a "
            "mesh before this server speak TLS",
            " and ".join(missing),
        )
