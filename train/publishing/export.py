"""Write a trained model out: `mnist.h5` for Keras, and the SavedModel that TensorFlow Serving serves.

The SavedModel has three signatures, and a model of dark ink on light paper a fourth one:

    serving_default  images uint8 [n, height, width] -> probabilities float32 [n, classes], classes int64 [n]
                     (in colour: uint8 [n, height, width, 3], red, green, blue)
    image_bytes      image_bytes string [n], PNG or JPEG -> the same
    classify         inputs string [n], serialized tf.Example with `image/encoded` -> the Classify API's
                     classes string [n, classes] and scores float32 [n, classes]
    light_on_dark    as serving_default, for images of light ink on dark; there if the others take dark ink on light

That signatures have names, dtypes and shapes only, is why the last one is there: by it a client knows what to send.

A picture's size is read before the picture is decoded, by the graph itself, so that TensorFlow Serving is protected
too: a few kilobytes of PNG or JPEG may stand for gigabytes of pixels.
"""

import functools
import logging
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import classification_pb2, model_pb2, predict_pb2, prediction_log_pb2

from ..data.pixels import to_model_input

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
WARMUP_BATCH_SIZES = (1, 8, 32)
CLASSIFY = "classify"
LIGHT_ON_DARK = "light_on_dark"  # client/operations/inference.py looks for it
WHITE = 255
MAX_PIXELS = 1 << 22  # of a picture of one digit; decoding and shrinking that many takes about 30 MB
MAX_SCANS = 64  # of a JPEG; a progressive one has about ten, and each goes over all pixels, be it of a few bytes
JPEG_START = b"\xff\xd8\xff"
JPEG_SCAN = b"\xff\xda"  # stands nowhere in the coded pixels: there each 0xff is followed by a zero
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


class InklingModule(tf.Module):
    """A classifier and its signatures, as they are saved."""

    def __init__(self, model: keras.Model, class_names: tuple[str, ...], *, dark_on_light: bool = False) -> None:
        super().__init__(name="inkling")
        # Not tracked as a Keras model: that saves a second copy of each variable and restores only that one, so that a
        # session, such as TensorFlow Serving's, finds the signatures' own variables empty:
        # https://github.com/keras-team/keras/issues/20095
        self.variables_of_model = [variable.value for variable in model.variables]
        self._probabilities = functools.partial(model, training=False)
        self.class_names = tf.constant(class_names)
        self.dark_on_light = dark_on_light
        self.height, self.width, self.channels = model.input_shape[1:]
        self.image_shape = [self.height, self.width] if self.channels == 1 else [self.height, self.width, self.channels]

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The traced signatures by name."""
        images = tf.TensorSpec([None, *self.image_shape], tf.uint8, name="images")
        encoded = tf.TensorSpec([None], tf.string, name="image_bytes")
        examples = tf.TensorSpec([None], tf.string, name="inputs")
        signatures = {
            "serving_default": tf.function(self.predict).get_concrete_function(images),
            "image_bytes": tf.function(self.predict_image_bytes).get_concrete_function(encoded),
            CLASSIFY: tf.function(self.classify).get_concrete_function(examples),
        }
        if self.dark_on_light:
            signatures[LIGHT_ON_DARK] = tf.function(self.predict_light_on_dark).get_concrete_function(images)
        return signatures

    def predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = self._probabilities(to_model_input(images))
        return {"probabilities": probabilities, "classes": tf.argmax(probabilities, axis=1)}

    def predict_light_on_dark(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.predict(WHITE - images)

    def predict_image_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        # One picture at a time: a request may have many.
        images = tf.map_fn(self._decode, image_bytes, parallel_iterations=1, fn_output_signature=tf.uint8)
        return self.predict(images)

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
        scores = self.predict_image_bytes(features["image/encoded"])["probabilities"]
        return {"classes": tf.tile(self.class_names[tf.newaxis], [tf.shape(scores)[0], 1]), "scores": scores}

    def _decode(self, content: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(_checks(content)):
            content = tf.identity(content)
        image = tf.io.decode_image(content, channels=self.channels, expand_animations=False)
        resized = tf.image.resize(image, [self.height, self.width], method="area")
        pixels = resized[..., 0] if self.channels == 1 else resized
        return tf.ensure_shape(tf.cast(tf.round(pixels), tf.uint8), self.image_shape)


def _checks(content: tf.Tensor) -> list[tf.Operation]:
    """Operations that fail with INVALID_ARGUMENT unless `content`, string [], is a PNG or JPEG of bounded size."""
    is_png, is_jpeg = _starts_with(content, PNG_START), _starts_with(content, JPEG_START)
    num_bytes = tf.strings.length(content)
    is_known = tf.debugging.Assert(is_png | is_jpeg, ["a picture is neither PNG nor JPEG; it has bytes:", num_bytes])
    with tf.control_dependencies([is_known]):
        num_pixels = tf.cond(is_png, lambda: _png_pixels(content), lambda: _jpeg_pixels(content))
        num_scans = tf.cond(is_png, lambda: 1, lambda: _jpeg_scans(content))
    return [
        tf.debugging.Assert(num_pixels <= MAX_PIXELS, [f"a picture may have {MAX_PIXELS} pixels; it has", num_pixels]),
        tf.debugging.Assert(num_scans <= MAX_SCANS, [f"a JPEG may have {MAX_SCANS} scans; it has", num_scans]),
    ]


def _starts_with(content: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(content, 0, len(start)) == start


def _png_pixels(content: tf.Tensor) -> tf.Tensor:
    """Width times height, float64 []: two numbers of 32 bits, the first ones behind the name of the first chunk."""
    header = tf.strings.substr(content + bytes(8), len(PNG_START), 8)  # a shorter one is no PNG; the decoder says so
    size = tf.reshape(tf.io.decode_raw(header, tf.uint8), [2, 4])
    places = tf.constant([2.0**24, 2.0**16, 2.0**8, 1.0], tf.float64)
    return tf.reduce_prod(tf.linalg.matvec(tf.cast(size, tf.float64), places))


def _jpeg_pixels(content: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(content)[:2], tf.float64))


def _jpeg_scans(content: tf.Tensor) -> tf.Tensor:
    return tf.size(tf.strings.split([content], JPEG_SCAN).values) - 1


def save_h5(model: keras.Model, path: Path) -> None:
    """Write `model` as an HDF5 file that `keras.models.load_model(path, compile=False)` reads."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras warns that HDF5 is its older format; we know
    model.save(path)


def save_savedmodel(
    model: keras.Model,
    folder: Path,
    *,
    class_names: tuple[str, ...],
    model_name: str,
    samples: NDArray[np.uint8],
    dark_on_light: bool = False,
) -> None:
    """Write `model` as a SavedModel with its signatures and warm-up requests into `folder`.

    Args:
        samples: uint8 [n, height, width] or [n, height, width, 3], images for the warm-up requests.
        dark_on_light: the model takes dark ink on light paper.
    """
    module = InklingModule(model, class_names, dark_on_light=dark_on_light)
    tf.saved_model.save(module, str(folder), signatures=module.signatures())
    _mark_as_classify(folder)
    _write_warmup(folder, model_name, samples, dark_on_light=dark_on_light)


def _mark_as_classify(folder: Path) -> None:
    # tf.saved_model.save calls every signature a Predict; TensorFlow Serving asks for the method of Classify:
    # https://github.com/tensorflow/tensorflow/issues/38081
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name(CLASSIFY, "tensorflow/serving/classify", tags="serve")
    updater.save()


def png_of(image: NDArray[np.uint8]) -> bytes:
    """An image, uint8 [height, width] or [height, width, 3], as a PNG file's content."""
    content: bytes = tf.io.encode_png(image if image.ndim == 3 else image[..., np.newaxis]).numpy()
    return content


def _write_warmup(folder: Path, model_name: str, samples: NDArray[np.uint8], *, dark_on_light: bool) -> None:
    """One request of each signature and a few batch sizes, as TensorFlow Serving replays them after loading."""
    png = png_of(samples[0])
    logs = []
    for size in WARMUP_BATCH_SIZES:
        images = np.resize(samples, (size, *samples.shape[1:]))
        logs.append(_predict_log(model_name, "serving_default", "images", images))
    if dark_on_light:
        logs.append(_predict_log(model_name, LIGHT_ON_DARK, "images", WHITE - samples[:1]))
    logs.append(_predict_log(model_name, "image_bytes", "image_bytes", np.array([png])))
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png]))
    example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))
    classify = classification_pb2.ClassificationRequest(
        model_spec=model_pb2.ModelSpec(name=model_name, signature_name=CLASSIFY)
    )
    classify.input.example_list.examples.append(example)
    logs.append(prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=classify)))
    (folder / WARMUP_FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def _predict_log(
    model_name: str, signature: str, input_name: str, value: NDArray[np.generic]
) -> prediction_log_pb2.PredictionLog:
    spec = model_pb2.ModelSpec(name=model_name, signature_name=signature)
    request = predict_pb2.PredictRequest(model_spec=spec)
    request.inputs[input_name].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def h5_bytes(model: keras.Model) -> bytes:
    """The content of the HDF5 file of `model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.h5")
        save_h5(model, path)
        return path.read_bytes()
