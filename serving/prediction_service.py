"""PredictionService without a transport: what grpc/api.py and rest/api.py call for each request.

Each inference is a `Call`: it leases the version, takes the time, counts the request, and writes it to the request
log. All methods run on the event loop. Cancelling a coroutine means that the caller has gone: what has not
begun by then is not computed.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType

from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.message import Message
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest, ClassificationResponse
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest, MultiInferenceResponse
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResponse

from . import inference
from .arrays import Array
from .errors import ServingError, invalid_argument, status_of
from .inference import Work
from .lifecycle.manager import Manager
from .load_shedding import Drain
from .model.model import Lease, Model
from .monitoring import tracing
from .monitoring.events import ServerEvents
from .monitoring.request_log import RequestLog
from .names import DEFAULT_SIGNATURE, ModelKey
from .offload import Offload

MAX_TASKS = 1000  # of a MultiInference: each needs a signature of its own
LOGS = {  # the field of a PredictionLog that holds each RPC
    "Predict": "predict_log",
    "Classify": "classify_log",
    "Regress": "regress_log",
    "MultiInference": "multi_inference_log",
}


class Call:
    """One inference request, from the choice of its version to its record in the request log.

    It is counted by signature once `begin` was called, when the `with` block ends.
    """

    __slots__ = ("_api", "_events", "_lease", "_num_examples", "_request_log", "_spec", "_started", "model")

    def __init__(
        self, model: Model, api: str, spec: ModelSpec, *, events: ServerEvents, request_log: RequestLog | None
    ) -> None:
        self.model = model
        self._lease = Lease(model)
        self._api = api
        self._spec = spec
        self._events = events
        self._request_log = request_log
        self._started: float | None = None
        self._num_examples = 0
        tracing.current().found(model_name=model.name, version=model.version)

    def begin(self, *, num_examples: int) -> None:
        """Start the clock of a request for `num_examples` examples; if it fails, that is what the caller claimed."""
        self._started = time.perf_counter()
        self._num_examples = num_examples

    async def record(self, request: Message, response: Message, work: Work) -> None:
        """Write the request and its response to the request log, if this one is sampled."""
        if self._is_sampled():
            await work.do(partial(self._write, request, response, self._spec))

    async def record_arrays(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        output_filter: Sequence[str],
        work: Work,
    ) -> None:
        """`record` for a Predict that came and goes without messages."""
        if self._is_sampled():
            await work.do(partial(self._write_arrays, signature_name, inputs, outputs, output_filter))

    def __enter__(self) -> "Call":
        self._lease.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.__exit__(kind, error, trace)
        if self._started is None:
            return
        latency_s = time.perf_counter() - self._started
        # What a caller makes up must not make a time series.
        name = self._spec.signature_name or DEFAULT_SIGNATURE
        name = name if name in self.model.signatures else "unknown"
        key = ModelKey(model_name=self.model.name, version=self.model.version, signature_name=name)
        self._events.signature_finished(**key, code=status_of(error), latency_s=latency_s)
        if error is None:
            self._events.runtime_finished(**key, api=self._api, latency_s=latency_s)
            self._events.examples(model_name=self.model.name, num_examples=self._num_examples)

    def _is_sampled(self) -> bool:
        return self._request_log is not None and self._request_log.wants()

    def _write_arrays(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        output_filter: Sequence[str],
    ) -> None:
        request = inference.predict_request(self.model, signature_name, inputs)
        request.output_filter.extend(output_filter)
        response = inference.predict_response(self.model, signature_name, outputs, as_content=True)
        self._write(request, response, request.model_spec)

    def _write(self, request: Message, response: Message, spec: ModelSpec) -> None:
        assert self._request_log is not None
        log = PredictionLog()
        kept = getattr(log, LOGS[self._api])
        kept.request.CopyFrom(request)
        kept.response.CopyFrom(response)
        log.log_metadata.model_spec.CopyFrom(spec)
        self._request_log.write(log)


class PredictionService:
    """The RPCs of PredictionService."""

    def __init__(
        self,
        manager: Manager,
        *,
        drain: Drain,
        events: ServerEvents,
        request_log: RequestLog | None = None,
        as_content: bool = False,
        check_method: bool = False,
        offload: Offload | None = None,
    ) -> None:
        """A service of the manager's models.

        Args:
            manager: knows the models.
            drain: whether requests come too late.
            events: is told of each inference.
            request_log: where sampled requests go, if anywhere.
            as_content: respond with tensor_content rather than with typed lists.
            check_method: require of Predict, Classify and Regress that the signature's method_name is theirs.
            offload: converts what is long; None for threads of its own.
        """
        self._manager = manager
        self._drain = drain
        self._events = events
        self._request_log = request_log
        self._offload = offload or Offload()
        self._as_content = as_content
        self._check_method = check_method

    def call(self, api: str, spec: ModelSpec, *, num_examples: int | None = None) -> Call:
        """A request for the version that `spec` means.

        Args:
            api: the RPC's name.
            spec: names the model, and the version by number or label, or the newest.
            num_examples: as many as the caller claims; then the clock runs. None: not known before `Call.begin`.

        Raises: ServingError if there is no such version, or the server drains.
        """
        call = Call(self._find(spec), api, spec, events=self._events, request_log=self._request_log)
        if num_examples is not None:
            call.begin(num_examples=num_examples)
        return call

    def _find(self, spec: ModelSpec) -> Model:
        self._drain.check()
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        version = spec.version.value if spec.HasField("version") else None
        try:
            return self._manager.find(spec.name, version=version, label=spec.version_label)
        except ServingError:
            self._drain.check_loaded()
            raise

    async def predict(self, request: PredictRequest, *, size: int = 0) -> PredictResponse:
        """Predict.

        Args:
            request: as it came.
            size: of the request, in the sense of offload.py.

        Raises: ServingError.
        """
        _require_spec(request)
        work = Work(self._offload, size)
        with self.call("Predict", request.model_spec, num_examples=_num_rows(request)) as call:
            response = await inference.predict(
                call.model, request, as_content=self._as_content, check_method=self._check_method, work=work
            )
            await call.record(request, response, work)
        return response

    async def predict_arrays(
        self, call: Call, signature_name: str, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Predict without messages.

        Args:
            call: an open one.
            signature_name: empty for the default signature.
            inputs: by alias, with the dtypes of the signature; strings as object arrays of bytes.
            output_filter: aliases of the outputs to compute; all if empty.

        Returns: the outputs by alias; strings as object arrays of bytes.

        Raises: ServingError.
        """
        signature = call.model.signature(signature_name)
        inference.require_method(signature, check=self._check_method)
        first = next(iter(inputs.values()), None)
        call.begin(num_examples=len(first) if first is not None and first.ndim else 1)
        outputs = await call.model.predict(signature, inputs, output_filter)
        size = inference.size_of(inputs, as_content=True) + inference.size_of(outputs, as_content=True)
        await call.record_arrays(signature.name, inputs, outputs, output_filter, Work(self._offload, size))
        return outputs

    async def classify(self, request: ClassificationRequest, *, size: int = 0) -> ClassificationResponse:
        """Classify; the arguments are those of `predict`.

        Raises: ServingError.
        """
        _require_spec(request)
        work = Work(self._offload, size)
        with self.call("Classify", request.model_spec, num_examples=_num_examples(request.input)) as call:
            response = await inference.classify(call.model, request, check_method=self._check_method, work=work)
            await call.record(request, response, work)
        return response

    async def regress(self, request: RegressionRequest, *, size: int = 0) -> RegressionResponse:
        """Regress; the arguments are those of `predict`.

        Raises: ServingError.
        """
        _require_spec(request)
        work = Work(self._offload, size)
        with self.call("Regress", request.model_spec, num_examples=_num_examples(request.input)) as call:
            response = await inference.regress(call.model, request, check_method=self._check_method, work=work)
            await call.record(request, response, work)
        return response

    async def multi_inference(self, request: MultiInferenceRequest, *, size: int = 0) -> MultiInferenceResponse:
        """MultiInference; the arguments are those of `predict`.

        Raises: ServingError.
        """
        work = Work(self._offload, size)
        if not request.tasks:
            raise invalid_argument("Inference request must have at least one task.")
        if len(request.tasks) > MAX_TASKS:
            raise invalid_argument(f"Inference request has {len(request.tasks)} tasks; at most {MAX_TASKS}")
        names = {task.model_spec.name for task in request.tasks}
        if "" in names:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if len(names) > 1:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        spec = request.tasks[0].model_spec
        with self.call("MultiInference", spec, num_examples=_num_examples(request.input)) as call:
            response = await inference.multi_inference(call.model, request, check_method=self._check_method, work=work)
            await call.record(request, response, work)
        return response

    def get_model_metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        """The signatures of a version.

        Raises: ServingError.
        """
        _require_spec(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for name in set(request.metadata_field):
            if name != "signature_def":
                raise invalid_argument(f"Metadata field {name} is not supported")
        model = self._find(request.model_spec)
        response = GetModelMetadataResponse()
        response.model_spec.name = model.name
        response.model_spec.version.value = model.version
        signatures = SignatureDefMap()
        for name, definition in model.signature_defs.items():
            signatures.signature_def[name].CopyFrom(definition)
        packed = AnyProto()
        packed.Pack(signatures)
        response.metadata["signature_def"].CopyFrom(packed)
        return response


def _require_spec(request: Message) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")


def _num_rows(request: PredictRequest) -> int:
    """The size of the first dimension of a request's inputs, 1 if there is none."""
    for tensor in request.inputs.values():
        return tensor.tensor_shape.dim[0].size if tensor.tensor_shape.dim else 1
    return 1


def _num_examples(given: Input) -> int:
    return len(given.example_list.examples) + len(given.example_list_with_context.examples)
