"""The published digit model over gRPC: each of its signatures, and what callers get who are batched together."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, prediction_service_pb2_grpc

from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving.conftest import predict_request

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def digits():
    from inkling.train import data

    test = data.load(None)
    return test.test_images[:200], test.test_labels[:200]


@pytest.fixture(scope="module")
def pictures(digits):
    return np.array([tf.io.encode_png(image[..., None]).numpy() for image in digits[0]], object)


@pytest.fixture(scope="module")
def flags(digit_models):
    # What is published is safe: all that follows holds for a server that says so.
    return ["--model_name=mnist", f"--model_base_path={digit_models / 'mnist'}", "--allowed_ops=safe"]


@pytest.fixture(scope="module")
def stub(flags):
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def probabilities(response):
    return tf.make_ndarray(response.outputs["probabilities"])


def alone_and_together(stub, images):
    """The probabilities of each image, asked for one after the other, and all at once."""
    requests = [predict_request("mnist", {"images": image[np.newaxis]}) for image in images]
    alone = [probabilities(stub.Predict(request, timeout=PATIENCE_S)) for request in requests]
    futures = [stub.Predict.future(request, timeout=PATIENCE_S) for request in requests]
    return np.concatenate(alone), np.concatenate([probabilities(future.result()) for future in futures])


def test_predict_reads_pixels_and_pictures_alike(stub, digits, pictures):
    images, labels = digits
    pixels = stub.Predict(predict_request("mnist", {"images": images}), timeout=PATIENCE_S)
    assert probabilities(pixels).shape == (200, 10)
    assert np.mean(tf.make_ndarray(pixels.outputs["classes"]) == labels) > 0.95
    request = predict_request("mnist", {"image_bytes": pictures}, signature="image_bytes")
    np.testing.assert_allclose(
        probabilities(stub.Predict(request, timeout=PATIENCE_S)), probabilities(pixels), atol=1e-5
    )


def test_classify_names_the_digits(stub, digits, pictures):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "mnist", "classify"
    for picture in pictures:
        feature = request.input.example_list.examples.add().features.feature["image/encoded"]
        feature.bytes_list.value.append(picture)
    rows = stub.Classify(request, timeout=PATIENCE_S).result.classifications
    best = [max(row.classes, key=lambda one: one.score).label for row in rows]
    assert np.mean([int(label) for label in best] == digits[1]) > 0.95


def test_who_is_batched_with_others_gets_the_same_within_rounding(stub, digits):
    # TensorFlow's kernels round differently at other numbers of rows.
    alone, together = alone_and_together(stub, digits[0])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_with_one_size_for_all_batches_it_is_the_same_but_for_a_last_bit(flags, digits, tmp_path):
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 32 } allowed_batch_sizes: 32 max_enqueued_batches { value: 99 }"
    )
    with (
        ServerProcess(*flags, "--enable_batching", f"--batching_parameters_file={tmp_path / 'batching'}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        alone, together = alone_and_together(prediction_service_pb2_grpc.PredictionServiceStub(channel), digits[0])
    # On AVX2, of 32 rows Eigen's matrix product takes the last two by another kernel: 1.6e-7. On AVX-512 it is all one.
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
