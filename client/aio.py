"""`AsyncClient`: the operations for code on an asyncio event loop. Tasks of one loop may share one client."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from .errors import InklingError, InvalidInput
from .operations import Operations
from .operations.effects import Operation, Pause, SendAll, T, Work
from .operations.options import ClassifyOptions, PredictOptions, RunOptions, VersionOptions
from .protocol import wire_pb2 as wire
from .protocol.channel import call_arguments, connect, credentials, find_target
from .protocol.rpc import Call, Rpc, make_stubs
from .protocol.status import client_closed_error, from_rpc_error, raise_invalid_response
from .results import Classification, ModelMetadata, ModelStatus, Outputs, Prediction, ServedModel
from .settings import DEFAULT_ADDRESS, Settings, SettingsKeywords

if TYPE_CHECKING:
    from .reading.picture import PictureSource
    from .reading.result import Reading


class AsyncClient:
    """`Client` with every method a coroutine; arguments, options and errors are the same.

        async with AsyncClient("localhost:8500") as client:
            print(await client.predict(images))

    It may be made anywhere, and belongs to the event loop of its first call. Cancelling a task cancels its calls.

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
        self._stubs: dict[Rpc, Any] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.server!r})"

    async def predict(self, images: ArrayLike, **options: Unpack[PredictOptions]) -> Prediction:
        """As `Client.predict`: `model`, `version`, `label`, `timeout_s`, `check`."""
        return await self._drive(self._operations.predict(images, **options))

    async def read(self, picture: "PictureSource", **options: Unpack[PredictOptions]) -> "Reading":
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

    async def _find_target(self) -> str:
        if len(self.settings.addresses) > 1:  # their names are looked up, which may take long
            return await asyncio.to_thread(find_target, self.settings)
        return find_target(self.settings)

    def _connect(self, target: str) -> grpc.aio.Channel:
        interceptors = list(self.settings.interceptors)
        try:
            self._connection = connect(grpc.aio, self.settings, target, self._credentials, interceptors=interceptors)
        except ValueError as error:
            raise InvalidInput(f"interceptors: {error}; AsyncClient takes grpc.aio's") from error
        return self._connection

    async def _drive(self, operation: Operation[T]) -> T:
        """Perform an operation's effects one by one, and return its result."""
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
                return await asyncio.to_thread(effect.function)

    async def _send(self, call: Call) -> Any:
        stubs = self._stubs or await self._open(call)
        arguments = call_arguments(self.settings, call)
        try:
            response = await stubs[call.rpc](call.request, **arguments)
        except grpc.RpcError as error:
            raise from_rpc_error(error, call, self.settings.server) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():  # it was the call that was cancelled
                raise client_closed_error(self.settings.server, call) from error
            raise
        if type(response) is not call.rpc.response:
            raise_invalid_response(response, call, self.settings.server)
        return response

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
