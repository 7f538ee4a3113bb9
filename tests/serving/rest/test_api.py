"""The REST API of a real server on real SavedModels, asked as curl asks it."""

import base64
import gzip
import json
import signal
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess
from tests.serving import saved_models

pytestmark = pytest.mark.process


def ask(server, path, document=None, headers=None):
    """The status and the JSON of an answer; a document makes it a POST."""
    body = document if document is None or isinstance(document, bytes) else json.dumps(document).encode()
    request = urllib.request.Request(server.rest_url + path, body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.status, response.read().decode("utf-8", "surrogateescape")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def predict(server, model, document, choice=""):
    status, text = ask(server, f"/v1/models/{model}{choice}:predict", document)
    assert status == 200, text
    return json.loads(text)


def refusal(server, path, document):
    status, text = ask(server, path, document)
    assert status >= 400
    return status, json.loads(text)["error"]


def test_rows_and_columns_of_tensorflow_servings_own_example(server):
    status, text = ask(server, "/v1/models/half_plus_two:predict", {"instances": [2.0, 3.0, 4.0]})
    assert (status, text) == (200, '{\n    "predictions": [3.0, 3.5, 4.0\n    ]\n}')
    status, text = ask(server, "/v1/models/half_plus_two:predict", {"inputs": [2.0, 3.0]})
    assert (status, text) == (200, '{\n    "outputs": [\n        3.0,\n        3.5\n    ]\n}')


def test_classify_and_regress_give_results(server):
    document = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}]}
    status, text = ask(server, "/v1/models/half_plus_two:classify", document)
    assert (status, text) == (200, '{\n    "results": [[["", 3.0]]\n    ]\n}')
    document = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}
    status, text = ask(server, "/v1/models/half_plus_two:regress", document)
    assert (status, text) == (200, '{\n    "results": [2.5, 3.0]\n}')
    shared = {"signature_name": "regress_x_to_y", "context": {"x": 2.0}, "examples": [{}, {}]}
    assert json.loads(ask(server, "/v1/models/half_plus_two:regress", shared)[1]) == {"results": [3.0, 3.0]}


def test_several_outputs_come_as_objects(server):
    assert predict(server, "several", {"instances": [[1, 2], [3, 4]]}) == {
        "predictions": [{"y": [2.0, 4.0], "sum": 3.0}, {"y": [6.0, 8.0], "sum": 7.0}]
    }
    assert predict(server, "several", {"inputs": {"x": [[1, 2]]}}) == {"outputs": {"y": [[2.0, 4.0]], "sum": [3.0]}}


def test_several_inputs_come_in_column_form(server):
    document = {"signature_name": "add_scalars", "inputs": {"x": 1.5, "z": 2}}
    assert predict(server, "several", document) == {"outputs": 3.5}
    status, message = refusal(server, "/v1/models/several:predict", {"signature_name": "add_scalars", "inputs": [1]})
    assert status == 400 and message.startswith("inputs is a plain value/list")


def test_strings_go_both_ways_and_bytes_as_base64(server):
    document = {"signature_name": "shout", "instances": ["hé", {"b64": base64.b64encode(b"x\xff").decode()}]}
    first, second = predict(server, "several", document)["predictions"]
    assert first == {"loud": "Hé", "picture_bytes": {"b64": "aMOp/w=="}}
    assert second["picture_bytes"] == {"b64": base64.b64encode(b"x\xff\xff").decode()}


def test_nan_and_infinity_go_both_ways(server):
    status, text = ask(server, "/v1/models/scale:predict", b'{"instances": [NaN, Infinity, -Infinity, 1]}')
    assert status == 200 and text == '{\n    "predictions": [NaN, Infinity, -Infinity, 2.0\n    ]\n}'


@pytest.mark.parametrize("dtype", [dtype for dtype in saved_models.DTYPES if not dtype.is_complex], ids=str)
def test_every_dtype_with_a_json_form_comes_back(server, dtype):
    rows = {tf.bool: [[True, False]], tf.string: [["a", "b"]]}.get(dtype, [[0, 1], [2, 3]])
    answer = predict(server, "dtypes", {"signature_name": dtype.name, "instances": rows})
    assert answer == {"predictions": rows}


def test_complex_numbers_have_no_json_form(server):
    status, message = refusal(server, "/v1/models/dtypes:predict", {"signature_name": "complex64", "inputs": [[1, 2]]})
    assert status == 501 and message == "Conversion of JSON Value: 1 to type: complex64"


def test_versions_and_labels_choose(server):
    for choice, factor in (("", 2), ("/versions/1", 1), ("/versions/2", 2), ("/labels/stable", 1)):
        assert predict(server, "scale", {"instances": [10]}, choice) == {"predictions": [10.0 * factor]}
    path = "/v1/models/scale/versions/7:predict"
    assert refusal(server, path, {"instances": [1]}) == (404, "Servable not found for request: Specific(scale, 7)")
    status, message = refusal(server, "/v1/models/scale/labels/x:predict", {"instances": [1]})
    assert status == 400 and message == "Unrecognized servable version label: x"


def test_unknown_models_and_signatures_are_named(server):
    path, document = "/v1/models/nothing:predict", {"instances": [1]}
    assert refusal(server, path, document) == (404, "Servable not found for request: Latest(nothing)")
    status, text = ask(server, "/v1/models/nothing")
    assert status == 404 and json.loads(text)["error"] == "Could not find any versions of model nothing"
    status, message = refusal(server, "/v1/models/scale:predict", {**document, "signature_name": "x"})
    assert status == 400 and message == 'Serving signature name: "x" not found in signature def'


@pytest.mark.parametrize("model", ["half_plus_two", "scale", "convolution", "open_convolution"])
@pytest.mark.parametrize("depth", [33, 63, 64])
def test_a_rank_that_numpy_cannot_take_is_the_callers_mistake(server, model, depth):
    value = 1
    for _ in range(depth):
        value = [value]
    status, message = refusal(server, f"/v1/models/{model}:predict", {"instances": value})
    assert status == 400 and f"has rank {depth}, which is too high; at most 32" in message


def test_a_rank_that_the_graph_cannot_take_is_the_callers_mistake(server):
    for instances in ([1], [[1]], [[[1]]], [[[[[1]]]]]):
        status, message = refusal(server, "/v1/models/convolution:predict", {"instances": instances})
        assert status == 400 and "expected [-1, 8, 8, 1], got [1" in message


def test_another_size_that_the_graph_can_compute_is_computed(server):
    status, text = ask(server, "/v1/models/convolution:predict", {"instances": [[[[1]] * 3] * 8]})
    assert status == 200 and len(json.loads(text)["predictions"][0]) == 4


def test_the_status_lists_versions_newest_first(server):
    status, text = ask(server, "/v1/models/scale")
    states = json.loads(text)["model_version_status"]
    ok = {"error_code": "OK", "error_message": ""}
    assert status == 200 and states == [
        {"version": "2", "state": "AVAILABLE", "status": ok},
        {"version": "1", "state": "AVAILABLE", "status": ok},
    ]
    assert json.loads(ask(server, "/v1/models/scale/versions/1")[1])["model_version_status"] == states[1:]


def test_the_metadata_are_the_signatures(server):
    found = json.loads(ask(server, "/v1/models/half_plus_two/metadata")[1])
    assert found["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"] == {
        "inputs": {
            "x": {
                "dtype": "DT_FLOAT",
                "name": "x:0",
                "tensor_shape": {
                    "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
                    "unknown_rank": False,
                },
            }
        },
        "outputs": signatures["serving_default"]["outputs"],
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert signatures["classify_x_to_y"]["method_name"] == "tensorflow/serving/classify"


def test_rest_and_grpc_give_the_same_numbers(server, predict):
    rows = np.random.default_rng(0).random((3, 4), np.float32)
    over_grpc = next(iter(predict("keras", {_input_of(server, "keras"): rows}).values()))
    status, text = ask(server, "/v1/models/keras:predict", {"instances": rows.tolist()})
    assert status == 200
    np.testing.assert_array_equal(np.array(json.loads(text)["predictions"], np.float32), over_grpc)


def _input_of(server, model):
    metadata = json.loads(ask(server, f"/v1/models/{model}/metadata")[1])["metadata"]
    return next(iter(metadata["signature_def"]["signature_def"]["serving_default"]["inputs"]))


def test_gzip_bodies_reach_the_model(server):
    body = gzip.compress(b'{"instances": [10]}')
    status, text = ask(server, "/v1/models/scale:predict", body, {"Content-Encoding": "gzip"})
    assert status == 200 and json.loads(text) == {"predictions": [20.0]}


def test_a_digit_is_read_from_its_pixels_and_from_its_png(digit_models):
    from inkling.train import data

    images, labels = data.load(None).test_images[:32], data.load(None).test_labels[:32]
    with ServerProcess("--model_name=mnist", f"--model_base_path={digit_models / 'mnist'}") as server:
        rows = predict(server, "mnist", {"instances": images.tolist()})["predictions"]
        assert np.mean([row["classes"] for row in rows] == labels) > 0.9
        pictures = [base64.b64encode(tf.io.encode_png(image[..., None]).numpy()).decode() for image in images]
        document = {"signature_name": "image_bytes", "instances": [{"b64": picture} for picture in pictures]}
        assert [row["classes"] for row in predict(server, "mnist", document)["predictions"]] == [
            row["classes"] for row in rows
        ]


@pytest.fixture(scope="module")
def watched(repository, tmp_path_factory):
    """A server with metrics, a request log, JSON logs and CORS."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "monitoring.config").write_text('prometheus_config { enable: true path: "/metrics" }')
    with ServerProcess(
        "--model_name=several",
        f"--model_base_path={repository / 'several'}",
        f"--monitoring_config_file={folder / 'monitoring.config'}",
        f"--request_log_file={folder / 'requests'}",
        "--log_format=json",
        "--rest_api_enable_cors_support",
    ) as server:
        yield server, folder


def test_a_request_shows_in_metrics_request_log_and_log(watched):
    server, folder = watched
    headers = {"X-Request-Id": "rest-request-1"}
    status, _ = ask(server, "/v1/models/several:predict", {"instances": [[1, 2], [3, 4]]}, headers)
    assert status == 200
    with urllib.request.urlopen(f"{server.rest_url}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        page = response.read().decode()
    assert ':tensorflow:serving:request_latency_count{model_name="several",API="predict",entrypoint="REST"} 1' in page
    assert ':tensorflow:serving:request_example_count_total{model="several"} 2' in page
    assert 'inkling_serving_batch_size_sum{model_name="several",version="1",signature_name="serving_default"} 2' in page
    server.wait_for_log('"request_id": "rest-request-1"')
    lines = server.log_text().splitlines()
    for line in [lines[0], *(line for line in lines if line.startswith("{"))]:  # TensorFlow's C++ may warn in between
        json.loads(line)
    wait_until(lambda: _records(folder / "requests"))
    record = PredictionLog.FromString(_records(folder / "requests")[0])
    assert record.predict_log.request.model_spec.name == "several"
    assert tf.make_ndarray(record.predict_log.request.inputs["x"]).tolist() == [[1, 2], [3, 4]]
    assert tf.make_ndarray(record.predict_log.response.outputs["sum"]).tolist() == [3, 7]


def _records(path):
    return list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) if path.exists() else []


def test_a_request_that_takes_too_long_is_a_504(repository):
    flags = ("--model_name=several", f"--model_base_path={repository / 'several'}")
    slow = {"signature_name": "slow", "instances": [20_000]}
    with ServerProcess(*flags, "--rest_api_timeout_in_ms=500", "--drain_seconds=0") as server:
        status, message = refusal(server, "/v1/models/several:predict", slow)
    assert status == 504 and "--rest_api_timeout_in_ms" in message


def test_a_request_log_warms_up_the_next_version(repository, tmp_path):
    log = tmp_path / "requests"
    flags = ("--model_name=scale", f"--model_base_path={tmp_path / 'scale'}")
    saved_models.write_scale(tmp_path / "scale" / "1", 1.0)
    with ServerProcess(*flags, f"--request_log_file={log}") as server:
        assert predict(server, "scale", {"instances": [1, 2]}) == {"predictions": [1.0, 2.0]}
    saved_models.write_scale(tmp_path / "scale" / "2", 2.0)
    extra = tmp_path / "scale" / "2" / "assets.extra"
    extra.mkdir()
    (extra / "tf_serving_warmup_requests").write_bytes(log.read_bytes())
    (tmp_path / "monitoring").write_text("prometheus_config { enable: true }")
    with ServerProcess(*flags, f"--monitoring_config_file={tmp_path / 'monitoring'}") as server:
        page = urllib.request.urlopen(f"{server.rest_url}/monitoring/prometheus/metrics").read().decode()
    warmed = f':tensorflow:serving:model_warmup_latency_count{{model_path="{tmp_path}/scale/2",status="OK"}} 1'
    assert warmed in page and f'model_warmup_records_read{{model_path="{tmp_path}/scale/2"}} 1' in page


def test_a_request_in_flight_at_sigterm_is_answered(repository):
    with ServerProcess("--model_name=several", f"--model_base_path={repository / 'several'}") as server:
        assert ask(server, "/readyz")[0] == 200
        answers, before = [], server.cpu_s()
        document = {"signature_name": "slow", "instances": [4000]}

        def send():
            answers.append(ask(server, "/v1/models/several:predict", document))

        caller = threading.Thread(target=send)
        caller.start()
        wait_until(lambda: server.cpu_s() > before + 0.3, server.log_text)  # it is computed, a second or more
        server.process.send_signal(signal.SIGTERM)
        caller.join(PATIENCE_S)
        assert answers and answers[0][0] == 200
        assert server.process.wait(PATIENCE_S) == 0
