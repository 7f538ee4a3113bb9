"""Every operation of the client, once, for both of its faces.

An operation is a generator that talks to nobody. It yields what it wants done (a step: calls to make, a pause, work to
do), is sent what came of it, and returns the operation's result. `client.blocking` and `client.asynchronous` differ
only in how they perform a step. So requests, checks, splitting, polling and all decisions about errors are here, and a
test can drive them without a server.
"""

import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client import checks, messages, rpc, splitting
from client.answers import Classification, ModelMetadata, ModelStatus, Outputs, Prediction, ServedModel
from client.errors import (
    OTHER_SERVER,
    BadAnswer,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotSupported,
    ServerError,
    ServerUnavailable,
)
from client.proto import wire_pb2 as wire
from client.settings import Settings
from client.splitting import Inputs

if TYPE_CHECKING:
    from client.image_open import PictureSource
    from client.reading import Reading

FIRST_POLL_S = 0.05
LAST_POLL_S = 1.0
RELOAD_TIMEOUT_S = 120.0

_ROWS_LIMIT = re.compile(r"larger than maximum input batch size (\d+)")


@dataclass(frozen=True, slots=True)
class SendAll:
    """Make these calls, so many at once; the responses come back in their order, or the first error."""

    calls: Sequence[rpc.Call]
    max_in_flight: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Compute something that takes long enough to be kept from an event loop."""

    function: Callable[[], Any]


Step = rpc.Call | SendAll | Pause | Work
T = TypeVar("T")
Steps = Generator[Step, Any, T]


class Operations:
    """The operations, with what is remembered between them: signatures, and servers' limits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signatures = checks.SignatureCache()
        self._rows_limits: dict[str, int] = {}  # model: the most rows that its server takes in one request

    def predict(
        self,
        images: ArrayLike,
        *,
        model: str | None,
        version: int | None,
        label: str | None,
        timeout_s: float | None,
        check: bool | None,
    ) -> Steps[Prediction]:
        """See `client.Client.predict`."""
        array = as_images(images)
        spec = self._spec(model, version=version, label=label)
        outputs = yield from self._run(
            spec, {"images": array}, (), batched=True, deadline=self._deadline(timeout_s), check=check
        )
        return self._parse(messages.prediction_of, outputs, spec, num_images=len(array))

    def read(
        self,
        picture: "PictureSource",
        *,
        model: str | None,
        version: int | None,
        label: str | None,
        timeout_s: float | None,
    ) -> "Steps[Reading]":
        """See `client.Client.read`."""
        from client.images import find_digits
        from client.reading import Reading

        page = yield Work(lambda: find_digits(picture))
        if not len(page.images):
            return Reading.of(page, np.empty((0, 10), np.float32))
        prediction = yield from self.predict(
            page.images, model=model, version=version, label=label, timeout_s=timeout_s, check=None
        )
        try:
            return Reading.of(page, prediction.probabilities, model_version=prediction.model_version)
        except ValueError as error:
            raise BadAnswer(str(error), address=self._settings.server, model=prediction.model) from error

    def run(
        self,
        model: str | None,
        inputs: Inputs,
        *,
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str],
        batched: bool,
        timeout_s: float | None,
        check: bool | None,
    ) -> Steps[Outputs]:
        """See `client.Client.run`."""
        spec = self._spec(model, version=version, label=label, signature=signature)
        return (
            yield from self._run(
                spec, inputs, outputs, batched=batched, deadline=self._deadline(timeout_s), check=check
            )
        )

    def _run(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        *,
        batched: bool,
        deadline: float,
        check: bool | None,
    ) -> Steps[Outputs]:
        """The outputs of one call, or of as many as a batch needs."""
        if self._settings.check_inputs if check is None else check:
            yield from self._check(spec, inputs, outputs, deadline)
        if batched and len(parts := self._plan(spec, inputs)) > 1:
            return (yield from self._run_parts(spec, inputs, outputs, parts, deadline))
        try:
            response = yield rpc.Call(rpc.PREDICT, messages.predict_request(spec, inputs, outputs), deadline, spec)
        except InvalidInput as error:
            if not batched or not self._learn_rows(spec, error):
                raise
            return (yield from self._run_parts(spec, inputs, outputs, self._plan(spec, inputs), deadline))
        result = self._parse(messages.outputs_of, response, spec)
        self._signatures.saw(spec, result.model_version)
        return result

    def _run_parts(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        parts: Sequence[slice],
        deadline: float,
    ) -> Steps[Outputs]:
        """The outputs of a batch that goes out in parts, all from one version of the model."""
        try:
            results = yield from self._send_parts(spec, inputs, outputs, parts, deadline)
        except InvalidInput as error:
            if not self._learn_rows(spec, error):
                raise
            parts = splitting.replan(parts, max_rows=self._rows(spec))
            results = yield from self._send_parts(spec, inputs, outputs, parts, deadline)
        newest = max(result.model_version for result in results)
        # A new version was published in between: the parts that the old one answered go out again, to the new one.
        stale = [index for index, result in enumerate(results) if result.model_version != newest]
        if stale:
            pinned = messages.model_spec(spec.name, version=newest, signature=spec.signature_name)
            again = yield from self._send_parts(pinned, inputs, outputs, [parts[index] for index in stale], deadline)
            for index, result in zip(stale, again, strict=True):
                results[index] = result
        self._signatures.saw(spec, newest)
        rows = [part.stop - part.start for part in parts]
        return self._parse(splitting.join, results, spec, rows=rows)

    def _send_parts(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        parts: Sequence[slice],
        deadline: float,
    ) -> Steps[list[Outputs]]:
        arrays = splitting.as_arrays(inputs)
        calls = [
            rpc.Call(
                rpc.PREDICT,
                messages.predict_request(spec, splitting.take(arrays, part), outputs),
                deadline,
                spec,
                rows=part,
            )
            for part in parts
        ]
        responses = yield SendAll(calls, self._settings.max_in_flight)
        return [self._parse(messages.outputs_of, response, spec) for response in responses]

    def _plan(self, spec: wire.ModelSpec, inputs: Inputs) -> list[slice]:
        return splitting.plan(inputs, max_bytes=self._settings.split_bytes, max_rows=self._rows(spec))

    def _rows(self, spec: wire.ModelSpec) -> int:
        return min(self._settings.max_rows, self._rows_limits.get(spec.name, self._settings.max_rows))

    def _learn_rows(self, spec: wire.ModelSpec, error: InvalidInput) -> bool:
        """Whether the server said how many rows it takes, and that is news."""
        limit = _ROWS_LIMIT.search(error.details)
        if limit is None or not 0 < int(limit[1]) < self._rows(spec):
            return False
        self._rows_limits[spec.name] = int(limit[1])
        return True

    def _check(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        deadline: float,
    ) -> Steps[None]:
        """Hold a request against the model's signatures. Raises: InvalidInput, SignatureNotFound."""
        metadata = self._signatures.find(spec)
        known = metadata is not None
        if metadata is None:
            metadata = yield from self._fetch_metadata(spec, deadline)
        problem = checks.find_problem(metadata, spec.signature_name, inputs, outputs)
        if problem and known and not spec.HasField("version"):  # the model may be another one by now
            metadata = yield from self._fetch_metadata(spec, deadline)
            problem = checks.find_problem(metadata, spec.signature_name, inputs, outputs)
        if problem:
            problem.address = self._settings.server
            raise problem

    def _fetch_metadata(self, spec: wire.ModelSpec, deadline: float) -> Steps[ModelMetadata]:
        plain = wire.ModelSpec()
        plain.CopyFrom(spec)
        plain.signature_name = ""
        request = messages.metadata_request(plain)
        response = yield rpc.Call(rpc.GET_MODEL_METADATA, request, deadline, spec)
        metadata = self._parse(messages.metadata_of, response, spec)
        self._signatures.keep(spec, metadata)
        return metadata

    def classify(
        self,
        examples: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        model: str | None,
        signature: str,
        version: int | None,
        label: str | None,
        context: Mapping[str, Any] | None,
        timeout_s: float | None,
    ) -> Steps[list[Classification]]:
        """See `client.Client.classify`."""
        spec = self._spec(model, version=version, label=label, signature=signature)
        examples = [examples] if isinstance(examples, Mapping) else examples
        request = messages.classify_request(spec, examples, context)
        response = yield rpc.Call(rpc.CLASSIFY, request, self._deadline(timeout_s), spec)
        return self._parse(messages.classifications_of, response, spec, num_examples=len(examples))

    def metadata(
        self, model: str | None, *, version: int | None, label: str | None, timeout_s: float | None
    ) -> Steps[ModelMetadata]:
        """See `client.Client.metadata`."""
        spec = self._spec(model, version=version, label=label)
        return (yield from self._fetch_metadata(spec, self._deadline(timeout_s)))

    def status(self, model: str | None, *, version: int | None, timeout_s: float | None) -> Steps[ModelStatus]:
        """See `client.Client.status`."""
        return (yield from self._status(self._spec(model, version=version), self._deadline(timeout_s)))

    def _status(
        self, spec: wire.ModelSpec, deadline: float, *, wait_for_ready: bool | None = None
    ) -> Steps[ModelStatus]:
        request = wire.GetModelStatusRequest(model_spec=spec)
        response = yield rpc.Call(rpc.GET_MODEL_STATUS, request, deadline, spec, wait_for_ready=wait_for_ready)
        return messages.status_of(response, model=spec.name)

    def wait_until_ready(self, model: str | None, *, version: int | None, timeout_s: float) -> Steps[ModelStatus]:
        """See `client.Client.wait_until_ready`."""
        deadline = self._deadline(timeout_s)
        spec = self._spec(model, version=version)
        pause = FIRST_POLL_S
        while True:
            try:
                status = yield from self._status(spec, deadline, wait_for_ready=True)
            except (ModelNotFound, ServerUnavailable) as error:  # not yet loaded, or not yet up
                last = error.details
            else:
                if status.available:
                    return status
                last = "; ".join(str(one) for one in status.versions) or "no versions"
                failed = [one for one in status.versions if one.error]
                if failed and all(one.state == "END" for one in status.versions):
                    raise ServerError(
                        last,
                        address=self._settings.server,
                        model=rpc.model_text(spec),
                        hint="the version does not load; the server's log says more",
                    )
            if time.monotonic() + pause > deadline:
                raise DeadlineExceeded(
                    f"not ready after {timeout_s:g} s: {last}",
                    address=self._settings.server,
                    model=rpc.model_text(spec),
                    hint="is the name right, and is there a version to load?",
                )
            yield Pause(pause)
            pause = min(2 * pause, LAST_POLL_S)

    def reload(
        self, models: Sequence[ServedModel], *, metrics: Sequence[str], timeout_s: float | None
    ) -> Steps[dict[str, int]]:
        """See `client.Client.reload`."""
        request = messages.reload_request(models, metrics)
        deadline = self._deadline(RELOAD_TIMEOUT_S if timeout_s is None else timeout_s)
        response = yield rpc.Call(rpc.RELOAD, request, deadline)
        if response.status.error_code:  # the RPC has the same status, but only from servers since 2.4
            raise ServerError(
                response.status.error_message,
                address=self._settings.server,
                hint=f"the configuration was refused ({wire.Code.Name(response.status.error_code)})",
            )
        return {metric.name: metric.int64_value_increase for metric in response.metric}

    def health(self, service: str, *, timeout_s: float | None) -> Steps[str]:
        """See `client.Client.health`."""
        request = wire.HealthCheckRequest(service=service)
        try:
            response = yield rpc.Call(rpc.HEALTH, request, self._deadline(timeout_s))
        except NotSupported as error:
            error.hint = "switch it on with --enable_grpc_healthcheck_service=true, or use status()"
            raise
        return str(wire.HealthCheckResponse.ServingStatus.Name(response.status))

    def _parse(self, parse: Callable[..., T], response: Any, spec: wire.ModelSpec, **arguments: Any) -> T:
        """What `parse` makes of a response; a BadAnswer says where the answer is from."""
        try:
            return parse(response, **arguments)
        except BadAnswer as error:
            error.address, error.model = self._settings.server, rpc.model_text(spec)
            error.hint = error.hint or OTHER_SERVER
            raise

    def _spec(
        self, model: str | None, *, version: int | None = None, label: str | None = None, signature: str = ""
    ) -> wire.ModelSpec:
        return messages.model_spec(model or self._settings.model, version=version, label=label, signature=signature)

    def _deadline(self, timeout_s: float | None) -> float:
        timeout_s = self._settings.timeout_s if timeout_s is None else timeout_s
        if not timeout_s > 0:
            raise InvalidInput(f"timeout_s={timeout_s}; expected more than 0")
        return time.monotonic() + timeout_s


def as_images(images: Any) -> NDArray[np.uint8]:
    """uint8 [n, height, width] from one image or several: arrays, Pillow's greyscale images, or lists of either.

    Raises: InvalidInput.
    """
    try:
        array = images if isinstance(images, np.ndarray) else np.asarray(images)
    except ValueError as error:
        raise InvalidInput(f"the images are not all of one size ({error}); expected one array of them") from error
    if array.dtype != np.uint8:
        array = _whole_grey_values(array)
    if array.ndim == 2:
        return array[np.newaxis]
    if array.ndim == 4 and array.shape[3] == 1:
        return array[:, :, :, 0]
    if array.ndim != 3:
        raise InvalidInput(
            f"images of shape {list(array.shape)}; expected [n, 28, 28], or [28, 28] for one; "
            "read() takes pictures of any size and colour"
        )
    return array


def _whole_grey_values(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Other integers are taken if they are grey values; floats are not, as their scale would be a guess."""
    if array.dtype.kind in "iu":
        if array.size == 0 or (array.min() >= 0 and array.max() <= 255):
            return array.astype(np.uint8)
        raise InvalidInput(f"images with values from {array.min()} to {array.max()}; expected 0 (paper) to 255 (ink)")
    raise InvalidInput(
        f"images of dtype {array.dtype}; expected uint8, 0 (paper) to 255 (ink): "
        "for values from 0 to 1, (images * 255).round().astype(np.uint8)"
    )
