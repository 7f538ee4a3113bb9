"""`Client`: the operations for ordinary code, which waits for each result. Threads may share one client."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

import grpc
from numpy.typing import ArrayLike

from .errors import InklingError, InvalidInput
from .operations import Operations
from .operations.effects import Operation, Pause, SendAll, T, Work
from .operations.options import ClassifyOptions, PredictOptions, ReadOptions, RunOptions, VersionOptions
from .protocol import wire_pb2 as wire
from .protocol.channel import call_arguments, connect, credentials, find_target
from .protocol.rpc import Call, Rpc, make_stubs
from .protocol.status import client_closed_error, from_rpc_error, not_to_be_pickled, raise_invalid_response
from .results import Classification, ModelMetadata, ModelStatus, Outputs, Prediction, ServedModel
from .settings import DEFAULT_ADDRESS, Settings, SettingsKeywords
from .tracing import RpcSpan, operation_span, rpc_span, work_span

if TYPE_CHECKING:
    from .reading.page import Page
    from .reading.picture import PictureSource
    from .reading.result import Reading


class Client:
    """Asks a TensorFlow Serving or Inkling server for predictions.

        with Client("localhost:8500") as client:
            print(client.predict(images))

    A connection is made at the first call and kept: make one client and use it for all calls, from any thread. What
    goes wrong is an error of `inkling.client.errors`; `read` also raises OSError for a file that cannot be opened,
    TypeError for what cannot be a picture, and ImageExtraMissing.

    Args:
        address: `host:port`, a list of them, or any target that gRPC knows.
        settings: the fields of `Settings` as keywords: `model`, `timeout_s`, `wait_for_ready`, `retry`, `check_inputs`,
            `split_bytes`, `max_rows`, `max_in_flight`, `max_message_bytes`, `gzip`, `keepalive_s`, `tls`, `token`,
            `api_key`, `token_over_plaintext`, `interceptors`.

    Attributes:
        settings: all of them, as a `Settings`.

    Raises: InvalidInput if a setting makes no sense, or a file of `tls` cannot be read.
    """

    def __init__(self, address: str | Sequence[str] = DEFAULT_ADDRESS, **settings: Unpack[SettingsKeywords]) -> None:
        self.settings = Settings(address, **settings)
        self._operations = Operations(self.settings)
        self._credentials = credentials(self.settings)
        self._connection: grpc.Channel | None = None
        self._stubs: dict[Rpc, Any] = {}
        self._opening = threading.Lock()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.server!r})"

    def __reduce__(self) -> NoReturn:
        raise not_to_be_pickled(self)

    def predict(self, images: ArrayLike, **options: Unpack[PredictOptions]) -> Prediction:
        """Classify images of handwritten characters.

        Any batch size works: large batches are sent in parts, several at once.

        Args:
            images: uint8 [n, 28, 28], or [28, 28] for one, 0 (paper) to 255 (ink), as in MNIST; or a list of images. A
                model of images in colour takes [n, height, width, 3] or [height, width, 3]. `read` takes pictures of
                any other form.
            options:
                model: the model's name on the server; the client's own if None.
                version, label: one version of the model, by number or by label; the newest if neither is given.
                timeout_s: deadline of the whole call, in seconds. If None it is the client's own, for each request by
                    itself: for each part of a large batch.
                check: compare the images with the model's metadata before sending; as in the client's settings if None.
                as_is: send images that no model of MNIST's digits can read: light writing on a rim of ink, or values
                    that end far below 255. Without it they are refused, as the answers would be wrong and sure.

        Returns: class and probabilities of each image, in order.
        """
        return self._drive(self._operations.predict(images, **options))

    def read(self, picture: "PictureSource | Page", **options: Unpack[ReadOptions]) -> "Reading":
        """Read what is written in a picture: its digits in lines, each with its place and probability.

        Pictures other than single 28×28 images need OpenCV, which the extra `image` brings.

        Args:
            picture: a path, the bytes of a file, a file, a Pillow image, or uint8 [height, width], [height, width, 3]
                or [height, width, 4]; or a page in which `find_digits` has found them already.
            options: `model`, `version`, `label`, `timeout_s` and `check`, as in `predict`. The deadline counts from
                when the digits are found: looking for them is this machine's own work. A page that seems to lie on its
                side or its head is asked about in up to three calls, each with that deadline.
        """
        return self._drive(self._operations.read(picture, **options))

    def run(
        self,
        model: str | None,
        inputs: Mapping[str, ArrayLike | wire.TensorProto],
        **options: Unpack[RunOptions],
    ) -> Outputs:
        """Run any signature of any SavedModel.

        Args:
            model: the model's name on the server; the client's own if None.
            inputs: arrays by name, of any dtype and shape; `protocol.tensors.to_tensor` makes those of a dtype that
                numpy lacks.
            options:
                signature: the signature's name; `serving_default` by default.
                outputs: names of the outputs to be sent back; all by default.
                batched: the first axis of all inputs and outputs is one batch: a large one may be sent in parts.
                version, label, timeout_s, check: as in `predict`.

        Returns: the outputs by name, each of its own dtype and shape. They are read-only; `.copy()` makes one to write
            to.
        """
        return self._drive(self._operations.run(model, inputs, **options))

    def classify(
        self, examples: Mapping[str, Any] | Sequence[Mapping[str, Any]], **options: Unpack[ClassifyOptions]
    ) -> list[Classification]:
        """Classify examples, by the Classify API.

        Args:
            examples: one mapping of feature names to values, or several: text, bytes, numbers or lists of them.
                Inkling's models take `{"image/encoded": png_bytes}`.
            options:
                signature: the signature's name, "classify" by default; "" is the model's default.
                context: features that all examples share.
                model, version, label, timeout_s: as in `predict`.

        Returns: the scores of the classes for each example, in order.
        """
        return self._drive(self._operations.classify(examples, **options))

    def metadata(self, model: str | None = None, **options: Unpack[VersionOptions]) -> ModelMetadata:
        """The model's signatures: their inputs and outputs, with dtypes and shapes.

        Args:
            model: the model's name on the server; the client's own if None.
            options: `version`, `label` and `timeout_s`, as in `predict`.
        """
        return self._drive(self._operations.metadata(model, **options))

    def status(
        self, model: str | None = None, *, version: int | None = None, timeout_s: float | None = None
    ) -> ModelStatus:
        """The versions of the model on the server, and the state that each is in."""
        return self._drive(self._operations.status(model, version=version, timeout_s=timeout_s))

    def wait_until_ready(
        self, model: str | None = None, *, version: int | None = None, timeout_s: float = 60.0
    ) -> ModelStatus:
        """Wait until the server is up and a version of the model (or this version) is AVAILABLE.

        Raises: DeadlineExceeded if it takes longer than `timeout_s`, ServerError if every version failed to load.
        """
        return self._drive(self._operations.wait_until_ready(model, version=version, timeout_s=timeout_s))

    def reload(
        self, models: Sequence[ServedModel], *, metrics: Sequence[str] = (), timeout_s: float | None = None
    ) -> dict[str, int]:
        """Replace the models that the server serves; returns when the new ones are loaded.

        Args:
            models: all the models to serve from now on.
            metrics: names of metrics of the server whose increase is to be returned.
            timeout_s: two minutes if None, as loading takes time.

        Returns: by how much each of `metrics` rose.
        """
        return self._drive(self._operations.reload(models, metrics=metrics, timeout_s=timeout_s))

    def health(self, service: str = "", *, timeout_s: float | None = None) -> str:
        """What gRPC's health service says: SERVING, NOT_SERVING, or SERVICE_UNKNOWN.

        Raises: NotSupported if the server has that service switched off.
        """
        return self._drive(self._operations.health(service, timeout_s=timeout_s))

    def close(self) -> None:
        """Close the connection, and end every call that is under way."""
        with self._opening:
            self._is_closed = True
            self._stubs = {}
            if self._connection is not None:
                self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, call: Call) -> dict[Rpc, Any]:
        """Connect, unless another thread just did; returns what makes the calls."""
        with self._opening:
            if self._is_closed:
                raise client_closed_error(self.settings.server, call)
            if not self._stubs:
                connection = connect(grpc, self.settings, find_target(self.settings), self._credentials)
                try:
                    channel = grpc.intercept_channel(connection, *self.settings.interceptors)
                except TypeError as error:
                    connection.close()
                    raise InvalidInput(f"interceptors: {error}; Client takes grpc's, not grpc.aio's") from error
                self._connection, self._stubs = connection, make_stubs(channel)
            return self._stubs

    def _drive(self, operation: Operation[T]) -> T:
        """Perform an operation's effects one by one, and return its result."""
        with operation_span(operation):
            return self._drive_untraced(operation)

    def _drive_untraced(self, operation: Operation[T]) -> T:
        try:
            effect = next(operation)
            while True:
                try:
                    outcome = self._send(effect) if isinstance(effect, Call) else self._perform(effect)
                except InklingError as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _perform(self, effect: SendAll | Pause | Work) -> Any:
        match effect:
            case SendAll():
                return self._send_all(effect)
            case Pause():
                return time.sleep(effect.seconds)
            case Work():
                with work_span(effect.name):
                    return effect.function()

    def _send(self, call: Call) -> Any:
        stubs = self._stubs or self._open(call)
        with rpc_span(call.rpc.path, self.settings.server) as span:
            arguments = call_arguments(self.settings, call, span.headers)
            try:
                response = stubs[call.rpc](call.request, **arguments)
            except (grpc.RpcError, ValueError) as error:
                raise self._failure(error, call) from error
            return self._checked(response, call)

    def _send_all(self, batch: SendAll) -> list[Any]:
        """Keeps `max_in_flight` calls under way, and cancels what is left of them when one fails."""
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        under_way: dict[int, tuple[Call, Any, RpcSpan]] = {}
        responses: list[Any] = [None] * batch.count
        waiting = iter(range(batch.count))

        def start_next() -> None:
            for number in waiting:
                call = batch.call(number)
                stubs = self._stubs or self._open(call)
                span = rpc_span(call.rpc.path, self.settings.server)
                arguments = call_arguments(self.settings, call, span.headers)
                try:
                    future = stubs[call.rpc].future(call.request, **arguments)
                except ValueError as error:
                    raise self._failure(error, call) from error
                under_way[number] = call, future, span
                future.add_done_callback(lambda _, number=number: finished.put(number))
                return

        try:
            for _ in range(batch.max_in_flight):
                start_next()
            while under_way:
                number = finished.get()
                call, future, span = under_way.pop(number)
                with span:
                    try:
                        response = future.result()
                    except grpc.RpcError as error:
                        raise self._failure(error, call) from error
                    responses[number] = self._checked(response, call)
                start_next()
        finally:
            for _, future, span in under_way.values():
                future.cancel()
                span.end(grpc.FutureCancelledError())
        return responses

    def _checked(self, response: Any, call: Call) -> Any:
        if type(response) is not call.rpc.response:
            raise_invalid_response(response, call, self.settings.server)
        return response

    def _failure(self, error: grpc.RpcError | ValueError, call: Call) -> InklingError:
        """The error of the tree for what gRPC raised."""
        server = self.settings.server
        if isinstance(error, grpc.RpcError) and not (self._is_closed and error.code() is grpc.StatusCode.CANCELLED):
            return from_rpc_error(error, call, server)
        if self._is_closed:
            return client_closed_error(server, call)
        return InklingError(f"the call could not be made: {error}", address=server, model=call.model)
