"""`Client`: the operations for ordinary code, which waits for each answer. Threads may share one client."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
from numpy.typing import ArrayLike

from .errors import InklingError, InvalidInput, bad_response, closed, from_rpc_error
from .operations.effects import Pause, SendAll, Steps, T, Work
from .operations.inference import Operations
from .protocol import wire_pb2 as wire
from .protocol.channel import call_arguments, connect, credentials, find_target
from .protocol.rpc import Call, Rpc, make_stubs
from .results import Classification, ModelMetadata, ModelStatus, Outputs, Prediction, ServedModel
from .settings import Settings

if TYPE_CHECKING:
    from .reading.picture import PictureSource
    from .reading.result import Reading


class Client(Settings):
    """Asks a TensorFlow Serving or Inkling server for predictions.

        with Client("localhost:8500") as client:
            print(client.predict(images))

    The arguments are the fields of `Settings`. A connection is made at the first call and kept; make one client and
    use it for all calls, from any thread. What goes wrong is an error of `inkling.client.errors`; `read` also raises
    OSError for a file that cannot be opened, TypeError for what can be no picture, and ImageExtraMissing.
    """

    def __post_init__(self) -> None:
        """Raises: InvalidInput."""
        super().__post_init__()
        self._operations = Operations(self)
        self._credentials = credentials(self)
        self._connection: grpc.Channel | None = None
        self._stubs: dict[Rpc, Any] = {}
        self._opening = threading.Lock()
        self._is_closed = False

    def predict(
        self,
        images: ArrayLike,
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
        check: bool | None = None,
    ) -> Prediction:
        """What handwritten characters the images show.

        Batches of any size are welcome: large ones are sent in parts, several at once.

        Args:
            images: uint8 [n, 28, 28], or [28, 28] for one, 0 (paper) to 255 (ink), as in MNIST; or a list of images.
                `read` takes pictures of any other form.
            model: the model's name on the server; the client's own if None.
            version, label: one version of the model, by number or by label; the newest if neither is given.
            timeout_s: deadline of the whole call, in seconds. If None it is the client's own, which each request has to
                itself: each part of a large batch.
            check: hold the images against the model's metadata before sending; as the client is set if None.
        """
        steps = self._operations.predict(
            images, model=model, version=version, label=label, timeout_s=timeout_s, check=check
        )
        return self._drive(steps)

    def read(
        self,
        picture: "PictureSource",
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> "Reading":
        """What is written in a picture: its digits in lines, each with its place and probability.

        Pictures other than single 28×28 images need OpenCV, which the extra `image` brings.

        Args:
            picture: a path, the bytes of a file, a file, a Pillow image, or uint8 [height, width], [height, width, 3]
                or [height, width, 4].
            model, version, label: as in `predict`.
            timeout_s: as in `predict`, from when the digits are found: looking for them is this machine's own work.
        """
        steps = self._operations.read(picture, model=model, version=version, label=label, timeout_s=timeout_s)
        return self._drive(steps)

    def run(
        self,
        model: str | None,
        inputs: Mapping[str, ArrayLike | wire.TensorProto],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        batched: bool = False,
        timeout_s: float | None = None,
        check: bool | None = None,
    ) -> Outputs:
        """Run any signature of any SavedModel.

        Args:
            model: the model's name on the server; the client's own if None.
            inputs: arrays by name, of any dtype; `protocol.tensors.to_tensor` makes those of a dtype that numpy lacks.
            signature: the signature's name; `serving_default` without.
            version, label, timeout_s, check: as in `predict`.
            outputs: names of the outputs to be sent back; all without.
            batched: the first axis of all inputs and outputs is one batch: a large one may be sent in parts.

        Returns: the outputs by name. They are read-only; `.copy()` makes one to write to.
        """
        steps = self._operations.run(
            model,
            inputs,
            signature=signature,
            version=version,
            label=label,
            outputs=outputs,
            batched=batched,
            timeout_s=timeout_s,
            check=check,
        )
        return self._drive(steps)

    def classify(
        self,
        examples: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        signature: str = "classify",
        version: int | None = None,
        label: str | None = None,
        context: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> list[Classification]:
        """Labels and scores for examples, by the Classify API.

        Args:
            examples: one mapping of feature names to values, or several: text, bytes, numbers or lists of them.
                Inkling's models take `{"image/encoded": png_bytes}`.
            signature: the signature's name; "" is the model's default.
            context: features that all examples share.
            model, version, label, timeout_s: as in `predict`.
        """
        steps = self._operations.classify(
            examples,
            model=model,
            signature=signature,
            version=version,
            label=label,
            context=context,
            timeout_s=timeout_s,
        )
        return self._drive(steps)

    def metadata(
        self,
        model: str | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> ModelMetadata:
        """The model's signatures: their inputs and outputs, with dtypes and shapes."""
        return self._drive(self._operations.metadata(model, version=version, label=label, timeout_s=timeout_s))

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
        """Tell the server which models to serve from now on, instead of those it serves; returns when they are loaded.

        Args:
            models: all the models that it is to serve.
            metrics: names of metrics of the server whose increase is to be returned.
            timeout_s: two minutes if None, as loading takes time.
        """
        return self._drive(self._operations.reload(models, metrics=metrics, timeout_s=timeout_s))

    def health(self, service: str = "", *, timeout_s: float | None = None) -> str:
        """What gRPC's health service says: SERVING, NOT_SERVING, or SERVICE_UNKNOWN.

        Raises: NotSupported if the server has that service switched off.
        """
        return self._drive(self._operations.health(service, timeout_s=timeout_s))

    def close(self) -> None:
        """End the connection, and every call that is under way."""
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
                raise closed(self.server, call)
            if not self._stubs:
                connection = connect(grpc, self, find_target(self), self._credentials)
                try:
                    carrier = grpc.intercept_channel(connection, *self.interceptors)
                except TypeError as error:
                    connection.close()
                    raise InvalidInput(f"interceptors: {error}; Client takes grpc's, not grpc.aio's") from error
                self._connection, self._stubs = connection, make_stubs(carrier)
            return self._stubs

    def _drive(self, steps: Steps[T]) -> T:
        """Perform an operation's steps one by one, and return its result."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._send(step) if isinstance(step, Call) else self._perform(step)
                except InklingError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            result_of_all: T = stop.value
            return result_of_all

    def _perform(self, step: SendAll | Pause | Work) -> Any:
        match step:
            case SendAll():
                return self._send_all(step)
            case Pause():
                return time.sleep(step.seconds)
            case Work():
                return step.function()

    def _send(self, call: Call) -> Any:
        stubs = self._stubs or self._open(call)
        arguments = call_arguments(self, call)
        try:
            response = stubs[call.rpc](call.request, **arguments)
        except (grpc.RpcError, ValueError) as error:
            raise self._failure(error, call) from error
        return response if type(response) is call.rpc.response else bad_response(response, call, self.server)

    def _send_all(self, step: SendAll) -> list[Any]:
        """Keeps so many calls under way, and cancels what is left of them when one fails."""
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        under_way: dict[int, tuple[Call, Any]] = {}
        responses: list[Any] = [None] * step.count
        waiting = iter(range(step.count))

        def start_next() -> None:
            for number in waiting:
                call = step.call(number)
                stubs = self._stubs or self._open(call)
                arguments = call_arguments(self, call)
                try:
                    future = stubs[call.rpc].future(call.request, **arguments)
                except ValueError as error:
                    raise self._failure(error, call) from error
                under_way[number] = call, future
                future.add_done_callback(lambda _, number=number: finished.put(number))
                return

        try:
            for _ in range(step.max_in_flight):
                start_next()
            while under_way:
                number = finished.get()
                call, future = under_way.pop(number)
                try:
                    response = future.result()
                except grpc.RpcError as error:
                    raise self._failure(error, call) from error
                good = type(response) is call.rpc.response
                responses[number] = response if good else bad_response(response, call, self.server)
                start_next()
        finally:
            for _, future in under_way.values():
                future.cancel()
        return responses

    def _failure(self, error: Exception, call: Call) -> InklingError:
        """The error of the tree for what gRPC raised."""
        raised: Any = error  # an RpcError that a call raises has code()
        if isinstance(error, grpc.RpcError) and not (self._is_closed and raised.code() is grpc.StatusCode.CANCELLED):
            return from_rpc_error(error, call, self.server)
        if self._is_closed:
            return closed(self.server, call)
        return InklingError(f"the call could not be made: {error}", address=self.server, model=call.model)
