"""Promise 3: a published version is whole."""

import dataclasses
import hashlib
import json
import os
import struct
import subprocess
import sys
import tarfile
import threading

import fsspec
import keras
import numpy as np
import pytest
import tensorflow as tf
from fsspec.implementations.memory import MemoryFileSystem
from tensorflow_serving.apis import prediction_log_pb2

from inkling.train.data import DataError
from inkling.train.network.model import build_model
from inkling.train.predictor import load_predictor, predict, predictor_of
from inkling.train.publishing import export, publish
from inkling.train.publishing.image import Layout
from inkling.train.publishing.verify_savedmodel import verify
from inkling.train.storage import open_storage
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def model(small_config):
    model = build_model(small_config, image_size=(28, 28), num_classes=10)
    random = np.random.default_rng(0)
    model.set_weights([value + random.uniform(0, 0.1, value.shape) for value in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def probabilities(model, digits):
    return predict(model, digits.test_images)


@pytest.fixture(scope="module")
def savedmodel(model, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    export.save_savedmodel(
        model, folder, class_names=tuple("abcdefghij"), model_name="letters", samples=digits.test_images[:32]
    )
    return folder


def verify_in_this_process(*arguments):
    """The check before publishing, without the fresh process, which takes most tests longer than all they do."""
    try:
        verify(*arguments)
    except ValueError as error:
        raise publish.PublishRefused(str(error)) from None


def publish_model(model, digits, probabilities, model_dir, accuracy=0.99, verify=verify_in_this_process, **changes):
    candidate = publish.Candidate(
        model=model,
        class_names=digits.class_names,
        card={"seed": 7},
        accuracy=accuracy,
        test_images=digits.test_images,
        test_probabilities=probabilities,
    )
    return publish.publish(candidate, str(model_dir), model_name="mnist", min_accuracy=0.9, verify=verify, **changes)


def test_all_signatures_give_what_the_model_gives(savedmodel, digits, probabilities):
    verify(savedmodel, digits.test_images, probabilities)


def test_the_signatures_are_those_of_the_design(savedmodel):
    signatures = tf.saved_model.load(str(savedmodel)).signatures
    assert set(signatures) == {"serving_default", "image_bytes", "classify"}
    images = signatures["serving_default"].structured_input_signature[1]["images"]
    assert images.dtype == tf.uint8 and images.shape.as_list() == [None, 28, 28]
    outputs = signatures["serving_default"].structured_outputs
    assert outputs["probabilities"].shape.as_list() == [None, 10]
    assert outputs["classes"].dtype == tf.int64
    from tensorflow.python.tools import saved_model_utils

    graph = saved_model_utils.get_meta_graph_def(str(savedmodel), "serve")
    assert graph.signature_def["classify"].method_name == "tensorflow/serving/classify"
    assert graph.signature_def["serving_default"].method_name == "tensorflow/serving/predict"


def test_a_model_of_images_in_colour_has_the_same_signatures_with_three_channels(small_config, tmp_path):
    model = build_model(small_config, image_size=(12, 16), num_classes=3, channels=3)
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 16, 3), np.uint8)
    export.save_savedmodel(model, tmp_path / "1", class_names=("a", "b", "c"), model_name="hues", samples=images[:32])
    verify(tmp_path / "1", images, predict(model, images))
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    spec = signatures["serving_default"].structured_input_signature[1]["images"]
    assert spec.shape.as_list() == [None, 12, 16, 3]
    assert load_predictor(str(tmp_path / "1")).image_shape == (12, 16, 3)
    (tmp_path / "1/model_card.json").write_text('{"class_names": ["a", "b", "c"]}')
    assert load_predictor(str(tmp_path)).class_names == ("a", "b", "c")
    statistics = publish.reference_statistics(images, predict(model, images))
    assert set(statistics["features"]) == {"confidence", "class"}


def test_a_model_of_dark_ink_takes_light_ink_by_a_signature_of_its_own(model, digits, tmp_path):
    dark = 255 - digits.test_images
    expected = predict(model, dark)
    names = tuple("abcdefghij")
    export.save_savedmodel(
        model, tmp_path / "1", class_names=names, model_name="m", samples=dark[:8], dark_on_light=True
    )
    verify(tmp_path / "1", dark, expected)
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert set(signatures) == {"serving_default", "image_bytes", "classify", "light_on_dark"}
    found = signatures["light_on_dark"](images=tf.constant(digits.test_images))["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_models_classes_are_put_into_the_order_of_a_sets(model, digits, probabilities):
    predictor = dataclasses.replace(predictor_of(model), class_names=tuple("abcdefghij"))
    turned, told = predictor.in_order_of(tuple("jihgfedcba"))
    assert told == "its classes were put into the order of the set's"
    np.testing.assert_allclose(turned(digits.test_images[:5]), probabilities[:5, ::-1], atol=1e-6)
    assert predictor.in_order_of(tuple("abcdefghij")) == (predictor, "")
    assert "called a, b, c, …, and the set's 0, 1, 2, …" in predictor.in_order_of(tuple("0123456789"))[1]
    with pytest.raises(DataError, match=r"takes images of \(28, 28\) px, but .*; give --channels 1"):
        predictor(np.zeros((1, 28, 28, 3), np.uint8))


def test_image_bytes_takes_jpeg_of_any_size_and_colour(savedmodel, digits):
    large = np.repeat(np.repeat(np.stack([digits.test_images[0]] * 3, axis=2), 4, axis=0), 4, axis=1)
    jpeg = tf.io.encode_jpeg(large, quality=100)
    signatures = tf.saved_model.load(str(savedmodel)).signatures
    found = signatures["image_bytes"](image_bytes=jpeg[tf.newaxis])["probabilities"]
    expected = signatures["serving_default"](images=tf.constant(digits.test_images[:1]))["probabilities"]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_classify_names_the_classes(savedmodel, digits):
    png = tf.io.encode_png(digits.test_images[0][..., None]).numpy()
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png]))
    example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))
    answer = tf.saved_model.load(str(savedmodel)).signatures["classify"](
        inputs=tf.constant([example.SerializeToString()] * 2)
    )
    assert answer["classes"].numpy().tolist() == [[c.encode() for c in "abcdefghij"]] * 2


def test_warm_up_requests_cover_the_signatures(savedmodel):
    records = tf.data.TFRecordDataset(str(savedmodel / export.WARMUP_FILE))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    predicts = [log.predict_log.request for log in logs if log.HasField("predict_log")]
    assert [request.model_spec.signature_name for request in predicts] == ["serving_default"] * 3 + ["image_bytes"]
    sizes = [tf.make_ndarray(request.inputs["images"]).shape[0] for request in predicts[:3]]
    assert sizes == list(export.WARMUP_BATCH_SIZES)
    assert logs[-1].classify_log.request.model_spec.signature_name == "classify"


def test_the_h5_file_is_plain_keras(model, digits, probabilities, tmp_path):
    export.save_h5(model, tmp_path / "mnist.h5")
    script = (
        "import keras, numpy as np, sys;"
        "model = keras.models.load_model(sys.argv[1], compile=False);"
        "images = np.load(sys.argv[2])[..., None] / np.float32(255);"
        "np.save(sys.argv[3], model.predict(images, verbose=0));"
        "assert 'train' not in sys.modules"
    )
    np.save(tmp_path / "images.npy", digits.test_images)
    files = [str(tmp_path / name) for name in ("mnist.h5", "images.npy", "out.npy")]
    subprocess.run([sys.executable, "-c", script, *files], check=True, cwd=tmp_path, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), probabilities, atol=1e-5)
    assert keras.models.load_model(tmp_path / "mnist.h5", compile=False).count_params() == model.count_params()


def test_versions_count_up_and_carry_their_card(model, digits, probabilities, tmp_path):
    (tmp_path / "mnist" / "7").mkdir(parents=True)
    (tmp_path / "mnist" / "7" / "saved_model.pb").touch()
    fresh = publish.verify_in_fresh_process
    published = publish_model(model, digits, probabilities, tmp_path, verify=fresh)
    assert published == str(tmp_path / "mnist" / "8")
    card = json.loads((tmp_path / "mnist" / "8" / "model_card.json").read_text())
    folder, files = tmp_path / "mnist" / "8", card.pop("files")
    assert card.pop("reference")["examples"] == len(digits.test_images)
    assert card == {"version": 8, "seed": 7}
    assert {"saved_model.pb", "variables/variables.index"} <= files.keys()
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == files[name] for name in files)
    assert not [name for name in files if name.startswith(("assets.extra", "model_card"))]
    assert sorted(os.listdir(tmp_path / "mnist")) == ["7", "8"]
    loaded = load_predictor(str(tmp_path / "mnist"))
    np.testing.assert_allclose(loaded(digits.test_images), probabilities, atol=1e-5)


def test_an_image_is_checked_and_complete_as_a_version_in_a_folder_is(model, digits, probabilities, tmp_path):
    place = f"oci-layout:{tmp_path}/layout"

    def refuse(*arguments):
        raise publish.PublishRefused("not the same")

    for changes in ({"accuracy": 0.5}, {"verify": refuse}):
        with pytest.raises(publish.PublishRefused):
            publish_model(model, digits, probabilities, tmp_path / "models", oci=place, **changes)
    assert not (tmp_path / "layout").exists()
    published = publish_model(model, digits, probabilities, tmp_path / "models", oci=place)
    assert published.startswith(f"{place}:1@sha256:") and not (tmp_path / "models").exists()
    layout = Layout(tmp_path / "layout")
    manifest = layout.read(layout.read({"digest": layout.tags()["1"]})["manifests"][0])
    with tarfile.open(layout.path(manifest["layers"][0]["digest"])) as tar:
        tar.extractall(tmp_path / "mounted", filter="data")
    card = json.loads((tmp_path / "mounted/mnist/1/model_card.json").read_text())
    assert card.keys() == {"version", "seed", "reference", "files"} and card["version"] == 1
    loaded = load_predictor(str(tmp_path / "mounted/mnist"))
    np.testing.assert_allclose(loaded(digits.test_images), probabilities, atol=1e-5)


def test_a_version_is_signed_when_it_is_complete_and_anew_under_another_number(model, digits, probabilities, tmp_path):
    signed = []

    def sign(folder):
        number = json.loads((folder / "model_card.json").read_text())["version"]
        signed.append((number, sorted(path.name for path in folder.iterdir())))
        (folder / "model.sig").write_text(str(number))
        if number == 1:
            (tmp_path / "mnist" / "1").mkdir()  # another publisher's
            (tmp_path / "mnist" / "1" / "saved_model.pb").touch()

    publish_model(model, digits, probabilities, tmp_path, sign=sign)
    assert [number for number, _ in signed] == [1, 2] and signed[0][1] == signed[1][1]
    assert "model.sig" not in signed[1][1] and (tmp_path / "mnist" / "2" / "model.sig").read_text() == "2"


def test_two_publishers_at_once_get_two_versions(model, digits, probabilities, tmp_path):
    both_verified = threading.Barrier(2)

    def verify_and_meet(*arguments):
        verify_in_this_process(*arguments)
        both_verified.wait(PATIENCE_S)

    published = []

    def publish_once():
        published.append(publish_model(model, digits, probabilities, tmp_path, verify=verify_and_meet))

    threads = [threading.Thread(target=publish_once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(published) == [str(tmp_path / "mnist" / version) for version in "12"]
    for version in "12":
        assert json.loads((tmp_path / "mnist" / version / "model_card.json").read_text())["version"] == int(version)
    assert sorted(os.listdir(tmp_path / "mnist")) == ["1", "2"]


def test_a_model_below_the_bar_leaves_nothing_behind(model, digits, probabilities, tmp_path):
    with pytest.raises(publish.PublishRefused, match=r"accuracy 89.00% .* below --min-accuracy 90.00%"):
        publish_model(model, digits, probabilities, tmp_path / "models", accuracy=0.89)
    assert os.listdir(tmp_path) == []


def test_a_savedmodel_that_answers_differently_is_not_published(model, digits, probabilities, tmp_path):
    fresh = publish.verify_in_fresh_process
    with pytest.raises(publish.PublishRefused, match="serving_default: probabilities differ by 0.01"):
        publish_model(model, digits, probabilities + np.float32(0.01), tmp_path / "deep" / "models", verify=fresh)
    assert os.listdir(tmp_path) == []


def test_a_refusal_keeps_what_another_publisher_put_there_meanwhile(model, digits, probabilities, tmp_path):
    def verify_while_another_publishes(*arguments):
        (tmp_path / "models" / "letters" / "1").mkdir(parents=True)
        raise publish.PublishRefused("no")

    with pytest.raises(publish.PublishRefused):
        publish_model(model, digits, probabilities, tmp_path / "models", verify=verify_while_another_publishes)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["letters"]
    assert (tmp_path / "models" / "letters" / "1").is_dir()


def test_a_refusal_keeps_the_versions_that_were_there(model, digits, probabilities, tmp_path):
    publish_model(model, digits, probabilities, tmp_path)
    with pytest.raises(publish.PublishRefused):
        publish_model(model, digits, probabilities * 0, tmp_path)
    assert os.listdir(tmp_path / "mnist") == ["1"]


def test_an_object_store_gets_the_marker_last(model, digits, probabilities, tmp_path):
    written = []

    class Watched(MemoryFileSystem):
        protocol = "watched"
        store, pseudo_dirs = {}, [""]

        def _open(self, path, mode="rb", **options):
            if mode == "wb":
                written.append(path)
            return super()._open(path, mode, **options)

    fsspec.register_implementation("watched", Watched, clobber=True)
    store = f"watched://{tmp_path}/models"
    for version in (1, 2):
        assert publish_model(model, digits, probabilities, store) == f"{store}/mnist/{version}"
    assert written[-1].endswith("/2/saved_model.pb") and len(written) == 12
    filesystem, root = open_storage(store)
    with filesystem.open_input_stream(f"{root}/mnist/2/model_card.json") as stream:
        assert json.loads(stream.read())["version"] == 2
    loaded = load_predictor(f"{store}/mnist")
    np.testing.assert_allclose(loaded(digits.test_images), probabilities, atol=1e-5)


def test_an_upload_that_fails_leaves_nothing_behind(model, digits, probabilities, tmp_path):
    class Full(MemoryFileSystem):
        protocol = "full"
        store, pseudo_dirs = {}, [""]

        def _open(self, path, mode="rb", **options):
            if path.endswith("saved_model.pb") and mode == "wb":
                raise OSError("no space left")
            return super()._open(path, mode, **options)

    fsspec.register_implementation("full", Full, clobber=True)
    with pytest.raises(OSError, match="no space left"):
        publish_model(model, digits, probabilities, "full://bucket/models")
    assert Full.store == {}


@pytest.fixture(scope="module")
def decode(savedmodel):
    """The signature `image_bytes` for one picture, in a session, as in TensorFlow Serving."""
    with tf.Graph().as_default() as graph:  # not while the tests run, which make tensors of their own
        session = tf.compat.v1.Session(graph=graph)
        definition = tf.compat.v1.saved_model.load(session, ["serve"], str(savedmodel)).signature_def["image_bytes"]
    classes = definition.outputs["classes"].name
    yield lambda *pictures: session.run(classes, {definition.inputs["image_bytes"].name: list(pictures)})
    session.close()


def png_header(width, height):
    """A PNG of which nothing is true but its size."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)


def jpeg(width, height, scans=1):
    """A progressive JPEG in grey whose scans all say that nothing changes: a few bytes each, over all pixels."""

    def segment(marker, content):
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    blocks = -(-width // 8) * -(-height // 8)
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    codes = segment(0xC4, b"\0" + bytes([1, *[0] * 15]) + b"\0") + segment(
        0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\0"
    )
    first = segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    more = segment(0xDA, b"\1\1\0\1\x3f\0") + bytes(-(-blocks // 8))
    return b"\xff\xd8" + tables + codes + first + more * (scans - 1) + b"\xff\xd9"


BOMBS = {
    "png": (png_header(23_000, 23_000), "may have 4194304 pixels"),
    "png of the largest numbers": (png_header(2**32 - 1, 2**32 - 1), "may have 4194304 pixels"),
    "png that is wide": (png_header(4_194_305, 1), "may have 4194304 pixels"),
    "jpeg": (jpeg(2049, 2049), "may have 4194304 pixels"),
    "jpeg of the largest numbers": (jpeg(65_500, 65_500), "may have 4194304 pixels"),
    "jpeg of many scans": (jpeg(64, 64, scans=65), "may have 64 scans"),
    "gif": (b"GIF89a" + bytes(100), "neither PNG nor JPEG"),
    "bmp": (b"BM" + bytes(100), "neither PNG nor JPEG"),
    "nothing": (b"", "neither PNG nor JPEG"),
    "the start of a png": (png_header(1, 1)[:18], "."),
    "the start of a jpeg": (b"\xff\xd8\xff", "."),
}


@pytest.mark.parametrize(("picture", "why"), BOMBS.values(), ids=BOMBS)
def test_a_picture_is_refused_before_it_is_decoded(decode, picture, why):
    with pytest.raises(tf.errors.InvalidArgumentError, match=why):
        decode(picture)


def test_pictures_of_the_largest_size_are_read(decode):
    white = tf.io.encode_png(tf.fill([2048, 2048, 1], tf.constant(255, tf.uint8))).numpy()
    assert decode(white, jpeg(2048, 2048), jpeg(64, 64, scans=64)).shape == (3,)


def test_one_bad_picture_among_good_ones_is_refused(decode):
    good = tf.io.encode_png(tf.zeros([28, 28, 1], tf.uint8)).numpy()
    with pytest.raises(tf.errors.InvalidArgumentError, match="may have 4194304 pixels"):
        decode(good, png_header(23_000, 23_000), good)
