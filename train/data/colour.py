"""Colour images and grey ones: which a set holds, and how one is made of the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .memory import pieces, transformed

CHANNELS = 3  # red, green, blue, as the last axis; grey images have no such axis
# Luma after ITU-R BT.601 in 1/65536, as Pillow's "L" has it.
LUMA = np.array([19595, 38470, 7471], np.uint32)

Background = int | tuple[int, ...]  # of grey images, or of each channel; 0 to 255


def channels_of(image_shape: tuple[int, ...]) -> int:
    """1 for (height, width), 3 for (height, width, 3)."""
    return CHANNELS if len(image_shape) == 3 else 1


def luma(colour: Any) -> NDArray[np.uint8]:
    """How bright colours are: uint8 [..., 3] to uint8 [...]."""
    weighed = np.asarray(colour, np.uint32) @ LUMA
    brightness: NDArray[np.uint8] = ((weighed + 0x8000) >> 16).astype(np.uint8)
    return brightness


def is_light(background: Background) -> bool:
    """Whether paper of this value is light, and ink on it dark."""
    brightness = int(luma(background)) if isinstance(background, tuple) else background
    return brightness > 127


def _shows_colour(images: NDArray[np.uint8]) -> bool:
    """Whether the channels of any image differ: uint8 [n, height, width] or [n, height, width, 3]."""
    if images.ndim == 3:
        return False
    return any((images[piece] != images[piece][..., :1]).any() for piece in pieces(images))


def in_channels(
    images: Mapping[str, NDArray[np.uint8]], wanted: int | None, *, on_disk: bool
) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """Both parts in grey or in colour, as `wanted` or else as they are, and what a person must know of it."""
    found = CHANNELS if any(map(_shows_colour, images.values())) else 1
    channels = wanted or found
    notes = []
    if channels == CHANNELS and not wanted:
        notes.append("the images are in colour, and the model will take them so; --channels 1 makes them grey")
    elif channels < found:
        notes.append("the images were made grey, which drops their colour (--channels 1)")
    elif not wanted and any(channels_of(array.shape[1:]) > channels for array in images.values()):
        notes.append("red, green and blue are equal everywhere: read as grey; --channels 3 keeps the three")
    return {part: _with_channels(array, channels, on_disk=on_disk) for part, array in images.items()}, notes


def background_of(images: NDArray[np.uint8]) -> Background:
    """The median of the pixels along the images' rims, where there is paper and hardly ever ink."""
    some = images[:: max(1, len(images) // 10_000)]
    rims = [some[:, 0], some[:, -1], some[:, 1:-1, 0], some[:, 1:-1, -1]]
    if images.ndim == 3:
        return int(np.median(np.concatenate([rim.ravel() for rim in rims])))
    medians = np.median(np.concatenate([rim.reshape(-1, CHANNELS) for rim in rims]), axis=0)
    return tuple(int(median) for median in medians)


def _with_channels(images: NDArray[np.uint8], channels: int, *, on_disk: bool) -> NDArray[np.uint8]:
    """The images in grey, uint8 [n, height, width], or with three channels, uint8 [n, height, width, 3]."""
    if channels_of(images.shape[1:]) == channels:
        return images
    size = images.shape[1:3]
    if channels == 1:
        return transformed(images, luma, on_disk=on_disk, row_shape=size)
    return transformed(images, _repeated, on_disk=on_disk, row_shape=(*size, CHANNELS))


def _repeated(images: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(images[..., np.newaxis], CHANNELS, axis=-1)
