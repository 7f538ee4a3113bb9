"""The operations that ask a model: predict, read, run and classify. `Operations` has these and those about models."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import (
    AccessDenied,
    InklingError,
    InvalidInput,
    InvalidResponse,
    NotSupported,
    SignatureNotFound,
    VersionNotFound,
)
from ..protocol import wire_pb2 as wire
from ..protocol.inference_messages import (
    classifications_of,
    classify_request,
    outputs_of,
    predict_request,
    prediction_of,
)
from ..protocol.model_messages import model_spec
from ..protocol.rpc import CLASSIFY, PREDICT, Call
from ..protocol.status import rows_limit
from ..results import Classification, Outputs, Prediction
from ..settings import Settings
from .effects import Operation, SendAll, Work
from .images import LIGHT_ON_DARK, Inverted, as_images, refuse_unlike_mnist
from .models import ModelOperations
from .options import VersionOptions
from .signature_check import find_problem
from .splitting import Inputs, as_arrays, join_parts, num_rows, plan_parts, replan_parts, take_rows

if TYPE_CHECKING:
    from ..reading.page import Page
    from ..reading.picture import PictureSource
    from ..reading.result import Reading


class _PredictCall(NamedTuple):
    """What one call of `predict` or `run` asks for, and its requests: one for all rows, or one for each part."""

    spec: wire.ModelSpec
    inputs: Inputs
    outputs: Sequence[str]  # names of those to be sent back; all if empty
    deadline: float | None

    def whole(self) -> Call:
        return Call(PREDICT, predict_request(self.spec, self.inputs, self.outputs), self.deadline, self.spec)

    def in_parts(self, parts: Sequence[slice], *, max_in_flight: int) -> SendAll:
        arrays = as_arrays(self.inputs)

        def part_call(number: int) -> Call:
            part = parts[number]
            request = predict_request(self.spec, take_rows(self.inputs, arrays, part), self.outputs)
            return Call(PREDICT, request, self.deadline, self.spec, rows=part)

        return SendAll(part_call, len(parts), max_in_flight)

    def pinned(self, version: int) -> "_PredictCall":
        """The same, asked of one version."""
        spec = model_spec(self.spec.name, version=version, signature=self.spec.signature_name)
        return self._replace(spec=spec)


class Operations(ModelOperations):
    """All operations, with what they remember: signatures, and servers' limits."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._rows_limits: dict[str, int] = {}  # by model: the most rows that its server takes in one request

    def predict(
        self,
        images: ArrayLike,
        *,
        model: str | None = None,
        check: bool | None = None,
        as_is: bool = False,
        **options: Unpack[VersionOptions],
    ) -> Operation[Prediction]:
        """See `Client.predict`."""
        array = as_images(images)
        spec, deadline = self._asked(model, **options)
        try:
            if not as_is:
                refuse_unlike_mnist(array)
        except Inverted as inverted:
            if not (yield from self._surely_takes_dark_on_light(spec, deadline)):
                raise inverted from None
        return (yield from self._predict(array, spec, deadline, check=check))

    def _predict(
        self, images: NDArray[np.uint8], spec: wire.ModelSpec, deadline: float | None, *, check: bool | None
    ) -> Operation[Prediction]:
        call = _PredictCall(spec, {"images": images}, (), deadline)
        several = len(images) > 1  # one image needs no plan for its parts
        outputs = yield from self._run(call, batched=several, check=check)
        return self._parse(prediction_of, outputs, spec, num_images=len(images))

    def _predict_light_on_dark(
        self, images: NDArray[np.uint8], model: str | None, *, check: bool | None, **options: Unpack[VersionOptions]
    ) -> Operation[Prediction]:
        """Of images as MNIST's, whatever the model's own are."""
        spec, deadline = self._asked(model, **options)
        if (yield from self._takes_dark_on_light(spec, deadline)):
            by_signature, _ = self._asked(model, signature=LIGHT_ON_DARK, **options)
            try:
                return (yield from self._predict(images, by_signature, deadline, check=check))
            except SignatureNotFound:  # a newer version takes light on dark
                pass
        return (yield from self._predict(images, spec, deadline, check=check))

    def _takes_dark_on_light(self, spec: wire.ModelSpec, deadline: float | None) -> Operation[bool]:
        """Whether the model takes dark ink on light paper, which Inkling's models tell by a signature for the others.

        Not if the server does not tell a model's signatures, or not to this caller.
        """
        metadata = self._metadata.get(spec)
        try:
            if metadata is None:
                metadata = yield from self._fetch_metadata(spec, deadline)
        except (AccessDenied, NotSupported):
            return False
        return LIGHT_ON_DARK in metadata.signatures

    def _surely_takes_dark_on_light(self, spec: wire.ModelSpec, deadline: float | None) -> Operation[bool]:
        """The same of a server that can be asked; one that cannot gives no reason to send such images."""
        try:
            return (yield from self._takes_dark_on_light(spec, deadline))
        except InklingError:
            return False

    def read(
        self,
        picture: "PictureSource | Page",
        *,
        model: str | None = None,
        check: bool | None = None,
        **options: Unpack[VersionOptions],
    ) -> "Operation[Reading]":
        """See `Client.read`."""
        # Not at the top: many users of the client never read a picture.
        from ..reading.page import Page, find_digits
        from ..reading.result import Reading
        from ..reading.rounds import advance, by_version, reading_rounds

        self._asked(model, **options)  # refuses options that make no sense before the work on the picture
        page = picture if isinstance(picture, Page) else (yield Work("find digits", lambda: find_digits(picture)))
        rounds = reading_rounds(page)
        step = advance(rounds, None)
        prediction: Prediction | None = None

        def next_step() -> "NDArray[np.uint8] | Reading":
            assert prediction is not None
            try:
                return advance(rounds, prediction.probabilities)
            except InvalidInput:  # of the picture, which is looked at once more if it lies on its side
                raise
            except ValueError as error:
                raise InvalidResponse(str(error), address=self._settings.server, model=prediction.model_name) from error

        while not isinstance(step, Reading):
            prediction = yield from self._predict_light_on_dark(step, model, check=check, **options)
            step = yield Work("choose digits", next_step)
        return by_version(step, prediction.version) if prediction else step

    def run(
        self,
        model_name: str | None,
        inputs: Inputs,
        *,
        signature: str = "",
        outputs: Sequence[str] = (),
        batched: bool = False,
        check: bool | None = None,
        **options: Unpack[VersionOptions],
    ) -> Operation[Outputs]:
        """See `Client.run`."""
        spec, deadline = self._asked(model_name, signature=signature, **options)
        return (yield from self._run(_PredictCall(spec, inputs, outputs, deadline), batched=batched, check=check))

    def _run(self, call: _PredictCall, *, batched: bool, check: bool | None) -> Operation[Outputs]:
        """The outputs of one request, or of as many as a batch needs."""
        if self._settings.check_inputs if check is None else check:
            yield from self._check(call)
        if batched and len(parts := self._plan(call)) > 1:
            return (yield from self._run_parts(call, parts))
        try:
            response = yield call.whole()
        except InvalidInput as error:
            if not batched or not self._learn_rows_limit(call, error, sent=num_rows(call.inputs)):
                raise
            return (yield from self._run_parts(call, self._plan(call)))
        result = self._parse(outputs_of, response, call.spec)
        self._metadata.invalidate_if_changed(call.spec, result.version)
        return result

    def _run_parts(self, call: _PredictCall, parts: Sequence[slice]) -> Operation[Outputs]:
        """The outputs of a batch that is sent in parts, all from one version of the model."""
        try:
            results = yield from self._send_parts(call, parts)
        except InvalidInput as error:
            if not self._learn_rows_limit(call, error, sent=max(part.stop - part.start for part in parts)):
                raise
            parts = replan_parts(parts, max_rows=self._max_rows(call))
            results = yield from self._send_parts(call, parts)
        results = yield from self._of_one_version(call, parts, results)
        self._metadata.invalidate_if_changed(call.spec, results[0].version)
        rows = [part.stop - part.start for part in parts]
        return self._parse(join_parts, results, call.spec, rows=rows)

    def _of_one_version(
        self, call: _PredictCall, parts: Sequence[slice], results: list[Outputs]
    ) -> Operation[list[Outputs]]:
        """The results, after the parts that came from another version are asked again.

        A new version was published in between, or taken back. Then it may be gone, and the older one is asked.
        """
        versions = sorted({result.version for result in results}, reverse=True)
        if len(versions) == 1:
            return results
        for version in versions:
            stale = [part for part, result in zip(parts, results, strict=True) if result.version != version]
            try:
                again = iter((yield from self._send_parts(call.pinned(version), stale)))
            except VersionNotFound:
                if version == versions[-1]:
                    raise
            else:
                return [result if result.version == version else next(again) for result in results]
        return results

    def _send_parts(self, call: _PredictCall, parts: Sequence[slice]) -> Operation[list[Outputs]]:
        responses = yield call.in_parts(parts, max_in_flight=self._settings.max_in_flight)
        return [self._parse(outputs_of, response, call.spec) for response in responses]

    def _plan(self, call: _PredictCall) -> list[slice]:
        return plan_parts(call.inputs, max_bytes=self._settings.split_bytes, max_rows=self._max_rows(call))

    def _max_rows(self, call: _PredictCall) -> int:
        return min(self._settings.max_rows, self._rows_limits.get(call.spec.name, self._settings.max_rows))

    def _learn_rows_limit(self, call: _PredictCall, error: InvalidInput, *, sent: int) -> bool:
        """Whether the server refused `sent` rows because it takes fewer; its limit is remembered."""
        limit = rows_limit(error)
        if limit is None or not 0 < limit < sent:
            return False
        self._rows_limits[call.spec.name] = limit
        return True

    def _check(self, call: _PredictCall) -> Operation[None]:
        """Compare a call with the model's signatures.

        Raises: InvalidInput, SignatureNotFound.
        """
        server = self._settings.server
        metadata = self._metadata.get(call.spec)
        known = metadata is not None
        if metadata is None:
            metadata = yield from self._fetch_metadata(call.spec, call.deadline)
        problem = find_problem(metadata, call.spec.signature_name, call.inputs, call.outputs, address=server)
        if problem and known and not call.spec.HasField("version"):  # the model may be another one by now
            metadata = yield from self._fetch_metadata(call.spec, call.deadline)
            problem = find_problem(metadata, call.spec.signature_name, call.inputs, call.outputs, address=server)
        if problem:
            raise problem

    def classify(
        self,
        examples: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        signature: str = "classify",
        context: Mapping[str, Any] | None = None,
        **options: Unpack[VersionOptions],
    ) -> Operation[list[Classification]]:
        """See `Client.classify`."""
        spec, deadline = self._asked(model, signature=signature, **options)
        examples = [examples] if isinstance(examples, Mapping) else examples
        response = yield Call(CLASSIFY, classify_request(spec, examples, context), deadline, spec)
        return self._parse(classifications_of, response, spec, num_examples=len(examples))
