"""A labelled image set as arrays, and the error of data that cannot be one."""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .example_order import held_out

WHITE = 255


class DataError(ValueError):
    """The data cannot be trained on; the message says what was found, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled image set, in its two parts."""

    train_images: NDArray[np.uint8]  # [n, height, width], 0 to 255
    train_labels: NDArray[np.int64]  # [n], 0 to len(class_names) - 1
    test_images: NDArray[np.uint8]  # as the training images
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str  # what it was read from
    background: int = 0  # the pixel value of empty paper, 0 to 255
    notes: tuple[str, ...] = ()  # what was left out, converted or assumed when it was read, as sentences

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.train_images.shape[1:]
        return height, width

    @property
    def is_dark_on_light(self) -> bool:
        """Whether ink is darker than paper, unlike MNIST's."""
        return self.background > WHITE // 2

    def inverted(self) -> "Dataset":
        """The set with black for white and white for black."""
        return dataclasses.replace(
            self,
            train_images=WHITE - self.train_images,
            test_images=WHITE - self.test_images,
            background=WHITE - self.background,
        )

    def checksum(self) -> str:
        """SHA-256 over the four arrays, hexadecimal: equal for equal data, whatever file it came from."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def held_out(self, size: int, seed: int) -> NDArray[np.int64]:
        """Which training examples `hold_out` takes away: int64 [size], ascending.

        Raises: DataError if they are all of them.
        """
        if not 0 <= size < len(self.train_labels):
            raise DataError(
                f"validation_size={size} leaves nothing to train on: the training set has "
                f"{len(self.train_labels)} images; use a smaller --validation-size"
            )
        return held_out(seed, len(self.train_labels), size)

    def hold_out(self, size: int, seed: int) -> tuple["Dataset", NDArray[np.uint8], NDArray[np.int64]]:
        """Take `size` random training examples away, for choices that must not see the test set.

        Returns: the dataset without them; their images, uint8 [size, height, width]; their labels, int64 [size].

        Raises: DataError if nothing would be left.
        """
        held = self.held_out(size, seed)
        kept = np.delete(np.arange(len(self.train_labels)), held)
        rest = dataclasses.replace(self, train_images=self.train_images[kept], train_labels=self.train_labels[kept])
        return rest, self.train_images[held], self.train_labels[held]
