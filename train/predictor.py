"""Ask a model for probabilities, whichever form it is in: in memory, in an HDF5 file, or a published SavedModel."""

import dataclasses
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pyarrow.fs
import tensorflow as tf
from numpy.typing import NDArray

from .data import DataError
from .data.colour import channels_of
from .data.pixels import to_model_input
from .storage import CARD, MARKER, is_savedmodel, open_storage, versions_in
from .strategy import compute_in_full_float32

BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model that takes images of one shape."""

    source: str
    image_shape: tuple[int, ...]  # (height, width) in pixels, or (height, width, 3) in colour
    forward: Callable[[tf.Tensor], tf.Tensor]  # uint8 [n, *image_shape] -> float32 [n, classes]
    class_names: tuple[str, ...] = ()  # of its model card, if it has one

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 [n, classes] for images uint8 [n, *image_shape].

        Raises: DataError if the images are of another shape.
        """
        if images.shape[1:] != self.image_shape:
            of_colour = images.shape[1:3] == self.image_shape[:2]
            channels = channels_of(self.image_shape)
            remedy = f"give --channels {channels}" if of_colour else "give the --data it was trained on"
            raise DataError(
                f"{self.source} takes images of {self.image_shape} px, but these are {images.shape[1:]}; {remedy}"
            )
        return _in_batches(self.forward, images)

    def in_order_of(self, class_names: tuple[str, ...]) -> tuple["Predictor", str]:
        """This model with its probabilities in the order of a set's classes, and what to tell about them, if anything.

        Sets number their classes by themselves: folders by their names, arrays as somebody did.
        """
        if not self.class_names or self.class_names == class_names or len(self.class_names) != len(class_names):
            return self, ""
        if set(self.class_names) != set(class_names):
            ours, theirs = (", ".join(names[:3]) for names in (self.class_names, class_names))
            return (
                self,
                f"its classes are called {ours}, …, and the set's {theirs}, …: taken in this order",
            )
        order = [self.class_names.index(name) for name in class_names]
        reordered = dataclasses.replace(
            self, class_names=class_names, forward=lambda images: tf.gather(self.forward(images), order, axis=1)
        )
        return reordered, "its classes were put into the order of the set's"


def predict(model: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities float32 [n, classes] of `model` for images uint8 [n, height, width] or [n, height, width, 3]."""
    return _in_batches(_forward_of(model), images)


def predictor_of(model: keras.Model) -> Predictor:
    """A model in memory as a predictor: compiled once for all that it is asked."""
    return Predictor("the model", _image_shape(model), _forward_of(model))


def _image_shape(model: keras.Model) -> tuple[int, ...]:
    height, width, channels = model.input_shape[1:]
    return (height, width) if channels == 1 else (height, width, channels)


def load_predictor(source: str) -> Predictor:
    """Open a SavedModel (or the folder of its versions: the highest is taken), an .h5 or a .keras file.

    Args:
        source: a path, or a URI in an object store.

    Raises: DataError.
    """
    filesystem, path = open_storage(source)
    if filesystem.get_file_info(path).type != pyarrow.fs.FileType.File:
        path = _highest_version(filesystem, path)
    if "://" not in source:
        return _load(Path(path), source)
    with tempfile.TemporaryDirectory(prefix="inkling-evaluate-") as scratch:
        copied = Path(scratch, Path(path).name)
        pyarrow.fs.copy_files(path, str(copied), source_filesystem=filesystem)
        return _load(copied, source)


def _highest_version(filesystem: pyarrow.fs.FileSystem, path: str) -> str:
    """The whole version of the highest number in the folder at `path`; `path` itself if that is one or holds none."""
    if is_savedmodel(filesystem, path):
        return path
    versions = versions_in(filesystem, path)
    whole = [version for version, folder in versions.items() if is_savedmodel(filesystem, folder)]
    return versions[max(whole)] if whole else path


def _load(path: Path, source: str) -> Predictor:
    if path.suffix in (".h5", ".keras") and path.is_file():
        model = keras.models.load_model(path, compile=False)
        return Predictor(source, _image_shape(model), _forward_of(model))
    if not (path / MARKER).exists():
        raise DataError(f"{source} is not a model: expected a SavedModel folder, a folder of versions, .h5 or .keras")
    signature = tf.saved_model.load(str(path)).signatures.get("serving_default")
    inputs = signature.structured_input_signature[1] if signature else {}
    if "images" not in inputs or "probabilities" not in signature.structured_outputs:
        raise DataError(
            f"{source} has no signature serving_default from `images` to `probabilities`: not Inkling's model"
        )
    image_shape = tuple(inputs["images"].shape[1:])
    return Predictor(source, image_shape, lambda images: signature(images=images)["probabilities"], _class_names(path))


def _class_names(version: Path) -> tuple[str, ...]:
    """Those of a published version's model card."""
    try:
        return tuple(json.loads((version / CARD).read_text())["class_names"])
    except (OSError, ValueError, KeyError):
        return ()  # exported by others, or before there were cards


def _forward_of(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(reduce_retracing=True)
    def forward(images: tf.Tensor) -> tf.Tensor:
        return model(to_model_input(images), training=False)

    return forward


def _in_batches(forward: Callable[[tf.Tensor], tf.Tensor], images: NDArray[np.uint8]) -> NDArray[np.float32]:
    compute_in_full_float32()
    starts = range(0, len(images), BATCH_SIZE)
    return np.concatenate([forward(tf.constant(images[i : i + BATCH_SIZE])).numpy() for i in starts])
