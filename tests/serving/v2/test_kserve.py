"""KServe's own Python SDK, unmodified, reads digits and runs a string model and one with several signatures.

It does not install beside the pinned versions of NumPy's, pandas' and protobuf's packages, so it is no dependency of
the tests: `pip install --no-deps --target DIR kserve 'cloudevents<2' deprecation fastapi annotated-doc grpc-interceptor
httpx httpcore sniffio kubernetes websocket-client requests-oauthlib oauthlib durationpy python-multipart tabulate
timing-asgi watchfiles`, and DIR on PYTHONPATH.
"""

import importlib.util
import os
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.patience import PATIENCE_S
from tests.server_process import ROOT, ServerProcess
from tests.serving.conftest import predict_request
from tests.serving.v2.conftest import as_strings

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="KServe's SDK is not installed"),
]
WAYS = ("grpc", "rest binary", "rest json")


@pytest.fixture
def ask(tmp_path):
    """Ask a server by each of the SDK's ways: ask(server, model, inputs, outputs) gives outputs by way and name."""

    def run(server, model, inputs, outputs, signature="serving_default"):
        np.savez(tmp_path / "asked.npz", **inputs)
        script = [sys.executable, "-W", "ignore", "-m", "tests.serving.v2.kserve_client", str(tmp_path / "asked.npz")]
        done = subprocess.run(
            [*script, model, signature, ",".join(outputs), server.address, server.rest_url],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        return {way: dict(np.load(tmp_path / f"{way}.npz", allow_pickle=True)) for way in WAYS}

    return run


def test_digits_are_read_as_tensorflow_serving_reads_them(digit_models, ask):
    from inkling.train import data

    images = data.load(None).test_images[:50]
    with (
        ServerProcess("--model_name=mnist", f"--model_base_path={digit_models / 'mnist'}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        expected = stub.Predict(predict_request("mnist", {"images": images}), timeout=PATIENCE_S).outputs
        answers = ask(server, "mnist", {"images": images}, ["probabilities", "classes"])
        for answer in answers.values():
            assert answer["probabilities"].tobytes() == tf.make_ndarray(expected["probabilities"]).tobytes()
            assert answer["classes"].tolist() == tf.make_ndarray(expected["classes"]).tolist()


def test_a_string_model_by_the_name_of_its_signature(server, ask):
    answers = ask(server, "several", {"text": as_strings(["hé".encode(), b""])}, ["loud"], "shout")
    assert [answer["loud"].tolist() for answer in answers.values()] in (
        [[b"H\xc3\xa9", b""]] * 2 + [["Hé", ""]],
        [[b"H\xc3\xa9", b""]] + [["Hé", ""]] * 2,
    )


@pytest.mark.parametrize(
    ("signature", "inputs", "output"),
    [
        ("serving_default", {"x": np.float32([[0.1, 2]])}, "y"),
        ("row_sum", {"x": np.float32([[0.1, 2, 3]])}, "sum"),
        ("pick", {"index": np.int32([3, 0])}, "value"),
    ],
)
def test_several_signatures_of_one_model(server, predict, ask, signature, inputs, output):
    expected = predict("several", inputs, signature=signature)[output]
    for answer in ask(server, "several", inputs, [output], signature).values():
        assert answer[output].tobytes() == expected.tobytes()
