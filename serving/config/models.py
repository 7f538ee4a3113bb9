"""Sets of models: which there are in a folder, and whether a set can be served, by TensorFlow Serving's rules."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from ..errors import invalid_argument

PLATFORM = "tensorflow"
TENSORFLOW_TYPE = 1  # of the deprecated field model_type


def model_names(folder: Path) -> list[str]:
    """The models in `folder`, by which a start without model flags goes: the folders that have version folders."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and any(child.name.isdecimal() and child.is_dir() for child in path.iterdir())
    )


def check_configs(configs: Sequence[ModelConfig], current: Mapping[str, ModelConfig]) -> None:
    """Refuse a set of models that cannot be served.

    Args:
        configs: the set.
        current: the models that are served now, by name.

    Raises: ServingError INVALID_ARGUMENT with TensorFlow Serving's text.
    """
    seen: set[str] = set()
    for config in configs:
        name = config.name
        if name in seen:
            raise invalid_argument(f"Illegal to list model {name} multiple times in config list")
        seen.add(name)
        if not name:
            raise invalid_argument("A model config has no name")
        if not config.base_path.startswith("/") and not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", config.base_path):
            raise invalid_argument(
                f"Expected model {name} to have an absolute path or URI; got base_path()={config.base_path}"
            )
        platform = config.model_platform or (PLATFORM if config.model_type == TENSORFLOW_TYPE else "")
        if not platform:
            raise invalid_argument(
                f"Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {name}"
            )
        if name in current and (current[name].model_platform or PLATFORM) != platform:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {name} platform was "
                f"{current[name].model_platform} and new platform requested is {platform}"
            )
        if platform != PLATFORM:
            raise invalid_argument(f"Model {name} requests unsupported platform {platform}")
        if config.HasField("logging_config"):
            raise invalid_argument("No request-logger-creator provided. Use --request_log_file instead.")
