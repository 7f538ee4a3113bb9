"""The keywords that the calls about a model share, for both clients and their operations (PEP 692)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class VersionOptions(TypedDict, total=False):
    """Which version of the model, and how long the call may take: `metadata`."""

    version: int | None  # by number
    label: str | None  # or by label; the newest if neither is given
    timeout_s: float | None  # deadline of the whole call; if None the client's own, for each request by itself


class ReadOptions(VersionOptions, total=False):
    """The keywords of `read`."""

    model: str | None  # the model's name on the server; the client's own if None
    check: bool | None  # compare inputs with the model's metadata before sending; as the client's settings if None


class PredictOptions(ReadOptions, total=False):
    """The keywords of `predict`."""

    as_is: bool  # send images that look inverted, or far too faint, instead of refusing them


class RunOptions(VersionOptions, total=False):
    """The keywords of `run`."""

    signature: str  # its name; `serving_default` if empty
    outputs: Sequence[str]  # names of the outputs to be sent back; all if empty
    batched: bool  # the first axis of all inputs and outputs is one batch, which may be sent in parts
    check: bool | None  # as in ReadOptions


class ClassifyOptions(VersionOptions, total=False):
    """The keywords of `classify`."""

    model: str | None  # as in ReadOptions
    signature: str  # its name; "" is the model's default
    context: Mapping[str, Any] | None  # features that all examples share
