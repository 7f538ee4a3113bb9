"""What the flags ask of a version before it is loaded."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from ..errors import invalid_argument
from ..flags import ServerConfig
from .checksums import check_checksums
from .ops import check_lite, check_ops
from .signature import check_key, check_signature

ANY, SAFE = "any", "safe"


@dataclass(frozen=True, kw_only=True, slots=True)
class Vetting:
    """What is asked of versions."""

    allowed_ops: str = ANY
    allowed_ops_by_model: Mapping[str, str] = field(default_factory=dict)
    public_key: str = ""  # path of the key with which versions must be signed; empty: they need not be

    @classmethod
    def of(cls, config: ServerConfig) -> "Vetting":
        """What the flags ask.

        Raises: ServingError if they cannot be followed.
        """
        if config.verify_models:
            check_key(config.verify_models)
        return cls(
            allowed_ops=config.allowed_ops,
            allowed_ops_by_model=dict(map(_override, filter(None, config.allowed_ops_by_model.split(",")))),
            public_key=config.verify_models,
        )

    def check_files(self, path: str) -> None:
        """Refuse a version for its files.

        Raises: ServingError.
        """
        if self.public_key:
            check_signature(path, self.public_key)
        check_checksums(path)

    def graph_check(self, name: str, path: str) -> Callable[[MetaGraphDef], None]:
        """What refuses a graph of the model `name`, from `path`."""
        return functools.partial(check_ops, path) if self._is_safe(name) else lambda _: None

    def check_lite(self, name: str, file: str) -> None:
        """Refuse a TensorFlow Lite file.

        Raises: ServingError.
        """
        if self._is_safe(name):
            with tf.io.gfile.GFile(file, "rb") as opened:
                check_lite(file, opened.read())

    def _is_safe(self, name: str) -> bool:
        return self.allowed_ops_by_model.get(name, self.allowed_ops) == SAFE


def _override(pair: str) -> tuple[str, str]:
    name, _, allowed = pair.strip().partition("=")
    if not name or allowed not in (ANY, SAFE):
        raise invalid_argument(f"--allowed_ops_by_model has {pair!r}; expected NAME=any or NAME=safe")
    return name, allowed
