"""A Predict takes the way that docs/architecture.md tells: one is traced from the wire to the runtime, in this process.

The walk's numbered steps begin with the module that they are about. These modules are the main line: those on the stack
when the request enters its queue, is given to a thread, and reaches the runtime. Others are asked on the way, and
return.
"""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from inkling import serving
from inkling.serving.flags import ServerConfig
from inkling.serving.grpc.api import GrpcApi, make_server
from inkling.serving.lifecycle.loader import LoadOptions
from inkling.serving.lifecycle.manager import Manager, ManagerOptions
from inkling.serving.load_shedding import Drain, KnownFullQueues
from inkling.serving.model.model import ServerParts
from inkling.serving.model_service import ModelService
from inkling.serving.monitoring.metrics import Metrics
from inkling.serving.prediction_service import PredictionService
from tests.patience import PATIENCE_S
from tests.serving import saved_models
from tests.serving.conftest import predict_request

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
ROOT = Path(serving.__file__).parent
HOPS = {"_enqueue", "submit", "function"}  # into the queue, to a thread, into the runtime
MAX_MAIN_LINE = 10


class Trace:
    """A profile function that notes which of our modules are entered, and the stacks at the hops."""

    def __init__(self) -> None:
        self.is_on = False
        self.entered: list[str] = []
        self.main_line: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if not self.is_on or event != "call" or (module := module_of(frame)) is None:
            return
        note(self.entered, module)
        if frame.f_code.co_name in HOPS:
            for each in reversed(list(stack_of(frame))):
                note(self.main_line, each)


def note(modules: list[str], module: str) -> None:
    if module not in modules:
        modules.append(module)


def module_of(frame: FrameType) -> str | None:
    """The file of ours that a function is in, as the page names it."""
    path = Path(frame.f_code.co_filename)
    return f"serving/{path.relative_to(ROOT)}" if path.is_relative_to(ROOT) else None


def stack_of(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        if (module := module_of(frame)) is not None:
            yield module
        frame = frame.f_back


@contextmanager
def event_loop():
    """An event loop in a thread of its own, as a function that runs a coroutine there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def start_server(model_path):
    """The parts of server.py that a Predict meets, on a free port."""
    events, shedding, drain = Metrics(), KnownFullQueues(), Drain()
    parts = ServerParts(num_threads=1, events=events, shedding=shedding)
    manager = Manager(ManagerOptions(load=LoadOptions.of(ServerConfig(), None)), parts=parts)
    predictions = PredictionService(manager, drain=drain, events=events)
    models = ModelService(manager, drain=drain, metrics=events)
    await manager.configure([ModelConfig(name="scale", base_path=str(model_path))])
    api = GrpcApi(predictions, models, shedding=shedding, events=events, max_pending_bytes=10**9)
    server = make_server(arguments="", max_concurrent_rpcs=16)
    api.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The trace of the second of two Predicts: the first one makes the queue."""
    folder = tmp_path_factory.mktemp("models") / "scale"
    saved_models.write_scale(folder / "1", 2.0)
    trace = Trace()
    threading.setprofile(trace)  # of the threads that are started from here on
    try:
        with event_loop() as run:
            server, port = run(start_server(folder))
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
                for trace.is_on in (False, True):
                    response = predict(predict_request("scale", {"x": np.float32([3])}), timeout=PATIENCE_S)
                    assert list(response.outputs["y"].float_val) == [6.0]
                trace.is_on = False
            run(server.stop(0))
    finally:
        threading.setprofile(None)
    return trace


@pytest.fixture(scope="module")
def steps():
    """The walk's steps; what is in brackets with REST's name is about REST."""
    walk = re.search(r"^## [^\n]*a Predict[^\n]*\n(.*?)(?=^## )", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert walk, f"{PAGE} has no section on a Predict"
    found = re.findall(r"^\d+\. (.*?)(?=^\d+\. |^\S|\Z)", walk[1], re.MULTILINE | re.DOTALL)
    return [re.sub(r"\(REST:.*?\)", "", step, flags=re.DOTALL) for step in found]


def test_the_main_line_is_the_walk_of_the_page(traced, steps):
    first = [re.match(r"`(serving/[\w/]+\.py)`", step) for step in steps]
    assert traced.main_line == [match[1] for match in first if match]


def test_the_main_line_is_short(traced):
    assert len(traced.main_line) <= MAX_MAIN_LINE


def test_whatever_else_a_predict_asks_is_on_the_page(traced, steps):
    named = re.findall(r"`(serving/[\w/]+\.py)`", "".join(steps))
    assert set(traced.entered) <= set(named)


def test_the_page_names_files_that_exist():
    for name in re.findall(r"`(serving/[\w/]+\.py)`", PAGE.read_text()):
        assert (ROOT / name.removeprefix("serving/")).is_file(), name
