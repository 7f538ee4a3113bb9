"""`AsyncClient`: the operations for code on an asyncio event loop. Tasks of one loop may share one client."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio
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


class AsyncClient(Settings):
    """As `client.Client`, with every method a coroutine.

        async with AsyncClient("localhost:8500") as client:
            print(await client.predict(images))

    It may be made anywhere, and belongs to the event loop of its first call. Cancelling a task cancels its calls.
    """

    def __post_init__(self) -> None:
        """Raises: InvalidInput."""
        super().__post_init__()
        self._operations = Operations(self)
        self._credentials = credentials(self)
        self._opening = asyncio.Lock()
        self._connection: grpc.aio.Channel | None = None
        self._stubs: dict[Rpc, Any] = {}
        self._is_closed = False

    async def predict(
        self,
        images: ArrayLike,
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
        check: bool | None = None,
    ) -> Prediction:
        """As `Client.predict`."""
        steps = self._operations.predict(
            images, model=model, version=version, label=label, timeout_s=timeout_s, check=check
        )
        return await self._drive(steps)

    async def read(
        self,
        picture: "PictureSource",
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> "Reading":
        """As `Client.read`."""
        steps = self._operations.read(picture, model=model, version=version, label=label, timeout_s=timeout_s)
        return await self._drive(steps)

    async def run(
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
        """As `Client.run`."""
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
        return await self._drive(steps)

    async def classify(
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
        """As `Client.classify`."""
        steps = self._operations.classify(
            examples,
            model=model,
            signature=signature,
            version=version,
            label=label,
            context=context,
            timeout_s=timeout_s,
        )
        return await self._drive(steps)

    async def metadata(
        self,
        model: str | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> ModelMetadata:
        """As `Client.metadata`."""
        return await self._drive(self._operations.metadata(model, version=version, label=label, timeout_s=timeout_s))

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
        """End the connection, and every call that is under way."""
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
                several = len(self.addresses) > 1  # their names are looked up, which may take long
                target = await asyncio.to_thread(find_target, self) if several else find_target(self)
                if not self._is_closed:
                    self._stubs = make_stubs(self._connect(target))
            if self._is_closed:
                raise closed(self.server, call)
            return self._stubs

    def _connect(self, target: str) -> grpc.aio.Channel:
        try:
            self._connection = connect(grpc.aio, self, target, self._credentials, interceptors=list(self.interceptors))
        except ValueError as error:
            raise InvalidInput(f"interceptors: {error}; AsyncClient takes grpc.aio's") from error
        return self._connection

    async def _drive(self, steps: Steps[T]) -> T:
        """Perform an operation's steps one by one, and return its result."""
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._send(step) if isinstance(step, Call) else await self._perform(step)
                except InklingError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            result_of_all: T = stop.value
            return result_of_all

    async def _perform(self, step: SendAll | Pause | Work) -> Any:
        match step:
            case SendAll():
                return await self._send_all(step)
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Work():
                return await asyncio.to_thread(step.function)

    async def _send(self, call: Call) -> Any:
        stubs = self._stubs or await self._open(call)
        arguments = call_arguments(self, call)
        try:
            response = await stubs[call.rpc](call.request, **arguments)
        except grpc.RpcError as error:
            raise from_rpc_error(error, call, self.server) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():  # it was the call that was cancelled
                raise closed(self.server, call) from error
            raise
        return response if type(response) is call.rpc.response else bad_response(response, call, self.server)

    async def _send_all(self, step: SendAll) -> list[Any]:
        """Keeps so many calls under way, and cancels what is left of them when one fails."""
        places = asyncio.Semaphore(step.max_in_flight)

        async def send(number: int) -> Any:
            async with places:
                return await self._send(step.call(number))

        tasks = [asyncio.ensure_future(send(number)) for number in range(step.count)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
