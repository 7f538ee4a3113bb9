"""`AsyncClient`: the operations for code on an asyncio event loop. Tasks of one loop may share one client."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from .errors import DeadlineExceeded, InklingError, InvalidInput
from .operations import Operations
from .operations.effects import Operation, Pause, SendAll, T, Work
from .operations.options import ClassifyOptions, PredictOptions, ReadOptions, RunOptions, VersionOptions
from .protocol import wire_pb2 as wire
from .protocol.channel import Target, call_arguments, connect, credentials, find_target
from .protocol.rpc import Call, Rpc, make_stubs
from .protocol.status import client_closed_error, from_rpc_error, not_to_be_pickled, raise_invalid_response
from .results import Classification, ModelMetadata, ModelStatus, Outputs, Prediction, ServedModel
from .settings import DEFAULT_ADDRESS, Settings, SettingsKeywords
from .tracing import operation_span, rpc_span, work_span

if TYPE_CHECKING:
    from .reading.page import Page
    from .reading.picture import PictureSource
    from .reading.result import Reading

# Calls under way from which on one waits for its turn in gRPC, or on the event loop: servers and proxies take 100 on a
# connection where they set a limit, as RFC 9113 (6.5.2) advises.
MANY_CALLS = 100


class AsyncClient:
    """`Client` with every method a coroutine; arguments, options and errors are the same.

        async with AsyncClient("localhost:8500") as client:
            print(await client.predict(images))

    It may be made anywhere, and belongs to the event loop of its first call: another loop needs one of its own.
    Cancelling a task cancels its calls.

    Args:
        address: as in `Client`.
        settings: the fields of `Settings` as keywords, as in `Client`; `interceptors` are those of `grpc.aio`.

    Attributes:
        settings: all of them, as a `Settings`.

    Raises: InvalidInput if a setting makes no sense, or a file of `tls` cannot be read.
    """

    def __init__(self, address: str | Sequence[str] = DEFAULT_ADDRESS, **settings: Unpack[SettingsKeywords]) -> None:
        self.settings = Settings(address, **settings)
        self._operations = Operations(self.settings)
        self._credentials = credentials(self.settings)
        self._opening = asyncio.Lock()
        self._connection: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # of the first call
        self._under_way = 0  # calls that are sent, or wait in gRPC to be
        self._stubs: dict[Rpc, Any] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.server!r})"

    def __reduce__(self) -> NoReturn:
        raise not_to_be_pickled(self)

    async def predict(self, images: ArrayLike, **options: Unpack[PredictOptions]) -> Prediction:
        """As `Client.predict`: `model`, `version`, `label`, `timeout_s`, `check`, `as_is`."""
        return await self._drive(self._operations.predict(images, **options))

    async def read(self, picture: "PictureSource | Page", **options: Unpack[ReadOptions]) -> "Reading":
        """As `Client.read`: `model`, `version`, `label`, `timeout_s`, `check`."""
        return await self._drive(self._operations.read(picture, **options))

    async def run(
        self,
        model: str | None,
        inputs: Mapping[str, ArrayLike | wire.TensorProto],
        **options: Unpack[RunOptions],
    ) -> Outputs:
        """As `Client.run`: `signature`, `outputs`, `batched`, `version`, `label`, `timeout_s`, `check`."""
        return await self._drive(self._operations.run(model, inputs, **options))

    async def classify(
        self, examples: Mapping[str, Any] | Sequence[Mapping[str, Any]], **options: Unpack[ClassifyOptions]
    ) -> list[Classification]:
        """As `Client.classify`: `signature`, `context`, `model`, `version`, `label`, `timeout_s`."""
        return await self._drive(self._operations.classify(examples, **options))

    async def metadata(self, model: str | None = None, **options: Unpack[VersionOptions]) -> ModelMetadata:
        """As `Client.metadata`: `version`, `label`, `timeout_s`."""
        return await self._drive(self._operations.metadata(model, **options))

    async def status(
        self, model: str | None = None, *, version: int | None = None, timeout_s: float | None = None
    ) -> ModelStatus:
        """As `Client.status`."""
        return await self._drive(self._operations.status(model, version=version, timeout_s=timeout_s))

    async def wait_until_ready(
        self, model: str | None = None, *, version: int | None = None, timeout_s: float = 60.0
    ) -> ModelStatus:
        """As `Client.wait_until_ready`."""
        return await self._drive(self._operations.wait_until_ready(model, version=version, timeout_s=timeout_s))

    async def reload(
        self, models: Sequence[ServedModel], *, metrics: Sequence[str] = (), timeout_s: float | None = None
    ) -> dict[str, int]:
        """As `Client.reload`."""
        return await self._drive(self._operations.reload(models, metrics=metrics, timeout_s=timeout_s))

    async def health(self, service: str = "", *, timeout_s: float | None = None) -> str:
        """As `Client.health`."""
        return await self._drive(self._operations.health(service, timeout_s=timeout_s))

    async def close(self) -> None:
        """Close the connection, and end every call that is under way."""
        self._check_loop()
        self._is_closed = True
        self._stubs = {}
        if self._connection is not None:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self, call: Call) -> dict[Rpc, Any]:
        """Connect, on the event loop that runs now, unless another task just did; returns what makes the calls."""
        async with self._opening:
            if not self._stubs and not self._is_closed:
                target = await self._find_target()
                if not self._is_closed:
                    self._stubs = make_stubs(self._connect(target))
            if self._is_closed:
                raise client_closed_error(self.settings.server, call)
            return self._stubs

    def _check_loop(self) -> None:
        """Raises: InklingError on another event loop than that of the first call, where gRPC would hang or fail."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise InklingError(
                f"this {type(self).__name__} belongs to the event loop of its first call, and this is another one",
                address=self.settings.server,
                hint="make a client in each loop, or all calls in one: every asyncio.run() is a loop of its own",
            )

    async def _find_target(self) -> Target:
        if len(self.settings.addresses) > 1:  # their names are looked up, which may take long
            return await asyncio.to_thread(find_target, self.settings)
        return find_target(self.settings)

    def _connect(self, target: Target) -> grpc.aio.Channel:
        interceptors = list(self.settings.interceptors)
        try:
            self._connection = connect(grpc.aio, self.settings, target, self._credentials, interceptors=interceptors)
        except ValueError as error:
            raise InvalidInput(f"interceptors: {error}; AsyncClient takes grpc.aio's") from error
        return self._connection

    async def _drive(self, operation: Operation[T]) -> T:
        """Perform an operation's effects one by one, and return its result."""
        self._check_loop()
        with operation_span(operation):
            return await self._drive_untraced(operation)

    async def _drive_untraced(self, operation: Operation[T]) -> T:
        try:
            effect = next(operation)
            while True:
                try:
                    outcome = await self._send(effect) if isinstance(effect, Call) else await self._perform(effect)
                except InklingError as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _perform(self, effect: SendAll | Pause | Work) -> Any:
        match effect:
            case SendAll():
                return await self._send_all(effect)
            case Pause():
                return await asyncio.sleep(effect.seconds)
            case Work():
                with work_span(effect.name):
                    return await asyncio.to_thread(effect.function)

    async def _send(self, call: Call) -> Any:
        stubs = self._stubs or await self._open(call)
        with rpc_span(call.rpc.path, self.settings.server) as span:
            return await self._send_by(stubs, call, call_arguments(self.settings, call, span.headers))

    async def _send_by(self, stubs: dict[Rpc, Any], call: Call, arguments: dict[str, Any]) -> Any:
        self._under_way += 1
        try:
            response = await stubs[call.rpc](call.request, **arguments)
        except grpc.RpcError as error:
            raise self._with_company(from_rpc_error(error, call, self.settings.server)) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():  # it was the call that was cancelled
                raise client_closed_error(self.settings.server, call) from error
            raise
        finally:
            self._under_way -= 1
        if type(response) is not call.rpc.response:
            raise_invalid_response(response, call, self.settings.server)
        return response

    def _with_company(self, error: InklingError) -> InklingError:
        """The error; it says so if the deadline may have passed before the call's turn came."""
        others = self._under_way - 1
        if isinstance(error, DeadlineExceeded) and others >= MANY_CALLS:
            error.hint = (
                f"{others:,} other calls of this client were under way, so it may have waited for its turn: "
                f"have fewer at once (asyncio.Semaphore), or {error.hint}"
            )
        return error

    async def _send_all(self, batch: SendAll) -> list[Any]:
        """Keeps `max_in_flight` calls under way, and cancels what is left of them when one fails."""
        places = asyncio.Semaphore(batch.max_in_flight)

        async def send(number: int) -> Any:
            async with places:
                return await self._send(batch.call(number))

        tasks = [asyncio.ensure_future(send(number)) for number in range(batch.count)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
