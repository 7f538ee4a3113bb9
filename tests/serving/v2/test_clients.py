"""Triton's own client, unmodified, reads digits and runs a string model and one with several signatures.

It does not install beside the pinned versions of NumPy's and gRPC's packages, so it is no dependency of the tests:
`pip install --no-deps --target DIR tritonclient python-rapidjson geventhttpclient gevent greenlet zope.event
zope.interface brotli certifi`, and DIR on PYTHONPATH.
"""

import asyncio

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request
from tests.serving.v2.conftest import as_strings

grpcclient = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
httpclient = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what the client imports
]
KINDS = ["grpc", "http binary", "http json", "grpc async", "http async"]


def prepared(module, inputs, *, binary=True):
    """Arrays as the client's inputs."""
    made = []
    for name, array in inputs.items():
        tensor = module.InferInput(name, list(array.shape), np_to_datatype(array.dtype))
        made.append(tensor.set_data_from_numpy(array, **({} if binary else {"binary_data": False})))
    return made


def np_to_datatype(dtype):
    from tritonclient.utils import np_to_triton_dtype

    return np_to_triton_dtype(dtype)


def ask(kind, server, model, inputs, outputs, **options):
    """The outputs of one inference by name, by one of the client's ways."""
    if kind == "grpc":
        with grpcclient.InferenceServerClient(server.address) as client:
            result = client.infer(model, prepared(grpcclient, inputs), **options)
    elif kind == "grpc async":
        result = asyncio.run(ask_grpc_async(server, model, inputs, options))
    elif kind == "http async":
        result = asyncio.run(ask_http_async(server, model, inputs, options))
    else:
        binary = kind == "http binary"
        wanted = [httpclient.InferRequestedOutput(name, binary_data=binary) for name in outputs]
        with httpclient.InferenceServerClient(server.rest_url.removeprefix("http://")) as client:
            result = client.infer(model, prepared(httpclient, inputs, binary=binary), outputs=wanted, **options)
    return {name: result.as_numpy(name) for name in outputs}


async def ask_grpc_async(server, model, inputs, options):
    from tritonclient.grpc.aio import InferenceServerClient

    async with InferenceServerClient(server.address) as client:
        return await client.infer(model, prepared(grpcclient, inputs), **options)


async def ask_http_async(server, model, inputs, options):
    from tritonclient.http.aio import InferenceServerClient

    async with InferenceServerClient(server.rest_url.removeprefix("http://")) as client:
        return await client.infer(model, prepared(httpclient, inputs), **options)


@pytest.fixture(scope="module")
def digits_server(digit_models):
    with ServerProcess("--model_name=mnist", f"--model_base_path={digit_models / 'mnist'}") as server:
        yield server


@pytest.mark.parametrize("kind", KINDS)
def test_digits_are_read_as_tensorflow_serving_reads_them(digits_server, kind):
    from inkling.train import data

    images = data.load(None).test_images[:50]
    with grpc.insecure_channel(digits_server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        expected = stub.Predict(predict_request("mnist", {"images": images}), timeout=PATIENCE_S).outputs
    found = ask(kind, digits_server, "mnist", {"images": images}, ["probabilities", "classes"])
    assert found["probabilities"].tobytes() == tf.make_ndarray(expected["probabilities"]).tobytes()
    assert found["classes"].tolist() == tf.make_ndarray(expected["classes"]).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_string_model_and_a_signature_by_name(server, kind):
    found = ask(kind, server, "several", {"text": as_strings([["hé".encode()], [b""]]).reshape(2)}, ["loud"],
                parameters={"signature_name": "shout"}, request_id="7")  # fmt: skip
    assert found["loud"].tolist() in ([b"H\xc3\xa9", b""], ["Hé", ""])  # JSON has strings


@pytest.mark.parametrize("kind", KINDS)
def test_several_signatures_of_one_model(server, predict, kind):
    for signature, inputs, output in (
        ("serving_default", {"x": np.float32([[0.1, 2]])}, "y"),
        ("row_sum", {"x": np.float32([[0.1, 2, 3]])}, "sum"),
        ("pick", {"index": np.int32([3, 0])}, "value"),
    ):
        found = ask(kind, server, "several", inputs, [output], parameters={"signature_name": signature})
        assert found[output].tobytes() == predict("several", inputs, signature=signature)[output].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_versions_by_number_and_by_label(server, kind):
    for version, factor in (("1", 1), ("2", 2), ("stable", 1)):
        found = ask(kind, server, "scale", {"x": np.float32([10])}, ["y"], model_version=version)
        assert found["y"].tolist() == [10.0 * factor]


def test_the_server_and_its_models_are_described(server):
    with (
        grpcclient.InferenceServerClient(server.address) as over_grpc,
        httpclient.InferenceServerClient(server.rest_url.removeprefix("http://")) as over_http,
    ):
        for client in (over_grpc, over_http):
            assert client.is_server_live() and client.is_server_ready()
            assert client.is_model_ready("scale") and client.is_model_ready("scale", "1")
            assert not client.is_model_ready("scale", "7") and not client.is_model_ready("nothing")
        about = over_grpc.get_model_metadata("several", as_json=True)
        assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]
        assert over_http.get_model_metadata("several")["inputs"][0]["shape"] == [-1, 2]
        assert len(over_http.get_model_repository_index()) == len(over_grpc.get_model_repository_index().models)
        for client in (over_grpc, over_http):
            with pytest.raises(Exception, match="Servable not found"):
                client.get_model_metadata("nothing")
            with pytest.raises(Exception, match="explicit model load / unload is not allowed"):
                client.unload_model("scale")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(server, algorithm):
    with httpclient.InferenceServerClient(server.rest_url.removeprefix("http://")) as client:
        sent = prepared(httpclient, {"x": np.float32([1, 2])})
        result = client.infer("scale", sent, request_compression_algorithm=algorithm)
    assert result.as_numpy("y").tolist() == [2.0, 4.0]
