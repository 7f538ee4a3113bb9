"""The queues of a loaded version: one for each set of outputs that callers ask for, made aside and not without end."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from inkling.serving.errors import ServingError, internal
from inkling.serving.model.inspection import make_signatures
from inkling.serving.model.model import MAX_OUTPUT_SETS, Model, ModelOptions
from tests.serving.conftest import server_parts

OUTPUTS = [f"y{number:02}" for number in range(MAX_OUTPUT_SETS + 8)]


class Names:
    """A runtime whose outputs are their tensors' names; remembers what it made functions for, and in which threads."""

    graph_def = None

    def __init__(self):
        definition = SignatureDef()
        for infos, names in ((definition.inputs, ["x"]), (definition.outputs, OUTPUTS)):
            for name in names:
                infos[name].name, infos[name].dtype = f"{name}:0", 1
                infos[name].tensor_shape.dim.add().size = -1
        self.signature_defs = {"serving_default": definition}
        self.made = []
        self.threads = set()
        self.failures = []

    def function(self, inputs, outputs):
        self.made.append(tuple(outputs))
        self.threads.add(threading.current_thread())
        if self.failures:
            raise self.failures.pop()
        return lambda values: [np.array([name]) for name in outputs]

    def close(self):
        pass


@pytest.fixture
def runtime():
    return Names()


@pytest.fixture
def ask(runtime):
    """Send requests for these sets of outputs at once, in one event loop for each call; errors in place of answers."""
    parts = server_parts(num_threads=2)
    signatures = make_signatures(runtime, {})

    async def all_at_once(*filters):
        model = Model("m", 1, runtime, signatures, options=ModelOptions(), parts=parts)
        return await rounds(model, filters)

    async def rounds(model, filters):
        results = []
        for each in filters:
            calls = [model.predict(signatures["serving_default"], {"x": np.zeros(1, np.float32)}, f) for f in each]
            results.extend(await asyncio.gather(*calls, return_exceptions=True))
        return results

    return lambda *filters: asyncio.run(all_at_once(*filters))


def test_first_requests_for_the_same_outputs_share_a_function_made_on_a_runtime_thread(ask, runtime):
    answers = ask([["y01", "y00"], ["y00", "y01"], ["y01"]])
    assert [sorted(answer) for answer in answers] == [["y00", "y01"], ["y00", "y01"], ["y01"]]
    assert all(array == [f"{alias}:0"] for answer in answers for alias, array in answer.items())
    assert sorted(runtime.made) == [("y00:0", "y01:0"), ("y01:0",)]
    assert threading.main_thread() not in runtime.threads


def test_callers_cannot_have_functions_kept_without_end(ask, runtime):
    others = [[name] for name in OUTPUTS]
    ask(*[[["y00"], other] for other in others], [others[1]], [others[-1]])
    assert runtime.made.count(("y00:0",)) == 1  # always in use
    assert runtime.made.count(("y01:0",)) == 2  # long unused, and made again
    assert runtime.made.count((f"{OUTPUTS[-1]}:0",)) == 1


def test_a_function_that_cannot_be_made_is_tried_again(ask, runtime):
    runtime.failures = [internal("no function")]
    first, second = ask([["y00"]], [["y00"]])
    assert isinstance(first, ServingError) and first.code == grpc.StatusCode.INTERNAL
    assert second["y00"] == ["y00:0"]
