"""The Open Inference Protocol over HTTP, of a real server on real SavedModels, asked as the specification writes it."""

import gzip
import json
import struct
import zlib

import numpy as np
import pytest

from inkling.serving.v2.contents import from_raw
from inkling.serving.v2.datatypes import DTYPES
from tests.server_process import ServerProcess
from tests.serving.v2.conftest import ask_http

pytestmark = pytest.mark.process

LENGTH = "Inference-Header-Content-Length"


def get(server, path):
    status, _, body = ask_http(server, path)
    return status, json.loads(body)


def tensor(data, shape, datatype="FP32", name="x"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def outputs_of(headers, body):
    """The arrays of an answer by name, from JSON or from the binary data behind it."""
    length = int(headers.get(LENGTH, len(body)))
    document, start = json.loads(body[:length]), length
    found = {}
    for output in document["outputs"]:
        dtype = DTYPES[output["datatype"]]
        if "data" in output:
            found[output["name"]] = np.array(output["data"], dtype).reshape(output["shape"])
        else:
            end = start + output["parameters"]["binary_data_size"]
            found[output["name"]] = from_raw("", tuple(output["shape"]), dtype, body[start:end])
            start = end
    assert start == len(body)
    return found


def test_probes(server):
    assert get(server, "/v2/health/live") == (200, {"live": True})
    assert get(server, "/v2/health/ready") == (200, {"live": True, "ready": True})
    assert get(server, "/v2/models/scale/ready") == (200, {"name": "scale", "ready": True})
    assert get(server, "/v2/models/scale/versions/stable/ready") == (200, {"name": "scale", "ready": True})
    assert get(server, "/v2/models/scale/versions/7/ready") == (400, {"name": "scale", "ready": False})
    assert get(server, "/v2/models/none/ready") == (404, {"error": "Request for unknown model: 'none' is not found"})


def test_metadata(server):
    status, about = get(server, "/v2")
    assert status == 200 and about["extensions"] == ["binary_tensor_data", "model_repository"]
    assert get(server, "/v2/models/scale") == (
        200,
        {
            "name": "scale",
            "versions": ["1", "2"],
            "platform": "tensorflow_savedmodel",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
            "properties": {"signature_names": "serving_default"},
        },
    )
    status, about = get(server, "/v2/models/several?signature_name=shout")
    assert about["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert "shout" in about["properties"]["signature_names"].split(",")


def test_an_answer_is_written_as_the_specification_has_it(server):
    body = {"id": "42", "inputs": [tensor([1, 2, 3, 4], [2, 2])], "outputs": [{"name": "y"}]}
    status, headers, answer = ask_http(server, "/v2/models/several/versions/1/infer", body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(answer) == {
        "model_name": "several",
        "model_version": "1",
        "id": "42",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 8.0]}],
    }


def test_signatures_versions_and_labels_choose(infer):
    status, answer = infer("several", [tensor(["a", "é"], [2], "BYTES", "text")],
                           parameters={"signature_name": "shout"}, outputs=[{"name": "loud"}])  # fmt: skip
    assert (status, answer["outputs"][0]["data"]) == (200, ["A", "é"])
    for choice in ({"version": "1"}, {"version": "stable"}, {"parameters": {"version_label": "stable"}}):
        status, answer = infer("scale", [tensor([10], [1])], **choice)
        assert (answer["model_version"], answer["outputs"][0]["data"]) == ("1", [10.0])


@pytest.mark.parametrize(
    ("model", "signature", "inputs"),
    [
        ("several", "", {"x": np.float32([[0.1, 1e-30], [3, np.nan]])}),
        ("convolution", "", {"images": np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8, 1)}),
        ("keras", "", {"keras_tensor": np.float32([[0.1, 0.2, 0.3, 0.4]])}),
        ("dtypes", "float64", {"x": np.float64([[0.1, 1 / 3]])}),
        ("dtypes", "float16", {"x": np.float16([[0.1, np.inf]])}),
        ("dtypes", "int64", {"x": np.int64([[2**63 - 1, -(2**63)]])}),
    ],
    ids=["matrix", "images", "keras", "doubles", "halves", "integers"],
)
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_answers_are_those_of_tensorflow_serving_to_the_last_bit(server, predict, model, signature, inputs, binary):
    names = {dtype: name for name, dtype in DTYPES.items()}
    sent = [
        {"name": name, "shape": array.shape, "datatype": names[array.dtype]}
        | ({"parameters": {"binary_data_size": array.nbytes}} if binary else {"data": array.tolist()})
        for name, array in inputs.items()
    ]
    parameters = {"binary_data_output": binary} | ({"signature_name": signature} if signature else {})
    text = json.dumps({"inputs": sent, "parameters": parameters}).encode()
    body = text + b"".join(array.tobytes() for array in inputs.values() if binary)
    status, headers, answer = ask_http(server, f"/v2/models/{model}/infer", body, {LENGTH: str(len(text))})
    assert status == 200, answer
    found, expected = outputs_of(headers, answer), predict(model, inputs, signature=signature)
    assert (headers["Content-Type"] == "application/octet-stream") is binary
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def test_bytes_that_are_no_text_go_as_binary_data(server, infer):
    text = [tensor(["a"], [1], "BYTES", "text")]
    signature = {"signature_name": "shout"}
    status, answer = infer("several", text, parameters=signature)
    assert status == 400 and answer["error"].startswith("output 'picture_bytes' holds bytes that are no UTF-8")
    outputs = [{"name": "loud"}, {"name": "picture_bytes", "parameters": {"binary_data": True}}]
    body = {"inputs": text, "parameters": signature, "outputs": outputs}
    status, headers, answer = ask_http(server, "/v2/models/several/infer", body)
    assert {name: array.tolist() for name, array in outputs_of(headers, answer).items()} == {
        "loud": ["A"],
        "picture_bytes": [b"a\xff"],
    }


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_may_be_compressed(server, encoding, compress):
    text = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32",
                                   "parameters": {"binary_data_size": 4}}]}).encode()  # fmt: skip
    headers = {"Content-Encoding": encoding, LENGTH: str(len(text))}
    status, _, answer = ask_http(server, "/v2/models/scale/infer", compress(text + struct.pack("<f", 1.5)), headers)
    assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [3.0])


def test_a_large_body_goes_both_ways(infer):
    values = np.random.default_rng(0).random(30_000, np.float32)
    status, answer = infer("scale", [tensor(values.tolist(), [30_000])])
    assert status == 200
    assert np.array(answer["outputs"][0]["data"], np.float32).tobytes() == (values * 2).tobytes()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/models/none/infer", {"inputs": []}, 404),
        ("/v2/models/scale/versions/7/infer", {"inputs": []}, 404),
        ("/v2/models/scale/infer", {"inputs": []}, 400),
        ("/v2/models/scale/infer", {}, 400),
        ("/v2/models/scale/infer", [], 400),
        ("/v2/models/scale/infer", b"", 400),
        ("/v2/models/scale/infer", b"{", 400),
        ("/v2/models/scale/infer", {"inputs": [], "parameters": {"signature_name": "\ud800"}}, 400),
        ("/v2/models/several/infer", {"inputs": [], "parameters": {"signature_name": "none"}}, 400),
        ("/v2/models/scale", b"", 405),
        ("/v2/models/scale/other", b"", 404),
        ("/v2/repository/models/scale/load", b"", 403),
        ("/v2/repository/models/scale/unload", b"", 403),
    ],
)
def test_errors_are_objects_with_a_text(server, path, body, status):
    found, headers, answer = ask_http(server, path, body)
    assert found == status and headers["Content-Type"].startswith("application/json")
    assert isinstance(json.loads(answer)["error"], str)


def test_what_an_error_repeats_is_cut(infer):
    status, answer = infer("scale", [tensor([1], [2], name="x" * 10_000)])
    assert status == 400 and len(answer["error"]) == 256


@pytest.mark.parametrize(
    "headers", [{LENGTH: "x"}, {LENGTH: "99999"}, {LENGTH: "3"}, {"Content-Encoding": "br"}], ids=str
)
def test_headers_that_do_not_fit_are_refused(server, headers):
    status, _, answer = ask_http(server, "/v2/models/scale/infer", {"inputs": [tensor([1], [1])]}, headers)
    assert status == 400, answer


def test_the_protocol_can_be_turned_off(repository):
    flags = ["--model_name=scale", f"--model_base_path={repository / 'scale'}", "--enable_v2=false"]
    with ServerProcess(*flags) as server:
        status, headers, _ = ask_http(server, "/v2/health/live")
        assert (status, headers["Content-Type"]) == (404, "text/html; charset=utf-8")
