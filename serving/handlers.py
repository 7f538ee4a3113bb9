"""The API without a transport: what grpc_api.py and rest_api.py call for each request.

A request leases the version that answers it: the version stays in memory until the lease ends, even when a newer one
takes its place meanwhile. All methods run on the event loop. Cancelling a coroutine means that the caller has gone:
what has not begun by then is not computed.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from . import inference
from .config.models import check_configs
from .errors import ServingError, failed_precondition, invalid_argument, not_found, unavailable
from .lifecycle.manager import Manager
from .lifecycle.servables import Version
from .model.lease import Lease
from .model.model import Model, status_of
from .model.signatures import DEFAULT_SIGNATURE
from .monitoring.events import Labels, Observer, RequestLog
from .tensors import Array, to_proto

logger = logging.getLogger(__name__)

Response = TypeVar("Response")
LOGS = {  # the field of a PredictionLog that holds each RPC
    "Predict": "predict_log",
    "Classify": "classify_log",
    "Regress": "regress_log",
    "MultiInference": "multi_inference_log",
}


class Handlers:
    """All RPCs of PredictionService and ModelService."""

    def __init__(
        self,
        manager: Manager,
        *,
        observer: Observer,
        request_log: RequestLog | None = None,
        as_content: bool = False,
        check_method: bool = False,
    ) -> None:
        """Args:
        as_content: answer with tensor_content rather than with typed lists.
        check_method: ask of Predict, Classify and Regress that the signature's method_name is theirs.
        """
        self.draining = False
        self._manager = manager
        self._observer = observer
        self._request_log = request_log
        self._as_content = as_content
        self._check_method = check_method
        self._applying = asyncio.Lock()

    def lease(self, spec: model_pb2.ModelSpec) -> Lease:
        """The version that `spec` means; raises ServingError."""
        self._refuse_if_draining()
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        version = spec.version.value if spec.HasField("version") else None
        return Lease(self._manager.find(spec.name, version=version, label=spec.version_label))

    async def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Predict; raises ServingError."""
        _require_spec(request)
        return await self._infer(
            request,
            request.model_spec,
            "Predict",
            lambda model: inference.predict(
                model, request, as_content=self._as_content, check_method=self._check_method
            ),
            count=_rows(request),
        )

    async def predict_arrays(
        self, lease: Lease, signature_name: str, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Predict without protos.

        Args:
            inputs: by alias, with the dtypes of the signature; strings as object arrays of bytes.

        Raises: ServingError.
        """
        signature = lease.model.signature(signature_name)
        first = next(iter(inputs.values()), None)
        count = len(first) if first is not None and first.ndim else 1
        inference.require_method(signature, check=self._check_method)
        outputs = await self._timed(
            lease, signature.name, "Predict", lambda: lease.model.predict(signature, inputs, output_filter), count=count
        )
        if self._request_log is not None and self._request_log.wants(lease.model_name):
            log = prediction_log_pb2.PredictionLog()
            predict_log = log.predict_log
            inference.fill_spec(predict_log.request.model_spec, lease.model, signature.name)
            predict_log.response.model_spec.CopyFrom(predict_log.request.model_spec)
            for alias, array in inputs.items():
                predict_log.request.inputs[alias].CopyFrom(to_proto(array, as_content=True))
            for alias, array in outputs.items():
                predict_log.response.outputs[alias].CopyFrom(to_proto(array, as_content=True))
            log.log_metadata.model_spec.CopyFrom(predict_log.request.model_spec)
            self._request_log.write(log)
        return outputs

    async def classify(
        self, request: classification_pb2.ClassificationRequest
    ) -> classification_pb2.ClassificationResponse:
        """Classify; raises ServingError."""
        _require_spec(request)
        return await self._infer_examples(request, request.model_spec, "Classify", inference.classify)

    async def regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        """Regress; raises ServingError."""
        _require_spec(request)
        return await self._infer_examples(request, request.model_spec, "Regress", inference.regress)

    async def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest
    ) -> inference_pb2.MultiInferenceResponse:
        """MultiInference; raises ServingError."""
        if not request.tasks:
            raise invalid_argument("Inference request must have at least one task.")
        names = {task.model_spec.name for task in request.tasks}
        if "" in names:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if len(names) > 1:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        spec = request.tasks[0].model_spec
        return await self._infer_examples(request, spec, "MultiInference", inference.multi_inference)

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version; raises ServingError."""
        _require_spec(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid_argument(f"Metadata field {name} is not supported")
        with self.lease(request.model_spec) as lease:
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = lease.model_name
            response.model_spec.version.value = lease.version
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in lease.model.signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
            packed = AnyProto()
            packed.Pack(signatures)
            response.metadata["signature_def"].CopyFrom(packed)
            return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The states of a model's versions; raises ServingError."""
        _require_spec(request)
        spec = request.model_spec
        servable = self._manager.servables.get(spec.name)
        versions = dict(servable.versions) if servable else {}
        if spec.HasField("version"):
            if spec.version.value not in versions:
                raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            versions = {spec.version.value: versions[spec.version.value]}
        elif not versions:
            raise not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in sorted(versions, reverse=True):
            _fill_status(response.model_version_status.add(), versions[number])
        return response

    async def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replace the set of models and wait for them; raises ServingError."""
        self._refuse_if_draining()
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        names = dict.fromkeys(request.metric_names)
        before = {name: self._observer.metric_value(name) for name in names}
        await self.apply_config(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        for name in names:
            response.metric.add(name=name, int64_value_increase=self._observer.metric_value(name) - before[name])
        return response

    async def apply_config(self, config: ModelServerConfig, *, can_wait: bool = False) -> None:
        """Make `config` the set of models and wait until they are loaded.

        Args:
            can_wait: models of which there is nothing to load yet are no failure; they are waited for.

        One after another, and a caller that goes away meanwhile does not leave a change half done.

        Raises: ServingError if the config is not usable, or if models do not become available.
        """
        await asyncio.shield(asyncio.create_task(self._apply_in_turn(config, can_wait=can_wait)))

    async def _apply_in_turn(self, config: ModelServerConfig, *, can_wait: bool) -> None:
        async with self._applying:
            await self._apply(config, can_wait=can_wait)

    async def _apply(self, config: ModelServerConfig, *, can_wait: bool) -> None:
        kind = config.WhichOneof("config")
        if kind is None:  # a file that is just being written, say
            logger.info("Taking no action for empty config.")
            return
        if kind == "custom_model_config":
            raise failed_precondition(
                "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
                "another."
            )
        configs = list(config.model_config_list.config)
        check_configs(configs, {name: servable.config for name, servable in self._manager.servables.items()})
        await self._manager.configure(configs)
        failures = self.failures() if can_wait else self.failures() or self.not_ready()
        if failures:
            raise ServingError(
                grpc.StatusCode.UNKNOWN, f"{len(failures)} model(s) did not become available: {{{', '.join(failures)}}}"
            )

    def failures(self) -> list[str]:
        """One text for each configured model of which nothing could be loaded."""
        failures = []
        for name, servable in self._manager.servables.items():
            errors = [version for version in servable.versions.values() if version.error is not None]
            if not servable.loaded() and errors:
                worst = max(errors, key=lambda version: version.number)
                failures.append(f"{{name: {name} version: {worst.number}}} due to error: {worst.error}")
        return failures

    def not_ready(self) -> list[str]:
        """One line for each configured model without an available version; empty: ready."""
        return [
            f"model {name} has no available version: {servable.notice or 'still loading, or failed to load'}"
            for name, servable in self._manager.servables.items()
            if not servable.available()
        ]

    def _refuse_if_draining(self) -> None:
        if self.draining:
            raise unavailable("The server is shutting down; send the request to another one")

    async def _infer_examples(
        self, request: Any, spec: model_pb2.ModelSpec, api: str, answer: Callable[..., Awaitable[Response]]
    ) -> Response:
        """`_infer` for the RPCs whose input is examples."""
        count = _example_count(request.input)
        return await self._infer(
            request, spec, api, lambda model: answer(model, request, check_method=self._check_method), count=count
        )

    async def _infer(
        self,
        request: Any,
        spec: model_pb2.ModelSpec,
        api: str,
        work: Callable[[Model], Awaitable[Response]],
        *,
        count: int,
    ) -> Response:
        """Answer `request`, of `count` examples, from the version that `spec` means."""
        with self.lease(spec) as lease:
            response = await self._timed(lease, spec.signature_name, api, lambda: work(lease.model), count=count)
        self._log(request, response, spec, LOGS[api])
        return response

    async def _timed(
        self, lease: Lease, signature_name: str, api: str, work: Callable[[], Awaitable[Response]], *, count: int
    ) -> Response:
        """Do `work` and tell the observer how it went, and of how many examples if it went well.

        Until then `count` is what the caller claims.
        """
        started = time.perf_counter()
        failure: BaseException | None = None
        try:
            return await work()
        except BaseException as error:
            failure = error
            raise
        finally:
            known = self._known(lease.model, signature_name)
            labels = Labels(model_name=lease.model_name, version=lease.version, signature_name=known)
            latency_s = time.perf_counter() - started
            self._observer.signature_finished(**labels, code=status_of(failure), latency_s=latency_s)
            if failure is None:
                self._observer.runtime_finished(**labels, api=api, latency_s=latency_s)
                self._observer.examples(model_name=lease.model_name, count=count)

    def _known(self, model: Model, signature_name: str) -> str:
        """The signature as a label: what a caller makes up must not make a time series."""
        name = signature_name or DEFAULT_SIGNATURE
        return name if name in model.signatures else "unknown"

    def _log(self, request: Any, response: Any, spec: model_pb2.ModelSpec, kind: str) -> None:
        if self._request_log is None or not self._request_log.wants(spec.name):
            return
        log = prediction_log_pb2.PredictionLog()
        getattr(log, kind).request.CopyFrom(request)
        getattr(log, kind).response.CopyFrom(response)
        log.log_metadata.model_spec.CopyFrom(spec)
        self._request_log.write(log)


def _rows(request: predict_pb2.PredictRequest) -> int:
    """The size of the first dimension of a request's inputs, 1 if there is none."""
    for tensor in request.inputs.values():
        return tensor.tensor_shape.dim[0].size if tensor.tensor_shape.dim else 1
    return 1


def _example_count(given: input_pb2.Input) -> int:
    return len(given.example_list.examples) + len(given.example_list_with_context.examples)


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")


def _fill_status(status: get_model_status_pb2.ModelVersionStatus, version: Version) -> None:
    status.version = version.number
    status.state = version.state  # type: ignore[assignment]
    status.status.error_code = version.error.code.value[0] if version.error else 0
    status.status.error_message = version.error.message if version.error else ""
