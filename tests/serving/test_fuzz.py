"""Whatever is sent, the server answers, blames the sender, and answers the next good request.

3,600 requests, the same ones every time; the tests marked `fuzz`, for `make fuzz`, send 100,000 at random.
"""

import base64
import gzip
import http.client
import importlib.util
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from inkling.serving.access.keys import line_of, make_key
from inkling.serving.proto import open_inference_pb2 as v2
from tests.server_process import ServerProcess

pytestmark = pytest.mark.process

FEW, MANY = 3_500, 100_000
TIMEOUT_S = 20
PREDICTION = "/tensorflow.serving.PredictionService/"
V2 = "/inference.GRPCInferenceService/"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
# All but RELOAD: by chance that would take the models away.
METHODS = {
    f"{PREDICTION}Predict": predict_pb2.PredictRequest,
    f"{PREDICTION}Classify": classification_pb2.ClassificationRequest,
    f"{PREDICTION}Regress": regression_pb2.RegressionRequest,
    f"{PREDICTION}MultiInference": inference_pb2.MultiInferenceRequest,
    f"{PREDICTION}GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "/tensorflow.serving.ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    f"{V2}ModelInfer": v2.ModelInferRequest,
    f"{V2}ModelMetadata": v2.ModelMetadataRequest,
    f"{V2}ModelReady": v2.ModelReadyRequest,
    f"{V2}RepositoryIndex": v2.RepositoryIndexRequest,
    f"{V2}RepositoryModelLoad": v2.RepositoryModelLoadRequest,  # refused to all
}
SIGNATURES = {
    "half_plus_two": ("serving_default", "regress_x_to_y", "classify_x_to_y", "asset"),
    "several": ("serving_default", "double", "shout", "minus_mean", "pick", "add_scalars", "row_sum", "counter"),
    "dtypes": tuple(name.removeprefix("DT_").lower() for name in types_pb2.DataType.DESCRIPTOR.values_by_name),
    "convolution": ("serving_default",),
    "open_convolution": ("serving_default",),
    "table": ("serving_default",),
    "keras": ("serving_default", "serve"),
    "scale": ("serving_default",),
}
ALIASES = ("x", "images", "text", "words", "index", "z", "inputs", "keras_tensor")
OUR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE,
             grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.CANCELLED}  # fmt: skip


@dataclass
class Asked:
    """The server that is asked, and `good`, which asks it what every server can answer, on both ports."""

    server: ServerProcess
    channel: grpc.Channel
    good: Callable[[], None]


@pytest.fixture
def asked(predict, server, channel):
    def good():
        assert predict("half_plus_two", {"x": [[2.0]]})["y"].tolist() == [[3.0]]
        status, body = post(server, "/v1/models/half_plus_two:predict", b'{"instances": [2.0]}')
        assert status == 200 and json.loads(body) == {"predictions": [3.0]}
        assert server.process.poll() is None

    return Asked(server, channel, good)


@pytest.fixture(scope="module")
def guarded(repository, tmp_path_factory):
    """A server that takes keys and tokens, and asks for its good request with a key."""
    folder, key = tmp_path_factory.mktemp("keys"), make_key("alice")
    (folder / "keys.txt").write_text(line_of(key))
    (folder / "admins.txt").write_text(line_of(make_key("root")))
    flags = [f"--api_keys_file={folder / 'keys.txt'}", f"--admin_api_keys_file={folder / 'admins.txt'}"]
    if importlib.util.find_spec("jwt") is not None:
        from tests.serving.access.issuer import AUDIENCE, ISSUER, Issuer

        (folder / "jwks.json").write_text(Issuer().jwks())
        flags += [f"--jwt_jwks={folder / 'jwks.json'}", f"--jwt_issuer={ISSUER}", f"--jwt_audience={AUDIENCE}"]
    flags += ["--model_name=scale", f"--model_base_path={repository / 'scale'}", "--allow_model_control"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:

        def good():
            path, body = "/v1/models/scale:predict", b'{"instances": [2.0]}'
            assert post(server, path, body, {"X-Api-Key": key}) == (200, b'{\n    "predictions": [4.0\n    ]\n}')
            assert server.process.poll() is None

        yield Asked(server, channel, good)


def fuzz(part, *, of="asked", **strategies):
    """Make a test of what checks one request: it sends `part` of all requests, few or, marked so, many.

    `of` is the fixture that is asked.
    """

    def decorate(check):
        @pytest.mark.parametrize(
            "total",
            [
                pytest.param(FEW, id="few"),
                pytest.param(MANY, id="many", marks=[pytest.mark.fuzz, pytest.mark.timeout(3600)]),
            ],
        )
        def test(request, total):
            asked = request.getfixturevalue(of)

            @settings(
                max_examples=int(total * part),
                deadline=None,
                database=None,
                derandomize=total == FEW,
                suppress_health_check=list(HealthCheck),
            )
            @given(**strategies)
            def send(**drawn):
                check(asked, **drawn)
                asked.good()

            send()

        return test

    return decorate


words = st.one_of(st.sampled_from(ALIASES), st.text(max_size=8), st.just(""))
models = st.one_of(st.sampled_from(sorted(SIGNATURES)), st.text(max_size=12))
few = st.integers(0, 4)
dimensions = st.one_of(few, st.sampled_from([-1, -(2**63), 2**20, 2**31, 2**32, 2**40, 2**62, 2**63 - 1]))
shapes = st.lists(dimensions, max_size=6)
dtypes = st.one_of(st.sampled_from([1, 3, 7, 9, 4, 10, 19, 14]), st.integers(0, 130))
floats = st.floats(width=32)


@st.composite
def tensor_protos(draw):
    """A tensor whose parts do not care for each other."""
    tensor = TensorProto(dtype=draw(dtypes), version_number=draw(st.sampled_from([0, 0, 0, 7])))
    for size in draw(shapes):
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_shape.unknown_rank = draw(st.sampled_from([False, False, False, True]))
    match draw(st.integers(0, 7)):
        case 0:
            tensor.tensor_content = draw(st.binary(max_size=64))
        case 1:
            tensor.float_val.extend(draw(st.lists(floats, max_size=8)))
        case 2:
            tensor.string_val.extend(draw(st.lists(st.binary(max_size=6), max_size=4)))
        case 3:
            tensor.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8)))
        case 4:
            tensor.int64_val.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8)))
        case 5:
            tensor.half_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8)))
            tensor.dcomplex_val.extend(draw(st.lists(st.floats(), max_size=3)))
        case 6:
            tensor.bool_val.extend(draw(st.lists(st.booleans(), max_size=8)))
            tensor.double_val.extend(draw(st.lists(st.floats(), max_size=4)))
    return tensor


@st.composite
def honest_tensor_protos(draw):
    """A float tensor that is sound in itself, of any rank up to 6."""
    shape = draw(st.lists(few, max_size=6))
    tensor = TensorProto(dtype=draw(st.sampled_from([1, 1, 1, 2, 3, 9])))
    count = 1
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
        count *= size
    width = {1: 4, 2: 8, 3: 4, 9: 8}[tensor.dtype]
    tensor.tensor_content = bytes(count * width)
    return tensor


def fill_spec(draw, spec):
    spec.name = draw(models)
    spec.signature_name = draw(st.one_of(st.sampled_from(SIGNATURES.get(spec.name, ("serving_default",))), words))
    match draw(st.integers(0, 5)):
        case 0:
            spec.version.value = draw(st.integers(-(2**63), 2**63 - 1))
        case 1:
            spec.version_label = draw(words)


@st.composite
def predict_requests(draw):
    request = predict_pb2.PredictRequest()
    fill_spec(draw, request.model_spec)
    tensors = st.one_of(tensor_protos(), honest_tensor_protos())
    for alias, tensor in draw(st.dictionaries(words, tensors, max_size=3)).items():
        request.inputs[alias].CopyFrom(tensor)
    request.output_filter.extend(draw(st.lists(words, max_size=2)))
    return request


datatypes = st.one_of(st.sampled_from(["FP32", "FP32", "INT32", "BYTES", "BOOL", "FP16", "UINT8"]), words)
versions = st.one_of(st.just(""), st.just(""), st.sampled_from(["1", "stable", "-1", "9" * 19, "9" * 40]), words)


@st.composite
def v2_contents(draw):
    """Elements in lists that do not care for the datatype."""
    contents = v2.InferTensorContents()
    match draw(st.integers(0, 5)):
        case 0:
            contents.fp32_contents.extend(draw(st.lists(floats, max_size=8)))
        case 1:
            contents.int_contents.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8)))
        case 2:
            contents.bytes_contents.extend(draw(st.lists(st.binary(max_size=6), max_size=4)))
        case 3:
            contents.uint64_contents.extend(draw(st.lists(st.integers(0, 2**64 - 1), max_size=4)))
            contents.bool_contents.extend(draw(st.lists(st.booleans(), max_size=4)))
    return contents


def fill_honestly(request, tensor):
    """Raw contents of as many bytes as `tensor` says, if that is few."""
    size = {"FP32": 4, "INT32": 4, "FP16": 2}.get(tensor.datatype, 1)
    for dimension in tensor.shape:
        size *= dimension
    request.raw_input_contents.append(bytes(size) if 0 <= size <= 4096 else b"")


@st.composite
def v2_requests(draw):
    """A ModelInferRequest whose parts do not care for each other, or do."""
    request = v2.ModelInferRequest(model_name=draw(models), model_version=draw(versions), id=draw(words))
    if draw(st.booleans()):
        name = draw(st.sampled_from(SIGNATURES.get(request.model_name, ("x",))))
        request.parameters["signature_name"].string_param = name
    if draw(st.integers(0, 5)) == 0:
        request.parameters[draw(st.sampled_from(["signature_name", "version_label", "x"]))].int64_param = 1
    honest = draw(st.booleans())
    for _ in range(draw(st.integers(0, 3))):
        tensor = request.inputs.add(name=draw(words), datatype=draw(datatypes), shape=draw(shapes))
        if honest:
            fill_honestly(request, tensor)
        elif draw(st.booleans()):
            tensor.contents.CopyFrom(draw(v2_contents()))
    if not honest:
        request.raw_input_contents.extend(draw(st.lists(st.binary(max_size=24), max_size=3)))
    for name in draw(st.lists(words, max_size=2)):
        request.outputs.add(name=name)
    return request


def fill_input(draw, message):
    lists = (message.example_list.examples, message.example_list_with_context.examples)
    examples = draw(st.sampled_from(lists))
    for _ in range(draw(st.integers(0, 3))):
        feature = examples.add().features.feature[draw(words)]
        match draw(st.integers(0, 3)):
            case 0:
                feature.float_list.value.extend(draw(st.lists(floats, max_size=3)))
            case 1:
                feature.int64_list.value.extend(draw(st.lists(st.integers(-9, 9), max_size=3)))
            case 2:
                feature.bytes_list.value.extend(draw(st.lists(st.binary(max_size=5), max_size=3)))


@st.composite
def example_requests(draw):
    if draw(st.booleans()):
        message = draw(st.sampled_from([classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest]))()
        fill_spec(draw, message.model_spec)
    else:
        message = inference_pb2.MultiInferenceRequest()
        for _ in range(draw(st.integers(0, 3))):
            task = message.tasks.add(
                method_name=f"tensorflow/serving/{draw(st.sampled_from(['classify', 'regress', 'x']))}"
            )
            fill_spec(draw, task.model_spec)
    fill_input(draw, message.input)
    return message


def rpc(channel, method, body):
    """The status of an RPC of any bytes."""
    try:
        channel.unary_unary(method)(body, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        assert error.code() not in OUR_FAULT, f"{method} {body!r}: {error.code()} {error.details()}"


def method_of(request):
    return next(method for method, kind in METHODS.items() if isinstance(request, kind))


@fuzz(0.2, request_=predict_requests())
def test_predict_requests_of_any_content(asked, request_):
    rpc(asked.channel, f"{PREDICTION}Predict", request_.SerializeToString())


@fuzz(0.15, request_=v2_requests())
def test_v2_requests_of_any_content(asked, request_):
    rpc(asked.channel, f"{V2}ModelInfer", request_.SerializeToString())


@fuzz(0.1, request_=example_requests())
def test_example_requests_of_any_content(asked, request_):
    rpc(asked.channel, method_of(request_), request_.SerializeToString())


@fuzz(
    0.1,
    request_=st.one_of(predict_requests(), example_requests(), v2_requests()),
    method=st.sampled_from(sorted(METHODS)),
    cut=st.integers(0, 200),
    flip=st.integers(0, 400),
    tail=st.binary(max_size=10),
)
def test_messages_cut_short_or_damaged(asked, request_, method, cut, flip, tail):
    body = bytearray(request_.SerializeToString())
    if flip < len(body):
        body[flip] ^= 0xFF
    rpc(asked.channel, method, bytes(body[: len(body) - cut] if cut < len(body) else body) + tail)


def post(server, path, body, headers=None, method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


encoded = st.one_of(st.text(max_size=9), st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode()))
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=6),
    st.fixed_dictionaries({"b64": encoded}),
)  # fmt: skip
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3), max_leaves=12
)
regular = st.lists(few, max_size=6).map(lambda shape: nested(shape, 1.5))


def nested(shape, value):
    for size in reversed(shape):
        value = [value] * size
    return value


@st.composite
def rest_requests(draw):
    """Path and body of a request that looks like one."""
    model = draw(models)
    document = draw(
        st.dictionaries(
            st.sampled_from(["instances", "inputs", "examples", "context", "signature_name", "other"]),
            st.one_of(values, regular),
            max_size=3,
        )
    )
    if draw(st.booleans()):
        document["signature_name"] = draw(st.sampled_from(SIGNATURES.get(model, ("x",))))
    choice = draw(
        st.sampled_from(["", "", "", "/versions/1", "/versions/99999999999999999999", "/labels/stable", "/labels/x"])
    )
    verb = draw(st.sampled_from(["predict", "predict", "predict", "classify", "regress"]))
    name = "".join(f"%{byte:02x}" for byte in model.encode("utf-8", "surrogatepass"))
    return f"/v1/models/{name}{choice}:{verb}", json.dumps(document).encode()


v2_members = st.fixed_dictionaries(
    {"name": words, "datatype": datatypes, "shape": st.one_of(shapes, shapes, values)},
    optional={
        "data": st.one_of(values, regular),
        "parameters": st.one_of(
            st.fixed_dictionaries({"binary_data_size": st.one_of(st.integers(-2, 64), values)}), values
        ),
    },
)


@st.composite
def v2_rest_requests(draw):
    """Path, body and headers of a V2 inference that looks like one."""
    model = draw(models)
    document = draw(
        st.fixed_dictionaries(
            {"inputs": st.one_of(st.lists(v2_members, max_size=3), st.lists(v2_members, max_size=3), values)},
            optional={"id": values, "outputs": st.one_of(st.lists(v2_members, max_size=2), values), "other": values},
        )
    )
    document["parameters"] = draw(
        st.one_of(values, st.fixed_dictionaries({"signature_name": st.sampled_from(SIGNATURES.get(model, ("x",)))}))
    )
    text = json.dumps(document).encode()
    length = draw(st.one_of(st.none(), st.just(len(text)), st.integers(-2, len(text) + 3)))
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    name = "".join(f"%{byte:02x}" for byte in model.encode("utf-8", "surrogatepass"))
    choice = draw(st.sampled_from(["", "", "", "/versions/1", "/versions/stable", "/versions/99999999999999999999"]))
    return f"/v2/models/{name}{choice}/infer", text + draw(st.binary(max_size=64)), headers


def check_rest(server, path, body, headers=None, method="POST"):
    status, answer = post(server, path, body, headers, method)
    assert status < 500 or status == 501, f"{method} {path} {body!r}: {status} {answer!r}"


@fuzz(0.2, request_=rest_requests())
def test_rest_requests_of_any_content(asked, request_):
    check_rest(asked.server, *request_)


@fuzz(0.1, request_=v2_rest_requests())
def test_v2_rest_requests_of_any_content(asked, request_):
    check_rest(asked.server, *request_)


@fuzz(
    0.05,
    request_=st.one_of(rest_requests(), v2_rest_requests().map(lambda request: request[:2])),
    cut=st.integers(0, 60),
    insert=st.binary(max_size=4),
    place=st.integers(0, 200),
    encoding=st.sampled_from([None, None, "gzip", "wrong"]),
)
def test_rest_bodies_cut_short_or_damaged(asked, request_, cut, insert, place, encoding):
    path, body = request_
    body = body[:place] + insert + body[place : max(place, len(body) - cut)]
    headers = {"Content-Encoding": "gzip"} if encoding else {}
    check_rest(asked.server, path, gzip.compress(body) if encoding == "gzip" else body, headers)


@fuzz(
    0.05,
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD", "PATCH"]),
    prefix=st.sampled_from(
        [
            "/",
            "/v1/",
            "/v1/models/",
            "/v1/models/half_plus_two",
            "/v2",
            "/v2/models/",
            "/v2/models/scale",
            "/v2/repository/",
        ]
    ),
)
def test_paths_of_any_kind(asked, path, method, prefix):
    check_rest(asked.server, prefix + path, b"", method=method)


@fuzz(
    0.05,
    data=st.one_of(
        st.binary(max_size=60), st.binary(max_size=40).map(lambda b: b"POST /v1/models/x:predict HTTP/1.1\r\n" + b)
    ),
)
def test_bytes_that_are_no_http(asked, data):
    with socket.create_connection(("127.0.0.1", asked.server.rest_port), timeout=TIMEOUT_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


made_up = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    st.builds("ink_{}_{}".format, st.sampled_from(["alice", "root", ""]), st.text("abc_-XYZ019", max_size=50)),
    st.builds("{}.{}.{}".format, *[st.binary(max_size=60).map(lambda b: base64.urlsafe_b64encode(b).decode())] * 3),
    st.sampled_from(['{"alg":"none"}', '{"alg":"HS256","kid":"RS256"}']).map(
        lambda header: f"{base64.urlsafe_b64encode(header.encode()).decode().rstrip('=')}.eyJzdWIiOiJhIn0."
    ),
)
credentials = st.one_of(
    st.just({}),
    made_up.map(lambda key: {"x-api-key": key}),
    made_up.map(lambda key: {"authorization": f"Bearer {key}"}),
    made_up.map(lambda key: {"authorization": key}),
)


@fuzz(
    0.015,
    of="guarded",
    method=st.sampled_from(sorted({*METHODS, RELOAD, "/tensorflow.ProfilerService/Profile"} - {f"{V2}ModelReady"})),
    body=st.one_of(st.binary(max_size=40), predict_requests().map(lambda request: request.SerializeToString())),
    shown=credentials,
)
def test_no_rpc_is_let_in_by_what_is_no_key(guarded, method, body, shown):
    with pytest.raises(grpc.RpcError) as caught:
        guarded.channel.unary_unary(method)(body, timeout=TIMEOUT_S, metadata=tuple(shown.items()))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, (method, shown)


@fuzz(
    0.015,
    of="guarded",
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
    path=st.sampled_from(
        [
            "/v1/models/scale:predict",
            "/v1/models/scale",
            "/v2",
            "/v2/models/scale/infer",
            "/v2/repository/index",
            "/v2/repository/models/scale/unload",
            "//v2/models/scale/ready",
            "/v2/models/scale/ready/../infer",
            "/healthz/../v1/models/scale",
            "/%68ealthz",
        ]
    ),
    end=st.sampled_from(["", "", "/", "?x=/healthz", "%2fready", ";/healthz"]),
    body=st.binary(max_size=40),
    shown=credentials,
)
def test_no_http_request_is_let_in_by_what_is_no_key(guarded, method, path, end, body, shown):
    status, answer = post(guarded.server, path + end, body, shown, method)
    assert status == 401, (method, path + end, shown, answer)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"instances":['])
@pytest.mark.parametrize("depth", [64, 1_000, 100_000])
def test_nesting_of_any_depth(asked, opening, depth):
    check_rest(asked.server, "/v1/models/half_plus_two:predict", opening.encode() * depth)
    body = b'{"instances": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
    check_rest(asked.server, "/v1/models/open_convolution:predict", body)
    check_rest(asked.server, "/v2/models/open_convolution/infer", opening.encode() * depth)
    data = (
        b'{"inputs": [{"name": "images", "datatype": "FP32", "shape": [1], "data": '
        + b"[" * depth
        + b"1"
        + b"]" * depth
    )
    check_rest(asked.server, "/v2/models/open_convolution/infer", data + b"}]}")
    asked.good()
