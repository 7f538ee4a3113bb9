"""The operations on models as such: what is served, in what state, and by which signatures."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import (
    OTHER_SERVER,
    BadAnswer,
    DeadlineExceeded,
    ModelNotFound,
    NotSupported,
    ServerError,
    ServerUnavailable,
)
from ..protocol import wire_pb2 as wire
from ..protocol.messages import (
    enum_name,
    health_request,
    metadata_of,
    metadata_request,
    model_spec,
    reload_request,
    status_of,
)
from ..protocol.rpc import GET_MODEL_METADATA, GET_MODEL_STATUS, HEALTH, RELOAD, Call, model_text
from ..results import ModelMetadata, ModelStatus, ServedModel
from ..settings import Settings, check_timeout
from .effects import Pause, Steps, T
from .signature_check import SignatureCache

FIRST_POLL_S = 0.05
LAST_POLL_S = 1.0
RELOAD_TIMEOUT_S = 120.0


class ModelOperations:
    """Metadata, status, waiting, reload and health; and what all operations are made with."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signatures = SignatureCache()

    def metadata(
        self, model: str | None, *, version: int | None, label: str | None, timeout_s: float | None
    ) -> Steps[ModelMetadata]:
        """See `client.Client.metadata`."""
        spec = self._spec(model, version=version, label=label)
        return (yield from self._fetch_metadata(spec, self._deadline(timeout_s)))

    def _fetch_metadata(self, spec: wire.ModelSpec, deadline: float | None) -> Steps[ModelMetadata]:
        plain = wire.ModelSpec()
        plain.CopyFrom(spec)
        plain.signature_name = ""
        request = metadata_request(plain)
        response = yield Call(GET_MODEL_METADATA, request, deadline, spec)
        metadata = self._parse(metadata_of, response, spec)
        self._signatures.keep(spec, metadata)
        return metadata

    def status(self, model: str | None, *, version: int | None, timeout_s: float | None) -> Steps[ModelStatus]:
        """See `client.Client.status`."""
        return (yield from self._status(self._spec(model, version=version), self._deadline(timeout_s)))

    def _status(
        self, spec: wire.ModelSpec, deadline: float | None, *, wait_for_ready: bool | None = None
    ) -> Steps[ModelStatus]:
        request = wire.GetModelStatusRequest(model_spec=spec)
        response = yield Call(GET_MODEL_STATUS, request, deadline, spec, wait_for_ready=wait_for_ready)
        return status_of(response, model=spec.name)

    def wait_until_ready(self, model: str | None, *, version: int | None, timeout_s: float) -> Steps[ModelStatus]:
        """See `client.Client.wait_until_ready`."""
        deadline = time.monotonic() + check_timeout(timeout_s)
        spec = self._spec(model, version=version)
        pause, last = FIRST_POLL_S, "the server does not answer"
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
        self, models: Sequence[ServedModel], *, metrics: Sequence[str], timeout_s: float | None
    ) -> Steps[dict[str, int]]:
        """See `client.Client.reload`."""
        request = reload_request(models, metrics)
        deadline = self._deadline(RELOAD_TIMEOUT_S if timeout_s is None else timeout_s)
        response = yield Call(RELOAD, request, deadline)
        if response.status.error_code:  # the RPC has the same status, but only from servers since 2.4
            raise ServerError(
                response.status.error_message,
                address=self._settings.server,
                hint=f"the configuration was refused ({enum_name(wire.Code, response.status.error_code)})",
            )
        return {metric.name: metric.int64_value_increase for metric in response.metric}

    def health(self, service: str, *, timeout_s: float | None) -> Steps[str]:
        """See `client.Client.health`."""
        request = health_request(service)
        try:
            response = yield Call(HEALTH, request, self._deadline(timeout_s))
        except NotSupported as error:
            error.hint = "switch it on with --enable_grpc_healthcheck_service=true, or use status()"
            raise
        return enum_name(wire.HealthCheckResponse.ServingStatus, response.status)

    def _spec(
        self, model: str | None, *, version: int | None = None, label: str | None = None, signature: str = ""
    ) -> wire.ModelSpec:
        return model_spec(model or self._settings.model, version=version, label=label, signature=signature)

    def _deadline(self, timeout_s: float | None) -> float | None:
        """When an operation must be done; None if only each of its requests has a deadline, the client's."""
        return None if timeout_s is None else time.monotonic() + check_timeout(timeout_s)

    def _parse(self, parse: Callable[..., T], response: Any, spec: wire.ModelSpec, **arguments: Any) -> T:
        """What `parse` makes of a response; a BadAnswer says where the answer is from."""
        try:
            return parse(response, **arguments)
        except BadAnswer as error:
            error.address, error.model = self._settings.server, model_text(spec)
            error.hint = error.hint or OTHER_SERVER
            raise
