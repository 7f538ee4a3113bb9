"""A labelled image set in its two parts."""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .colour import Background, channels_of, is_light
from .errors import DataError
from .example_order import held_out
from .memory import pieces, transformed
from .rows import Kept, Rows, StoredRows

WHITE = 255


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled image set, in its two parts: arrays, but that the training part may lie in shards on a disk."""

    train_images: Rows  # uint8 [n, height, width], or [n, height, width, 3] in colour; 0 to 255
    train_labels: Rows  # int64 [n], 0 to len(class_names) - 1
    test_images: NDArray[np.uint8]  # as the training images
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str  # what it was read from
    background: Background = 0  # the pixel value of empty paper, 0 to 255; of each channel in colour
    notes: tuple[str, ...] = ()  # what was left out, converted or assumed when it was read, as sentences
    copies: int = 0  # augmented versions of each training image; all originals come first, then all first copies, ...
    window: int | None = None  # training examples that an epoch mixes with each other; None: all
    sha256: str | None = None  # of a set that is not in memory

    @property
    def originals(self) -> int:
        """How many training examples are as they were found; they are the first ones."""
        return len(self.train_labels) // (self.copies + 1)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.train_images.shape[1:3]
        return height, width

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width), or (height, width, 3) of images in colour."""
        return self.train_images.shape[1:]

    @property
    def channels(self) -> int:
        """1 of grey images, 3 of images in colour."""
        return channels_of(self.image_shape)

    @property
    def is_dark_on_light(self) -> bool:
        """Whether ink is darker than paper, unlike MNIST's."""
        return is_light(self.background)

    def inverted(self, *, on_disk: bool = False) -> "Dataset":
        """The set, whose images are arrays, with black for white and white for black."""
        return dataclasses.replace(
            self,
            train_images=transformed(self.train_images, _inverse, on_disk=on_disk),
            test_images=transformed(self.test_images, _inverse, on_disk=on_disk),
            background=_inverse_of(self.background),
        )

    def checksum(self) -> str:
        """SHA-256, hexadecimal, over the four arrays: equal for equal data, whatever file it came from.

        That of a set of shards is over their checksums.
        """
        if self.sha256:
            return self.sha256
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(array.shape).encode())
            for piece in pieces(array):
                digest.update(np.ascontiguousarray(array[piece]).data)
        return digest.hexdigest()

    def some_originals(self, most: int) -> NDArray[np.uint8]:
        """Training images that nothing has augmented, uint8 [n, ...]: `most`, taken evenly, or all."""
        count = min(most, self.originals)
        images: NDArray[np.uint8] = self.train_images[np.arange(count) * self.originals // count]
        return images

    def held_out(self, size: int, seed: int) -> NDArray[np.int64]:
        """Which of the originals `hold_out` takes away: int64 [size], ascending.

        Raises: DataError if they are all of them.
        """
        if not 0 <= size < self.originals:
            raise DataError(
                f"validation_size={size} leaves nothing to train on: the training set has "
                f"{self.originals} images; use a smaller --validation-size"
            )
        return held_out(seed, self.originals, size)

    def hold_out(self, size: int, seed: int) -> tuple["Dataset", NDArray[np.uint8], NDArray[np.int64]]:
        """Take `size` random originals away, for choices that must not see the test set; their copies leave as well.

        Returns: the dataset without them; their images, uint8 [size, ...]; their labels, int64 [size].

        Raises: DataError if nothing would be left.
        """
        held = self.held_out(size, seed)
        images, labels = (self._without(held, rows) for rows in (self.train_images, self.train_labels))
        rest = dataclasses.replace(self, train_images=images, train_labels=labels)
        return rest, self.train_images[held], self.train_labels[held]

    def _without(self, held: NDArray[np.int64], rows: Rows) -> Rows:
        if isinstance(rows, np.ndarray):
            return rows[np.delete(np.arange(len(rows)), held)]
        return Kept(cast(StoredRows, rows), held, self.originals)


def _inverse_of(background: Background) -> Background:
    return tuple(WHITE - value for value in background) if isinstance(background, tuple) else WHITE - background


def _inverse(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    inverse: NDArray[np.uint8] = WHITE - images.astype(np.uint8)
    return inverse
