"""Every operation of the client, once, for both of its faces.

An operation is a generator that talks to nobody. It yields what it wants done (a step: calls to make, a pause, work to
do), is sent what came of it, and returns the operation's result. `blocking.py` and `aio.py` differ
only in how they perform a step. So requests, checks, splitting, polling and all decisions about errors are here, and a
test can drive them without a server.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import BadAnswer, InvalidInput, VersionNotFound
from ..protocol import wire_pb2 as wire
from ..protocol.messages import (
    classifications_of,
    classify_request,
    model_spec,
    outputs_of,
    predict_request,
    prediction_of,
)
from ..protocol.rpc import CLASSIFY, PREDICT, Call
from ..results import Classification, Outputs, Prediction
from ..settings import Settings
from .effects import SendAll, Steps, Work
from .inputs import as_images
from .models import ModelOperations
from .signature_check import find_problem
from .splitting import Inputs, as_arrays, count_rows, join_parts, plan_parts, replan_parts, take_rows

if TYPE_CHECKING:
    from ..reading.picture import PictureSource
    from ..reading.result import Reading

_ROWS_LIMIT = re.compile(r"larger than maximum input batch size (\d+)")


class Operations(ModelOperations):
    """All operations, with what is remembered between them: signatures, and servers' limits."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
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
        several = len(array) > 1  # one image needs no plan for its parts
        outputs = yield from self._run(spec, {"images": array}, (), batched=several, timeout_s=timeout_s, check=check)
        return self._parse(prediction_of, outputs, spec, num_images=len(array))

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
        from ..reading.page import find_digits
        from ..reading.result import Reading

        page = yield Work(lambda: find_digits(picture))
        if not len(page.images):
            return Reading.of(page, np.empty((0, 10), np.float32))
        prediction = yield from self.predict(
            page.images, model=model, version=version, label=label, timeout_s=timeout_s, check=None
        )

        def reading() -> Reading:
            try:
                return Reading.of(page, prediction.probabilities, model_version=prediction.model_version)
            except ValueError as error:
                raise BadAnswer(str(error), address=self._settings.server, model=prediction.model) from error

        return (yield Work(reading))

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
        return (yield from self._run(spec, inputs, outputs, batched=batched, timeout_s=timeout_s, check=check))

    def _run(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        *,
        batched: bool,
        timeout_s: float | None,
        check: bool | None,
    ) -> Steps[Outputs]:
        """The outputs of one call, or of as many as a batch needs."""
        deadline = self._deadline(timeout_s)
        if self._settings.check_inputs if check is None else check:
            yield from self._check(spec, inputs, outputs, deadline)
        if batched and len(parts := self._plan(spec, inputs)) > 1:
            return (yield from self._run_parts(spec, inputs, outputs, parts, deadline))
        try:
            response = yield Call(PREDICT, predict_request(spec, inputs, outputs), deadline, spec)
        except InvalidInput as error:
            if not batched or not self._learn_rows(spec, error, sent=count_rows(inputs)):
                raise
            return (yield from self._run_parts(spec, inputs, outputs, self._plan(spec, inputs), deadline))
        result = self._parse(outputs_of, response, spec)
        self._signatures.saw(spec, result.model_version)
        return result

    def _run_parts(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        parts: Sequence[slice],
        deadline: float | None,
    ) -> Steps[Outputs]:
        """The outputs of a batch that goes out in parts, all from one version of the model."""
        try:
            results = yield from self._send_parts(spec, inputs, outputs, parts, deadline)
        except InvalidInput as error:
            if not self._learn_rows(spec, error, sent=max(part.stop - part.start for part in parts)):
                raise
            parts = replan_parts(parts, max_rows=self._rows(spec))
            results = yield from self._send_parts(spec, inputs, outputs, parts, deadline)
        results = yield from self._of_one_version(spec, inputs, outputs, parts, results, deadline)
        self._signatures.saw(spec, results[0].model_version)
        rows = [part.stop - part.start for part in parts]
        return self._parse(join_parts, results, spec, rows=rows)

    def _of_one_version(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        parts: Sequence[slice],
        results: list[Outputs],
        deadline: float | None,
    ) -> Steps[list[Outputs]]:
        """The results, once those parts are asked again that another version answered.

        A new version was published in between, or taken back. Then it may be gone, and the older one is asked.
        """
        versions = sorted({result.model_version for result in results}, reverse=True)
        if len(versions) == 1:
            return results
        for version in versions:
            stale = [part for part, result in zip(parts, results, strict=True) if result.model_version != version]
            pinned = model_spec(spec.name, version=version, signature=spec.signature_name)
            try:
                again = iter((yield from self._send_parts(pinned, inputs, outputs, stale, deadline)))
            except VersionNotFound:
                if version == versions[-1]:
                    raise
            else:
                return [result if result.model_version == version else next(again) for result in results]
        return results

    def _send_parts(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        parts: Sequence[slice],
        deadline: float | None,
    ) -> Steps[list[Outputs]]:
        arrays = as_arrays(inputs)

        def call(number: int) -> Call:
            part = parts[number]
            return Call(
                PREDICT, predict_request(spec, take_rows(inputs, arrays, part), outputs), deadline, spec, rows=part
            )

        responses = yield SendAll(call, len(parts), self._settings.max_in_flight)
        return [self._parse(outputs_of, response, spec) for response in responses]

    def _plan(self, spec: wire.ModelSpec, inputs: Inputs) -> list[slice]:
        return plan_parts(inputs, max_bytes=self._settings.split_bytes, max_rows=self._rows(spec))

    def _rows(self, spec: wire.ModelSpec) -> int:
        return min(self._settings.max_rows, self._rows_limits.get(spec.name, self._settings.max_rows))

    def _learn_rows(self, spec: wire.ModelSpec, error: InvalidInput, *, sent: int) -> bool:
        """Whether the server refused `sent` rows because it takes fewer; how many is remembered."""
        limit = _ROWS_LIMIT.search(error.details)
        if limit is None or not 0 < int(limit[1]) < sent:
            return False
        self._rows_limits[spec.name] = int(limit[1])
        return True

    def _check(
        self,
        spec: wire.ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        deadline: float | None,
    ) -> Steps[None]:
        """Hold a request against the model's signatures. Raises: InvalidInput, SignatureNotFound."""
        metadata = self._signatures.find(spec)
        known = metadata is not None
        if metadata is None:
            metadata = yield from self._fetch_metadata(spec, deadline)
        problem = find_problem(metadata, spec.signature_name, inputs, outputs)
        if problem and known and not spec.HasField("version"):  # the model may be another one by now
            metadata = yield from self._fetch_metadata(spec, deadline)
            problem = find_problem(metadata, spec.signature_name, inputs, outputs)
        if problem:
            problem.address = self._settings.server
            raise problem

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
        request = classify_request(spec, examples, context)
        response = yield Call(CLASSIFY, request, self._deadline(timeout_s), spec)
        return self._parse(classifications_of, response, spec, num_examples=len(examples))
