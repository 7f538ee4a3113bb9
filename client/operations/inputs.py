"""What may be given as images, made into what goes out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput


def as_images(images: Any) -> NDArray[np.uint8]:
    """uint8 [n, height, width] from one image or several: arrays, Pillow's greyscale images, or lists of either.

    Raises: InvalidInput.
    """
    try:
        array = images if isinstance(images, np.ndarray) else np.asarray(images)
    except ValueError as error:
        raise InvalidInput(f"the images are not all of one size ({error}); expected one array of them") from error
    if array.dtype != np.uint8:
        array = _whole_grey_values(array)
    if array.ndim == 2:
        return array[np.newaxis]
    if array.ndim == 4 and array.shape[3] == 1:
        return array[:, :, :, 0]
    if array.ndim != 3:
        raise InvalidInput(
            f"images of shape {list(array.shape)}; expected [n, 28, 28], or [28, 28] for one; "
            "read() takes pictures of any size and colour"
        )
    return array


def _whole_grey_values(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Other integers are taken if they are grey values; floats are not, as their scale would be a guess."""
    if array.dtype.kind in "iu":
        if array.size == 0 or (array.min() >= 0 and array.max() <= 255):
            return array.astype(np.uint8)
        raise InvalidInput(f"images with values from {array.min()} to {array.max()}; expected 0 (paper) to 255 (ink)")
    raise InvalidInput(
        f"images of dtype {array.dtype}; expected uint8, 0 (paper) to 255 (ink): "
        "for values from 0 to 1, (images * 255).round().astype(np.uint8)"
    )
