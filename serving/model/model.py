"""One version of a model, ready to answer: its signatures, their checks, and the queues before the runtime.

`Model.predict` is what every inference request comes down to, whatever its API and transport: named arrays in, named
arrays out.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import grpc

from ..batching.scheduler import Batcher, Waiting
from ..batching.threads import Workers
from ..config.files import BatchingParameters
from ..errors import ServingError, failed_precondition, invalid_argument
from ..monitoring.events import Labels, Observer
from ..tensors import Array
from .input_checks import check, common_rows
from .saved_model import Function, Runtime
from .signatures import DEFAULT_SIGNATURE, Signature

MAX_OUTPUT_SETS = 32  # queues kept for one signature: a client chooses its set of outputs by output_filter


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """How models are run."""

    batching: BatchingParameters | None = None  # None: whatever waits is batched where that is safe
    max_queued_requests: int = 1024


@dataclass(slots=True)
class Queues:
    """Those of one signature, by the outputs they compute; the one used last comes last."""

    waiting: Waiting = field(default_factory=Waiting)
    by_outputs: dict[tuple[str, ...], "asyncio.Task[Batcher]"] = field(default_factory=dict)


class Model:
    """A loaded version. Its queues belong to the event loop."""

    def __init__(
        self,
        name: str,
        version: int,
        runtime: Runtime,
        signatures: Mapping[str, Signature],
        *,
        options: EngineOptions,
        workers: Workers,
        observer: Observer,
    ) -> None:
        self.name = name
        self.version = version
        self.signatures = signatures
        self.signature_defs = runtime.signature_defs
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._runtime = runtime
        self._options = options
        self._workers = workers
        self._observer = observer
        self._queues: defaultdict[str, Queues] = defaultdict(Queues)

    def signature(self, name: str) -> Signature:
        """The signature `name`, `serving_default` if empty; raises ServingError FAILED_PRECONDITION."""
        found = self.signatures.get(name or DEFAULT_SIGNATURE)
        if found is None:
            raise failed_precondition(f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.')
        return found

    async def predict(
        self, signature: Signature, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Run `signature`.

        Args:
            inputs: by alias; strings as object arrays of bytes.
            output_filter: aliases of the outputs wanted; all if empty.

        Raises: ServingError.
        """
        outputs = self._outputs(signature, output_filter)
        arrays = check(signature.inputs, inputs, trailing_ones_optional=signature.trailing_ones_optional)
        size = common_rows(arrays)
        if self._options.batching is not None:
            self._check_batchable(arrays, size)
        results = signature.no_rows(outputs) if size == 0 else None
        if results is None:
            batcher = await self._batcher(signature, outputs)
            results = await batcher.run(arrays, size)
        return dict(zip(outputs, results, strict=True))

    def close(self) -> None:
        """Free the memory; only when nothing is in flight."""
        self._queues.clear()
        self._runtime.close()

    def _outputs(self, signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
        if not output_filter:
            return signature.outputs
        seen: set[str] = set()
        for alias in output_filter:
            if alias not in signature.definition.outputs:
                raise invalid_argument(
                    f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                    f"{{{','.join(signature.outputs)}}}."
                )
            if alias in seen:
                raise invalid_argument(f"duplicate output tensor alias: {alias}")
            seen.add(alias)
        return tuple(sorted(seen))

    def _check_batchable(self, arrays: Sequence[Array], size: int | None) -> None:
        if size is not None or not arrays:
            return
        if any(not array.ndim for array in arrays):
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")

    async def _batcher(self, signature: Signature, outputs: tuple[str, ...]) -> Batcher:
        found = self._queues[signature.name].by_outputs
        making = found.pop(outputs, None)
        if making is None or (making.done() and making.exception() is not None):
            making = asyncio.create_task(self._make_batcher(signature, outputs))
            if len(found) >= MAX_OUTPUT_SETS:
                del found[next(iter(found))]  # what waits in it is still answered
        found[outputs] = making
        return making.result() if making.done() else await asyncio.shield(making)

    async def _make_batcher(self, signature: Signature, outputs: tuple[str, ...]) -> Batcher:
        return Batcher(
            await self._make_function(signature, outputs),
            self._options.batching,
            self._workers,
            labels=Labels(model_name=self.name, version=self.version, signature_name=signature.name),
            observer=self._observer,
            waiting=self._queues[signature.name].waiting,
            max_waiting=self._options.max_queued_requests,
            rows_independent=signature.rows_independent,
        )

    async def _make_function(self, signature: Signature, outputs: tuple[str, ...]) -> Function:
        """On a worker: TensorFlow takes milliseconds for that, longer with a large graph."""
        made: Future[Function] = Future()

        def make() -> None:
            try:
                inputs = [spec.tensor_name for spec in signature.inputs]
                made.set_result(self._runtime.function(inputs, signature.tensor_names(outputs)))
            except Exception as error:
                made.set_exception(error)

        made.set_running_or_notify_cancel()
        self._workers.submit(make)
        return await asyncio.wrap_future(made)


def status_of(error: BaseException | None) -> grpc.StatusCode:
    """The code under which `error` is counted."""
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, ServingError):
        return error.code
    return grpc.StatusCode.CANCELLED if isinstance(error, asyncio.CancelledError) else grpc.StatusCode.INTERNAL
