"""No request keeps the event loop, which serves everybody, for long.

How long is counted and not timed: the calls, of Python's functions and of C's, between two turns of the loop. A server
runs in this process, on a loop in a thread whose every call is counted.
"""

import asyncio
import base64
import gzip
import http.client
import json
import struct
import sys
import threading
from contextlib import closing
from types import FrameType

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, inference_pb2, predict_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from inkling.serving import offload
from inkling.serving.flags import ServerConfig
from inkling.serving.grpc.api import GrpcApi, make_server
from inkling.serving.grpc.v2 import V2Rpcs
from inkling.serving.lifecycle.loader import LoadOptions
from inkling.serving.lifecycle.manager import Manager, ManagerOptions
from inkling.serving.load_shedding import Drain
from inkling.serving.model_service import ModelService
from inkling.serving.monitoring.metrics import Metrics
from inkling.serving.names import PREDICTION_SERVICE, V2_SERVICE
from inkling.serving.prediction_service import PredictionService
from inkling.serving.proto import open_inference_pb2 as v2_messages
from inkling.serving.rest import api as rest_api
from inkling.serving.v2.repository import Repository
from inkling.serving.v2.service import V2Service
from tests.patience import PATIENCE_S
from tests.serving import saved_models
from tests.serving.conftest import server_parts

MAX_CALLS = 20_000  # of functions, in one turn of the loop: some ten milliseconds
MANY = 300_000


class Calls:
    """A profile function that counts calls, and keeps the largest number in a turn of the loop."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.longest_json = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code is asyncio.Handle._run.__code__:
            self.now = 0
        elif event in ("call", "c_call"):
            self.now += 1
            self.most = max(self.most, self.now)
            if event == "call" and frame.f_code.co_name == "parse_object":
                self.longest_json = max(self.longest_json, len(frame.f_locals["body"]))


class Server:
    """Models, and both APIs, on a loop of their own."""

    def __init__(self, repository) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.calls = Calls()
        self.run(self.start(repository))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    async def start(self, repository):
        events, drain, parts = Metrics(), Drain(), server_parts()
        config = ServerConfig(rest_api_port=0)
        manager = Manager(ManagerOptions(load=LoadOptions.of(config, None)), parts=parts)
        predictions = PredictionService(manager, drain=drain, events=events)
        models = ModelService(manager, drain=drain, metrics=events)
        await manager.configure([ModelConfig(name=path.name, base_path=str(path)) for path in repository.iterdir()])
        names = Repository(manager, models=models, drain=drain, may_change=False, folder=repository)
        v2 = V2Service(predictions, repository=names, manager=manager, models=models, drain=drain)
        api = GrpcApi(
            predictions, models, shedding=parts.shedding, events=events, max_pending_bytes=10**9, v2=V2Rpcs(v2)
        )
        self.grpc = make_server(arguments="", max_concurrent_rpcs=16)
        api.add_to(self.grpc)
        self.port = self.grpc.add_insecure_port("127.0.0.1:0")
        await self.grpc.start()
        backend = rest_api.Backend(predictions=predictions, models=models, drain=drain, metrics=events, v2=v2)
        self.rest = await rest_api.start(config, backend)

    def stop(self):
        self.channel.close()
        self.run(self.rest.stop(1))
        self.run(self.grpc.stop(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def post(self, path, body, headers=None):
        with closing(http.client.HTTPConnection("127.0.0.1", self.rest.port, timeout=PATIENCE_S)) as connection:
            connection.request("POST", path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")

    def call(self, method, content):
        """The status of an RPC."""
        try:
            self.channel.unary_unary(method)(content, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    def watch(self):
        """Count from now on."""
        self.calls.most = self.calls.longest_json = 0
        self.loop.call_soon_threadsafe(sys.setprofile, self.calls)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    saved_models.write_convolution(root / "images" / "1")
    saved_models.write_several(root / "several" / "1")
    saved_models.write_half_plus_two(root / "half_plus_two" / "1")
    server = Server(root)
    yield server
    server.stop()


def rows(row, last, number=MANY):
    return b'{"instances": [' + (row + b",") * number + last + b"]}"


def gzipped_nothing(body):
    return gzip.compress(b"") * 20_000 + gzip.compress(body)


B64 = json.dumps({"b64": base64.b64encode(b"x").decode()}).encode()
SHOUT = b'{"signature_name": "shout", "instances": ['
EXAMPLES = b'{"signature_name": "classify_x_to_y", "examples": ['
REST = {
    "scalars for images, and a boolean": ("images", "predict", rows(b"1", b"true"), 400),
    "rows of an image that end unevenly": ("images", "predict", rows(b"[[[1],[1]]]", b"[[[1]]]", MANY // 10), 400),
    "columns of which the last is too short": (
        "several", "predict", b'{"inputs": [' + b"[1,2]," * MANY + b"[1]]}", 400,
    ),
    "one row that is long": ("several", "predict", b'{"instances": [[' + b"1," * MANY + b"1]]}", 400),
    "floats for integers at the end": (
        "several", "predict", b'{"signature_name": "pick", "inputs": [' + b"1," * MANY + b"1.5]}", 400,
    ),
    "empty lists": ("images", "predict", rows(b"[]", b"[]"), 400),
    "empty lists of one row": ("images", "predict", b'{"instances": [[' + b"[]," * MANY + b"[]]]}", 400),
    "bytes": ("several", "predict", SHOUT + (B64 + b",") * (MANY // 10) + b'{"b64": "!"}]}', 400),
    "strings": ("several", "predict", SHOUT + b'"x",' * (MANY // 10) + b"1]}", 400),
    "good strings": ("several", "predict", SHOUT + b'"x",' * (MANY // 10) + b'"x"]}', 200),
    "named rows": ("several", "predict", rows(b'{"x":[1,2]}', b'{"y":[1,2]}', MANY // 10), 400),
    "a row of many names": (
        "several", "predict", b'{"instances": [{' + b",".join(b'"%d":1' % i for i in range(MANY // 10)) + b"}]}", 400,
    ),
    "inputs of many names": (
        "several", "predict", b'{"inputs": {' + b",".join(b'"%d":1' % i for i in range(MANY // 10)) + b"}}", 400,
    ),
    "examples": ("half_plus_two", "classify", EXAMPLES + b'{"x":1},' * (MANY // 10) + b'{"x":[[]]}]}', 400),
    "one example of many values": ("half_plus_two", "classify", EXAMPLES + b'{"x":[' + b"1," * MANY + b'"x"]}]}', 400),
    "a name to be escaped": (
        "several", "predict", b'{"signature_name": "' + b"\\u0001" * MANY + b'", "instances": [1]}', 400,
    ),
    "no JSON at its end": ("images", "predict", rows(b"1", b"x"), 400),
    "millions of values": ("images", "predict", b'{"instances": [' + b"1," * 3_000_000 + b"1]}", 400),
}  # fmt: skip


@pytest.mark.parametrize(("model", "verb", "body", "status"), REST.values(), ids=REST)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_rest_bodies(server, model, verb, body, status, packed):
    body, headers = (gzip.compress(body, 9), {"Content-Encoding": "gzip"}) if packed else (body, {})
    server.watch()
    assert server.post(f"/v1/models/{model}:{verb}", body, headers)[0] == status
    assert server.calls.most < MAX_CALLS
    assert server.calls.longest_json <= 16 * offload.SHORT


def test_a_gzip_body_that_is_mostly_empty(server):
    server.watch()
    body = gzipped_nothing(b'{"instances": [2.0]}')
    assert server.post("/v1/models/half_plus_two:predict", body, {"Content-Encoding": "gzip"})[0] == 200
    assert server.calls.most < MAX_CALLS


def predict(model, signature="", **tensors):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for alias, tensor in tensors.items():
        request.inputs[alias].CopyFrom(tensor)
    return request


def tensor(dtype, shape, **values):
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def many_inputs():
    request = predict("images")
    for index in range(MANY):
        request.inputs[str(index)].dtype = types_pb2.DT_FLOAT
    return request


def many_outputs():
    request = predict("several", x=tensor(types_pb2.DT_FLOAT, [1, 2], float_val=[1, 2]))
    request.output_filter.extend(["y"] * MANY)
    return request


def many_examples(*, features=1, shared=0):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", "classify_x_to_y"
    listed = request.input.example_list_with_context if shared else request.input.example_list
    if shared:
        listed.context.features.feature["c"].bytes_list.value.append(b"x" * shared)
    for _ in range(MANY // 10 // features):
        example = listed.examples.add()
        for index in range(features):
            example.features.feature[f"f{index}"].float_list.value.append(1)
    return request


def many_tasks():
    request = inference_pb2.MultiInferenceRequest()
    for index in range(MANY // 10):
        task = request.tasks.add()
        task.model_spec.name, task.model_spec.signature_name = "half_plus_two", str(index)
    return request


def many_fields():
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"] * MANY)
    request.model_spec.name = "several"
    return request


GRPC = {
    "inputs": ("Predict", many_inputs, "INVALID_ARGUMENT"),
    "outputs": ("Predict", many_outputs, "INVALID_ARGUMENT"),
    "strings": (
        "Predict",
        lambda: predict("several", "shout", text=tensor(types_pb2.DT_STRING, [MANY + 1], string_val=[b""] * MANY)),
        "INVALID_ARGUMENT",
    ),
    "good strings": (
        "Predict",
        lambda: predict("several", "shout", text=tensor(types_pb2.DT_STRING, [MANY], string_val=[b""] * MANY)),
        "OK",
    ),
    "more strings than are taken": (
        "Predict",
        lambda: predict("several", "shout", text=tensor(types_pb2.DT_STRING, [1], string_val=[b""] * (2 << 20))),
        "INVALID_ARGUMENT",
    ),
    "integers": (
        "Predict",
        lambda: predict("several", "pick", index=tensor(types_pb2.DT_INT32, [MANY], int_val=[1] * MANY)),
        "OK",
    ),
    "one value for very many": (
        "Predict",
        lambda: predict("images", images=tensor(types_pb2.DT_FLOAT, [85_000, 8, 8, 1], float_val=[1])),
        "INVALID_ARGUMENT",
    ),
    "dimensions": (
        "Predict",
        lambda: predict("images", images=tensor(types_pb2.DT_FLOAT, [1] * MANY, float_val=[1])),
        "INVALID_ARGUMENT",
    ),
    "examples": ("Classify", many_examples, "OK"),
    "features": ("Classify", lambda: many_examples(features=1000), "OK"),
    "examples with a long context": ("Classify", lambda: many_examples(shared=100_000), "INVALID_ARGUMENT"),
    "tasks": ("MultiInference", many_tasks, "INVALID_ARGUMENT"),
    "metadata fields": ("GetModelMetadata", many_fields, "OK"),
    "a signature's name": ("Predict", lambda: predict("images", "x" * 5_000_000), "FAILED_PRECONDITION"),
}


@pytest.mark.parametrize(("method", "make", "status"), GRPC.values(), ids=GRPC)
def test_grpc_messages(server, method, make, status):
    content = make().SerializeToString()
    server.watch()
    assert server.call(f"/{PREDICTION_SERVICE}/{method}", content)[0] == status
    assert server.calls.most < MAX_CALLS


V2_INPUT = b'{"name": "%b", "datatype": "%b", "shape": [%d], "data": ['
V2_REST = {
    "a boolean at the end": (b'{"inputs": [' + V2_INPUT % (b"x", b"FP32", MANY + 1) + b"1," * MANY + b"true]}]}", 400),
    "floats for integers": (
        b'{"inputs": [' + V2_INPUT % (b"index", b"INT32", MANY + 1) + b"1," * MANY + b"1.5]}]}",
        400,
    ),
    "many inputs": (b'{"inputs": [' + b'{"name": "x"},' * MANY + b"1]}", 400),
    "many outputs": (b'{"inputs": [], "outputs": [' + b'{"name": "x"},' * MANY + b"1]}", 400),
}


@pytest.mark.parametrize(("body", "status"), V2_REST.values(), ids=V2_REST)
def test_v2_bodies(server, body, status):
    server.watch()
    assert server.post("/v2/models/several/infer", body)[0] == status
    assert server.calls.most < MAX_CALLS
    assert server.calls.longest_json <= 16 * offload.SHORT


def test_v2_strings_as_binary_data(server):
    tensor = b'{"name": "text", "datatype": "BYTES", "shape": [%d], "parameters": {"binary_data_size": %d}}'
    head = b'{"parameters": {"signature_name": "shout", "binary_data_output": true}, "inputs": [%b]}' % (
        tensor % (MANY, 4 * MANY)
    )
    server.watch()
    length = {"Inference-Header-Content-Length": str(len(head))}
    status, text = server.post("/v2/models/several/infer", head + struct.pack("<I", 0) * MANY, length)
    assert status == 200, text[:1000]
    assert server.calls.most < MAX_CALLS


def v2_request(signature="", **inputs):
    request = v2_messages.ModelInferRequest(model_name="several")
    request.parameters["signature_name"].string_param = signature
    for name, (datatype, contents) in inputs.items():
        request.inputs.add(name=name, datatype=datatype, shape=[MANY], contents=contents)
    return request


def v2_inputs(name):
    request = v2_messages.ModelInferRequest(model_name="several")
    for index in range(MANY):
        request.inputs.add(name=name % index, datatype="FP32", shape=[1])
    return request


V2_GRPC = {
    "inputs": (lambda: v2_inputs("x%d"), "INVALID_ARGUMENT"),
    "integers": (
        lambda: v2_request("pick", index=("INT32", v2_messages.InferTensorContents(int_contents=[1] * MANY))), "OK",
    ),
    "strings": (
        lambda: v2_request("shout", text=("BYTES", v2_messages.InferTensorContents(bytes_contents=[b""] * MANY))), "OK",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "status"), V2_GRPC.values(), ids=V2_GRPC)
def test_v2_messages(server, make, status):
    content = make().SerializeToString()
    server.watch()
    assert server.call(f"/{V2_SERVICE}/ModelInfer", content)[0] == status
    assert server.calls.most < MAX_CALLS


def test_what_is_good_is_answered_all_the_same(server):
    numbers = np.arange(60_000).reshape(-1, 2) / 4
    status, text = server.post("/v1/models/several:predict", json.dumps({"instances": numbers.tolist()}))
    assert status == 200
    assert [row["sum"] for row in json.loads(text)["predictions"]] == numbers.astype(np.float32).sum(axis=1).tolist()
