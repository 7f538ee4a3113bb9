"""One version of a model, ready to run: its signatures, their checks, and the queues before the runtime.

`Model.predict` is what every inference request comes down to, whatever its API and transport: named arrays in, named
arrays out. A `Lease` keeps the version in memory for the length of a request.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType

from ..arrays import Array, Function
from ..batching.parameters import BatchingParameters
from ..batching.queues import MAX_LONG_RUNS, GreedyQueue, ParameterisedQueue
from ..batching.scheduler import Batcher, QueueContext, Waiting
from ..batching.threads import RuntimeThreads
from ..errors import failed_precondition, invalid_argument
from ..load_shedding import KnownFullQueues
from ..monitoring.drift import DriftWindow
from ..monitoring.events import ServerEvents
from ..names import DEFAULT_SIGNATURE, ModelKey
from .input_checks import check, common_rows
from .saved_model import Runtime
from .signatures import Signature
from .unannounced_shapes import ShapeCheck, UnannouncedShapes, have_other_ranks, unannounced

MAX_OUTPUT_SETS = 32  # queues kept for one signature: a client chooses its set of outputs by output_filter


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """How a model is run."""

    batching: BatchingParameters | None = None  # None: whatever waits is batched where that is safe
    max_queued_requests: int = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerParts:
    """What all models of a server share."""

    num_threads: int  # runs of one signature that go on at once
    events: ServerEvents
    shedding: KnownFullQueues


@dataclass(slots=True)
class SignatureQueues:
    """Those of one signature, by the outputs they compute; the one used last comes last."""

    threads: RuntimeThreads
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
        options: ModelOptions,
        parts: ServerParts,
    ) -> None:
        self.name = name
        self.version = version
        self.signatures = signatures
        self.signature_defs = runtime.signature_defs
        self.num_leases = 0
        self.idle = asyncio.Event()  # no lease is out
        self.idle.set()
        self.drift: DriftWindow | None = None  # None: not watched
        self._runtime = runtime
        self._options = options
        self._parts = parts
        self._queues: dict[str, SignatureQueues] = {}
        self._shapes: dict[str, UnannouncedShapes] = {}  # by signature name

    def signature(self, name: str) -> Signature:
        """The signature `name`, `serving_default` if empty.

        Raises: ServingError FAILED_PRECONDITION if the model does not have it.
        """
        found = self.signatures.get(name or DEFAULT_SIGNATURE)
        if found is None:
            raise failed_precondition(f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.')
        return found

    async def predict(
        self, signature: Signature, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Run `signature`.

        Args:
            signature: one of `signatures`.
            inputs: by alias, with the dtypes of the signature; strings as object arrays of bytes.
            output_filter: aliases of the outputs to compute; all if empty.

        Returns: the outputs by alias; strings as object arrays of bytes.

        Raises: ServingError.
        """
        outputs = _chosen_outputs(signature, output_filter)
        arrays = check(signature.inputs, inputs)
        num_rows = common_rows(arrays)
        if found := unannounced(signature, arrays):
            await self._shapes_of(signature).check(found, arrays)
            if have_other_ranks(found) and self._options.batching is None:
                num_rows = None  # runs alone
        if self._options.batching is not None:
            _check_batchable(arrays, num_rows)
        results = signature.no_rows(outputs) if num_rows == 0 else None
        if results is None:
            batcher = await self._batcher(signature, outputs)
            results = await batcher.run(arrays, num_rows)
        named = dict(zip(outputs, results, strict=True))
        if self.drift is not None:
            self.drift.observe(inputs, named)
        return named

    def shape_check(self, signature: Signature) -> ShapeCheck:
        """What refuses shapes that this signature can never take; it may be called on any thread."""
        return self._shapes_of(signature).check_early

    def _shapes_of(self, signature: Signature) -> UnannouncedShapes:
        if signature.name not in self._shapes:
            self._shapes[signature.name] = UnannouncedShapes(signature, self._runtime.graph_def)
        return self._shapes[signature.name]

    def close(self) -> None:
        """Free the memory; only when no lease is out."""
        for queues in self._queues.values():
            queues.threads.close()
        self._queues.clear()
        self._runtime.close()

    def _queues_of(self, signature: Signature) -> SignatureQueues:
        found = self._queues.get(signature.name)
        if found is None:
            name = f"run-{self.name}-{self.version}-{signature.name}"
            threads = RuntimeThreads(self._parts.num_threads, spare=MAX_LONG_RUNS, name=name)
            found = self._queues[signature.name] = SignatureQueues(threads)
        return found

    async def _batcher(self, signature: Signature, outputs: tuple[str, ...]) -> Batcher:
        found = self._queues_of(signature).by_outputs
        making = found.pop(outputs, None)
        if making is None or (making.done() and making.exception() is not None):
            making = asyncio.create_task(self._make_batcher(signature, outputs))
            if len(found) >= MAX_OUTPUT_SETS:
                del found[next(iter(found))]  # what waits in it still gets its result
        found[outputs] = making
        return making.result() if making.done() else await asyncio.shield(making)

    async def _make_batcher(self, signature: Signature, outputs: tuple[str, ...]) -> Batcher:
        function = await self._make_function(signature, outputs)
        queues = self._queues_of(signature)
        context = QueueContext(
            threads=queues.threads,
            key=ModelKey(model_name=self.name, version=self.version, signature_name=signature.name),
            events=self._parts.events,
            shedding=self._parts.shedding,
            waiting=queues.waiting,
        )
        if self._options.batching is not None:
            return ParameterisedQueue(function, self._options.batching, context)
        return GreedyQueue(
            function,
            context,
            max_waiting=self._options.max_queued_requests,
            rows_independent=signature.rows_independent,
        )

    async def _make_function(self, signature: Signature, outputs: tuple[str, ...]) -> Function:
        """On a runtime thread: TensorFlow takes milliseconds for that, longer with a large graph."""
        made: Future[Function] = Future()

        def make() -> None:
            try:
                inputs = [spec.tensor_name for spec in signature.inputs]
                made.set_result(self._runtime.function(inputs, signature.tensor_names(outputs)))
            except Exception as error:
                made.set_exception(error)

        made.set_running_or_notify_cancel()
        self._queues_of(signature).threads.submit(make)
        return await asyncio.wrap_future(made)


class Lease:
    """A model that stays loaded while the `with` block runs, even when a newer version takes its place meanwhile."""

    __slots__ = ("model",)

    def __init__(self, model: Model) -> None:
        self.model = model

    def __enter__(self) -> Model:
        self.model.num_leases += 1
        self.model.idle.clear()
        return self.model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model.num_leases -= 1
        if not self.model.num_leases:
            self.model.idle.set()


def _chosen_outputs(signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
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


def _check_batchable(arrays: Sequence[Array], num_rows: int | None) -> None:
    if num_rows is not None or not arrays:
        return
    if any(not array.ndim for array in arrays):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
