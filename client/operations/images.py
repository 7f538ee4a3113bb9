"""Images as `predict` sends them, and the mistakes in them that a model would answer wrongly and surely."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput

SIDE = 28  # px of MNIST's images
FAINTEST = 16  # of 255: scans of 0 to 1, or of 0 to 16 as scikit-learn's digits are, do not go beyond
LEAST_INK = 16  # pixels; fewer are specks, at any scale
INKED_RIM = 0.75  # share of the rim; writing that runs out of the picture takes less
SMALLEST = 8  # px of a side; in a smaller image nearly all is rim
RGB = 3  # channels of an image in colour, its last axis
SHOWN = 5  # numbers of images in a message
_FAINT = bytes(range(FAINTEST + 1))
# Inkling's signature for images as MNIST's, of a model that takes dark ink on light paper (train/publishing/export.py)
LIGHT_ON_DARK = "light_on_dark"
ANYWAY = "as_is=True sends them all the same"


class Inverted(InvalidInput):
    """Images with their ink around them, which only a model of dark ink on light paper reads."""


def as_images(images: Any) -> NDArray[np.uint8]:
    """Images as they are sent.

    Args:
        images: one image or several: an array [n, height, width], [n, height, width, 1] or [height, width], in colour
            [n, height, width, 3] or [height, width, 3], Pillow's images, or lists of either; integers, 0 to 255.

    Returns: uint8 [n, height, width], or [n, height, width, 3] in colour.

    Raises: InvalidInput if they are not of one size, or hold other values.
    """
    try:
        array = images if isinstance(images, np.ndarray) else np.asarray(images)
    except ValueError as error:
        raise InvalidInput(f"the images are not all of one size ({error}); expected one array of them") from error
    _refuse_rows_of_pixels(array.shape)
    _refuse_transparent(array.shape)
    if array.dtype != np.uint8:
        array = _whole_grey_values(array)
    if array.ndim == 2 or _is_in_colour(array):
        return array[np.newaxis]
    if array.ndim == 4 and array.shape[3] == 1:
        return array[:, :, :, 0]
    if array.ndim != 3 and not (array.ndim == 4 and array.shape[3] == RGB):
        raise InvalidInput(
            f"images of shape {list(array.shape)}; expected [n, 28, 28], or [28, 28] for one, and in colour "
            "[n, height, width, 3]; read() takes pictures of any size and colour"
        )
    return array


def _is_in_colour(array: NDArray[Any]) -> bool:
    """Whether this is one image in colour, and not grey images of three columns, which no model takes."""
    return array.ndim == 3 and array.shape[2] == RGB and array.shape[1] >= SMALLEST


def _refuse_rows_of_pixels(shape: tuple[int, ...]) -> None:
    """Images as many files hold them, each a row of 784 values, would pass for one image of that width."""
    several = shape[1:] if len(shape) > 1 else shape
    if SIDE * SIDE in several and all(size in (1, SIDE * SIDE) for size in several) and several.count(SIDE * SIDE) == 1:
        raise InvalidInput(
            f"images of shape {list(shape)} are rows of {SIDE * SIDE} values; "
            f"reshape to {SIDE} x {SIDE}: images.reshape(-1, {SIDE}, {SIDE})"
        )


def _refuse_transparent(shape: tuple[int, ...]) -> None:
    """One image [height, width, 4] would pass for as many narrow ones as it is high."""
    if len(shape) == 3 and shape[2] == RGB + 1 and min(shape[:2]) >= SMALLEST:
        raise InvalidInput(
            f"images of shape {list(shape)} are one picture with transparency; expected [n, 28, 28] of grey values, or "
            "[height, width, 3] in colour: read() takes pictures of any size and colour"
        )


def _whole_grey_values(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Other integers are taken if they are grey values; floats are not, as their scale would be a guess."""
    if array.dtype.kind in "iu":
        if array.size == 0 or (array.min() >= 0 and array.max() <= 255):
            return array.astype(np.uint8)
        raise InvalidInput(f"images with values from {array.min()} to {array.max()}; expected 0 (paper) to 255 (ink)")
    if array.dtype.kind in "USO":
        raise InvalidInput(
            f"images of dtype {array.dtype} are not numbers; expected uint8, 0 (paper) to 255 (ink): "
            "read() takes pictures by their files' names"
        )
    raise InvalidInput(
        f"images of dtype {array.dtype}; expected uint8, 0 (paper) to 255 (ink): "
        "for values from 0 to 1, (images * 255).round().astype(np.uint8)"
    )


def refuse_unlike_mnist(images: NDArray[np.uint8]) -> None:
    """Refuse images that a model of MNIST's digits reads wrongly, and with confidence.

    Args:
        images: uint8 [n, height, width]; in colour, [n, height, width, 3], they are for other models.

    Raises: InvalidInput if the values of all end far below 255; Inverted if some images have their ink around them.
    """
    if (
        not images.size
        or images.ndim > 3
        or (len(images) == 1 and _is_usual(images))
        or min(images.shape[1:]) < SMALLEST
    ):
        return
    strongest = int(images.max())
    if 0 < strongest <= FAINTEST and _has_writing(images):
        raise InvalidInput(
            f"images with values from 0 to {strongest}; expected 0 (paper) to 255 (ink): "
            f"multiply them by {255 // strongest}; {ANYWAY}"
        )
    inverted = _with_inked_rim(images)
    if len(inverted):
        raise Inverted(f"{_these(inverted, len(images))} light on a rim of ink; invert these: 255 - images; {ANYWAY}")


def _is_usual(image: NDArray[np.uint8]) -> bool:
    """Whether the one image of the usual call has strong ink, and none in its top row: quicker than by NumPy."""
    pixels, (_, height, width) = image.tobytes(), image.shape
    return width >= height and not pixels[:width].strip(b"\0") and bool(pixels.translate(None, _FAINT))


def _has_writing(images: NDArray[np.uint8]) -> bool:
    """Whether an image has paper, and ink of more than specks on it."""
    inked = np.count_nonzero(images, axis=(1, 2))
    return bool(((inked >= LEAST_INK) & (inked < images[0].size)).any())


def _with_inked_rim(images: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The numbers of the images most of whose outermost pixels have more ink than the image has on average."""
    if not images[:, 0].any() and images.shape[2] >= images.shape[1]:
        return np.empty(0, np.intp)  # the usual case, soon decided: a quarter of each rim is paper
    rims = np.concatenate([images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1)
    num_images, height, width = images.shape
    sums = images.reshape(num_images, -1).sum(axis=1, dtype=np.uint32)
    # A whole number is above the mean where it is above its whole part; so all stay bytes, which is four times as fast.
    means = (sums // (height * width)).astype(np.uint8)
    num_inked = np.count_nonzero(rims > means[:, np.newaxis], axis=1)
    return np.flatnonzero(num_inked >= INKED_RIM * rims.shape[1])


def _these(numbers: NDArray[np.intp], count: int) -> str:
    """The subject of a sentence about some of `count` images."""
    if len(numbers) == count:
        return "the image is" if count == 1 else f"all {count:,} images are"
    if len(numbers) == 1:
        return f"image {numbers[0]} is"
    named = ", ".join(str(number) for number in numbers[:SHOWN])
    return f"{len(numbers):,} of {count:,} images (number {named}{', ...' if len(numbers) > SHOWN else ''}) are"
