"""Fifteen ways in which real images differ from a clean test set, after MNIST-C.

Mu and Gilmer, "MNIST-C: a robustness benchmark for computer vision", 2019, chose them so that they keep the meaning for
a person and span what an application meets. These are our own implementations of the paper's descriptions; where they
differ from the authors' code, docs/training.md says so. Each is a function of the corruption's name and the image's
place in the set, so everybody measures on the same images.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .data import Dataset
from .data.example_order import CORRUPTION, uniform_numbers

Images = NDArray[np.float32]  # [n, height, width], 0 paper to 1 ink


@dataclass
class Numbers:
    """The random numbers of one corruption for a batch of images, drawn one after the other."""

    name: str
    index: NDArray[np.int64]  # [n], the images' places in the set
    drawn: int = 0

    def uniform(self, count: int = 1) -> NDArray[np.float32]:
        """float32 [n, count], uniform in [0, 1)."""
        seed = zlib.crc32(f"{self.name}/{self.drawn}".encode()) >> 1
        self.drawn += 1
        return uniform_numbers(CORRUPTION, seed, np.zeros_like(self.index), self.index, count)

    def sign(self) -> NDArray[np.float32]:
        """float32 [n, 1], -1 or 1."""
        return np.where(self.uniform() < 0.5, np.float32(-1), np.float32(1))

    def pixels(self, images: Images) -> Images:
        """A uniform number for each pixel, in the images' shape."""
        return self.uniform(images.shape[1] * images.shape[2]).reshape(images.shape)

    def normal(self, images: Images) -> Images:
        """A standard normal number for each pixel, in the images' shape (Box and Muller, 1958)."""
        first, second = self.pixels(images), self.pixels(images)
        normals: Images = np.sqrt(-2 * np.log1p(-first)) * np.cos(np.float32(2 * np.pi) * second)
        return normals


def corrupt(images: NDArray[np.uint8], name: str, *, dark_on_light: bool = False) -> NDArray[np.uint8]:
    """The images as the corruption `name` leaves them.

    Args:
        images: uint8 [n, height, width], a set's from its beginning; or [n, height, width, 3] in colour, whose channels
            are corrupted alike.
        name: of CORRUPTIONS.
        dark_on_light: the images' ink is darker than their paper.

    Returns: uint8, as images.
    """
    if images.ndim == 4:
        channels = (corrupt(images[..., channel], name, dark_on_light=dark_on_light) for channel in range(3))
        return np.stack(list(channels), axis=-1)
    parts = []
    for start in range(0, len(images), 1000):
        ink = images[start : start + 1000].astype(np.float32) / np.float32(255)
        numbers = Numbers(name, np.arange(start, start + len(ink)))
        changed = CORRUPTIONS[name](1 - ink if dark_on_light else ink, numbers)
        parts.append(np.clip(1 - changed if dark_on_light else changed, 0, 1))
    return np.rint(np.concatenate(parts) * 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Robustness:
    """Accuracy under each corruption, 0 to 1."""

    accuracy: dict[str, float]  # by corruption; `identity` is the set as it is
    mean: float  # over the corruptions, without identity
    worst: str  # the corruption with the lowest accuracy
    num_examples: int

    @classmethod
    def of(
        cls, predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]], dataset: Dataset, *, most: int | None = None
    ) -> "Robustness":
        """Measure a model on the test set as each corruption leaves it.

        Args:
            predict: probabilities float32 [n, classes] for images uint8 as the set's.
            most: take the first so many test images only.
        """
        images, labels = dataset.test_images[:most], dataset.test_labels[:most]
        accuracy = {
            name: float(np.mean(predict(changed).argmax(axis=1) == labels))
            for name, changed in suite(images, dark_on_light=dataset.is_dark_on_light)
        }
        corrupted = {name: value for name, value in accuracy.items() if name != "identity"}
        mean = sum(corrupted.values()) / len(corrupted)
        return cls(accuracy, mean, min(corrupted, key=lambda name: corrupted[name]), len(labels))

    def table(self) -> str:
        """The figures as lines of text for a terminal."""
        lines = [
            f"{'corruption':>15}  accuracy",
            *(f"{name:>15}  {value:.2%}" for name, value in self.accuracy.items()),
        ]
        return "\n".join([*lines, f"{'mean':>15}  {self.mean:.2%} of {self.num_examples:,}, without identity"])


def suite(images: NDArray[np.uint8], *, dark_on_light: bool = False) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The images as they are, under the name `identity`, then as each corruption leaves them."""
    yield "identity", images
    for name in CORRUPTIONS:
        yield name, corrupt(images, name, dark_on_light=dark_on_light)


def _shot_noise(images: Images, numbers: Numbers) -> Images:
    # Of 12 photons at full ink; the normal approximation of the paper's Poisson numbers.
    return images + np.sqrt(images / np.float32(12)) * numbers.normal(images)


def _impulse_noise(images: Images, numbers: Numbers) -> Images:
    chance = numbers.pixels(images)
    return np.where(chance < 0.085, 0, np.where(chance > 0.915, 1, images)).astype(np.float32)


def _glass_blur(images: Images, numbers: Numbers) -> Images:
    x, y = _grid(images)
    moved = _sample(
        _blurred(images, 0.7), x + np.rint(4 * numbers.pixels(images) - 2), y + np.rint(4 * numbers.pixels(images) - 2)
    )
    return _blurred(moved, 0.7)


def _motion_blur(images: Images, numbers: Numbers) -> Images:
    angle = np.pi / 4 * (2 * numbers.uniform() - 1)[..., None]
    x, y = _grid(images)
    steps = np.arange(-4, 5)
    return np.mean([_sample(images, x + step * np.cos(angle), y + step * np.sin(angle)) for step in steps], axis=0)


def _shear(images: Images, numbers: Numbers) -> Images:
    x, y = _centred(images)
    return _sample_centred(images, x + 0.6 * numbers.sign()[..., None] * y, y)


def _scale(images: Images, numbers: Numbers) -> Images:
    x, y = _centred(images)
    return _sample_centred(images, x / 0.6, y / 0.6)


def _rotate(images: Images, numbers: Numbers) -> Images:
    angle = (np.deg2rad(30) * numbers.sign())[..., None]
    x, y = _centred(images)
    return _sample_centred(images, x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle))


def _brightness(images: Images, numbers: Numbers) -> Images:
    return images + np.float32(0.5)


def _translate(images: Images, numbers: Numbers) -> Images:
    x, y = _grid(images)
    share = (3 + 2 * numbers.uniform(2)) / 28  # 3 to 5 px of MNIST's 28
    shift = share * np.concatenate([numbers.sign(), numbers.sign()], axis=1)
    return _sample(images, x + shift[:, :1, None] * images.shape[2], y + shift[:, 1:, None] * images.shape[1])


def _stripe(images: Images, numbers: Numbers) -> Images:
    changed, quarter = images.copy(), images.shape[2] // 4
    changed[:, :, :quarter] = 1 - changed[:, :, :quarter]
    changed[:, :, -quarter:] = 1 - changed[:, :, -quarter:]
    return changed


def _fog(images: Images, numbers: Numbers) -> Images:
    # Noise of three octaves in place of the paper's diamond-square fractal.
    fog = sum(_smooth_noise(images, numbers, cells) / cells for cells in (2, 4, 8)) / (1 / 2 + 1 / 4 + 1 / 8)
    return (images + 0.9 * fog) / 1.45


def _spatter(images: Images, numbers: Numbers) -> Images:
    drops = _blurred(np.maximum(_smooth_noise(images, numbers, 10) - 0.75, 0) * 12, 0.6)
    return np.maximum(images, np.minimum(drops, 0.9))


def _dotted_line(images: Images, numbers: Numbers) -> Images:
    return _with_line(images, numbers, amplitude=0.0, dotted=True)


def _zigzag(images: Images, numbers: Numbers) -> Images:
    return _with_line(images, numbers, amplitude=2.0, dotted=False)


def _canny_edges(images: Images, numbers: Numbers) -> Images:
    # Canny's gradient and his thinning; one threshold in place of two with hysteresis.
    smooth = _blurred(images, 1.0)
    dy, dx = np.gradient(smooth, axis=(1, 2))
    strength = np.hypot(dx, dy)
    x, y = _grid(images)
    unit = np.maximum(strength, 1e-6)
    ahead = _sample(strength, x + dx / unit, y + dy / unit)
    behind = _sample(strength, x - dx / unit, y - dy / unit)
    return ((strength >= ahead) & (strength > behind) & (strength > 0.08)).astype(np.float32)


CORRUPTIONS: Mapping[str, Callable[[Images, Numbers], Images]] = {
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "shear": _shear,
    "scale": _scale,
    "rotate": _rotate,
    "brightness": _brightness,
    "translate": _translate,
    "stripe": _stripe,
    "fog": _fog,
    "spatter": _spatter,
    "dotted_line": _dotted_line,
    "zigzag": _zigzag,
    "canny_edges": _canny_edges,
}


def _grid(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x and y of every pixel, each float32 [1, height, width]."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]].astype(np.float32)
    return x[None], y[None]


def _centred(images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x, y = _grid(images)
    return x - (images.shape[2] - 1) / 2, y - (images.shape[1] - 1) / 2


def _sample_centred(images: Images, x: NDArray[np.float32], y: NDArray[np.float32]) -> Images:
    return _sample(images, x + (images.shape[2] - 1) / 2, y + (images.shape[1] - 1) / 2)


def _sample(images: Images, x: NDArray[np.float32], y: NDArray[np.float32]) -> Images:
    """Bilinear samples at (x, y), each [n or 1, height, width]; 0 outside."""
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return _bilinear(padded, np.clip(x + 1, 0, width + 0.999), np.clip(y + 1, 0, height + 0.999))


def _blurred(images: Images, sigma: float) -> Images:
    """By a Gaussian of `sigma` px."""
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    weights /= weights.sum()
    for axis in (1, 2):
        padding = [(0, 0), (0, 0), (0, 0)]
        padding[axis] = (reach, reach)
        padded = np.pad(images, padding)
        size = images.shape[axis]
        images = sum(w * np.take(padded, np.arange(i, i + size), axis) for i, w in enumerate(weights))  # type: ignore[assignment]
    return images


def _smooth_noise(images: Images, numbers: Numbers, cells: int) -> Images:
    """Uniform numbers at the nodes of a grid of `cells` x `cells`, bilinear between them; 0 to 1."""
    nodes = numbers.uniform((cells + 1) ** 2).reshape(-1, cells + 1, cells + 1)
    height, width = images.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x[None] * (cells - 0.001) / (width - 1), y[None] * (cells - 0.001) / (height - 1)
    return _bilinear(nodes, x, y)


def _bilinear(nodes: Images, x: NDArray[np.float32], y: NDArray[np.float32]) -> Images:
    """Samples of `nodes` [n, rows, columns] at (x, y), which lie inside of it."""
    x, y = np.broadcast_arrays(x, y)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right_share, bottom_share = x - left, y - top
    image = np.arange(len(nodes))[:, None, None]
    upper = nodes[image, top, left] * (1 - right_share) + nodes[image, top, left + 1] * right_share
    lower = nodes[image, top + 1, left] * (1 - right_share) + nodes[image, top + 1, left + 1] * right_share
    return (upper * (1 - bottom_share) + lower * bottom_share).astype(np.float32)


def _with_line(images: Images, numbers: Numbers, *, amplitude: float, dotted: bool) -> Images:
    """A bright line from the left edge to the right, through a random height at each; zigzag by `amplitude` px."""
    height, width = images.shape[1:]
    first, last = np.split(height * (0.15 + 0.7 * numbers.uniform(2)), 2, axis=1)
    x, y = _grid(images)
    along = x / (width - 1)
    middle = first[..., None] * (1 - along) + last[..., None] * along
    middle = middle + amplitude * (np.abs((x % 8) - 4) - 2)
    line = np.clip(1.5 - np.abs(y - middle), 0, 1)
    return np.maximum(images, line * ((x % 4) < 2) if dotted else line)
