"""The operations about models: what is served, in what state, and with which signatures."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from ..errors import DeadlineExceeded, InvalidResponse, ModelNotFound, ServerError, ServerUnavailable
from ..protocol import wire_pb2 as wire
from ..protocol.model_messages import (
    enum_name,
    health_request,
    metadata_of,
    metadata_request,
    model_spec,
    reload_request,
    status_of,
)
from ..protocol.rpc import GET_MODEL_METADATA, GET_MODEL_STATUS, HEALTH, RELOAD, Call, model_text
from ..protocol.status import OTHER_SERVER
from ..results import ModelMetadata, ModelStatus, ServedModel
from ..settings import Settings, check_timeout
from .effects import Operation, Pause, T
from .options import VersionOptions

FIRST_POLL_S = 0.05
LAST_POLL_S = 1.0
RELOAD_TIMEOUT_S = 120.0


_Key = tuple[str, int | str | None]


class MetadataCache:
    """Metadata by model and version, label, or neither.

    What was asked for with a version never changes. What was asked for without is kept until a response shows that
    another version is served by now.
    """

    def __init__(self) -> None:
        self._kept: dict[_Key, ModelMetadata] = {}

    def get(self, spec: wire.ModelSpec) -> ModelMetadata | None:
        """What is known about the model of `spec`."""
        return self._kept.get(_key(spec))

    def put(self, spec: wire.ModelSpec, metadata: ModelMetadata) -> None:
        """Remember what the server said about the model of `spec`."""
        self._kept[_key(spec)] = metadata
        self._kept[metadata.model_name, metadata.version] = metadata

    def invalidate_if_changed(self, spec: wire.ModelSpec, version: int) -> None:
        """Forget the metadata for `spec` if it is not that of `version`, which just responded."""
        if not self._kept:
            return
        key = _key(spec)
        if key in self._kept and self._kept[key].version != version:
            del self._kept[key]


def _key(spec: wire.ModelSpec) -> _Key:
    return spec.name, spec.version.value if spec.HasField("version") else spec.version_label or None


class ModelOperations:
    """Metadata, status, waiting, reload and health; and what all operations need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metadata = MetadataCache()

    def metadata(self, model_name: str | None, **options: Unpack[VersionOptions]) -> Operation[ModelMetadata]:
        """See `Client.metadata`."""
        spec, deadline = self._asked(model_name, **options)
        return (yield from self._fetch_metadata(spec, deadline))

    def _fetch_metadata(self, spec: wire.ModelSpec, deadline: float | None) -> Operation[ModelMetadata]:
        plain = wire.ModelSpec()
        plain.CopyFrom(spec)
        plain.signature_name = ""
        response = yield Call(GET_MODEL_METADATA, metadata_request(plain), deadline, spec)
        metadata = self._parse(metadata_of, response, spec)
        self._metadata.put(spec, metadata)
        return metadata

    def status(
        self, model_name: str | None, *, version: int | None = None, timeout_s: float | None = None
    ) -> Operation[ModelStatus]:
        """See `Client.status`."""
        spec, deadline = self._asked(model_name, version=version, timeout_s=timeout_s)
        return (yield from self._status(spec, deadline))

    def _status(
        self, spec: wire.ModelSpec, deadline: float | None, *, wait_for_ready: bool | None = None
    ) -> Operation[ModelStatus]:
        request = wire.GetModelStatusRequest(model_spec=spec)
        response = yield Call(GET_MODEL_STATUS, request, deadline, spec, wait_for_ready=wait_for_ready)
        return status_of(response, model_name=spec.name)

    def wait_until_ready(
        self, model_name: str | None, *, version: int | None = None, timeout_s: float
    ) -> Operation[ModelStatus]:
        """See `Client.wait_until_ready`."""
        deadline = time.monotonic() + check_timeout(timeout_s)
        spec, _ = self._asked(model_name, version=version)
        pause, last = FIRST_POLL_S, "the server does not respond"
        while True:
            try:
                status = yield from self._status(spec, deadline, wait_for_ready=True)
            except (ModelNotFound, ServerUnavailable) as error:  # not yet loaded, or not yet up
                last = error.details
            except DeadlineExceeded as error:
                raise self._not_ready(spec, timeout_s, last) from error
            else:
                if status.available:
                    return status
                last = "; ".join(str(one) for one in status.versions) or "no versions"
                failed = [one for one in status.versions if one.error]
                if failed and all(one.state == "END" for one in status.versions):
                    raise ServerError(
                        last,
                        address=self._settings.server,
                        model=model_text(spec),
                        hint="the version does not load; the server's log says more",
                    )
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._not_ready(spec, timeout_s, last)
            yield Pause(min(pause, left))
            pause = min(2 * pause, LAST_POLL_S)

    def _not_ready(self, spec: wire.ModelSpec, timeout_s: float, last: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"not ready after {timeout_s:g} s: {last}",
            address=self._settings.server,
            model=model_text(spec),
            hint="are address and name right, and is there a version to load?",
        )

    def reload(
        self, models: Sequence[ServedModel], *, metrics: Sequence[str] = (), timeout_s: float | None = None
    ) -> Operation[dict[str, int]]:
        """See `Client.reload`."""
        request = reload_request(models, metrics)
        response = yield Call(RELOAD, request, _deadline(RELOAD_TIMEOUT_S if timeout_s is None else timeout_s))
        if response.status.error_code:  # the RPC has the same status, but only from servers since 2.4
            raise ServerError(
                response.status.error_message,
                address=self._settings.server,
                hint=f"the configuration was refused ({enum_name(wire.Code, response.status.error_code)})",
            )
        return {metric.name: metric.int64_value_increase for metric in response.metric}

    def health(self, service: str, *, timeout_s: float | None = None) -> Operation[str]:
        """See `Client.health`."""
        response = yield Call(HEALTH, health_request(service), _deadline(timeout_s))
        return enum_name(wire.HealthCheckResponse.ServingStatus, response.status)

    def _asked(
        self,
        model_name: str | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
        signature: str = "",
    ) -> tuple[wire.ModelSpec, float | None]:
        """Whom a call asks, and until when; see `_deadline`."""
        spec = model_spec(model_name or self._settings.model, version=version, label=label, signature=signature)
        return spec, _deadline(timeout_s)

    def _parse(self, parse: Callable[..., T], response: Any, spec: wire.ModelSpec, **arguments: Any) -> T:
        """What `parse` makes of a response; an InvalidResponse then says whose it is."""
        try:
            return parse(response, **arguments)
        except InvalidResponse as error:
            raise InvalidResponse(
                error.details, address=self._settings.server, model=model_text(spec), hint=error.hint or OTHER_SERVER
            ) from error


def _deadline(timeout_s: float | None) -> float | None:
    """When an operation must be done; None if only each of its requests has a deadline, the client's."""
    return None if timeout_s is None else time.monotonic() + check_timeout(timeout_s)
