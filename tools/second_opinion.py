"""Makes `client/reading/second_opinion.npz`, the network that tells digits from what is none, and which they are.

    npm pack @fontsource/caveat ...                  # FONTS and TEST_FONTS; unpack their latin-400 .woff files
    python -m tools.second_opinion --fonts folder    # minutes; writes the file, and prints what it refuses
    python -m tools.second_opinion --fonts folder --check    # is the file what this makes?

The digits are MNIST's training digits, as the data set has them and as the reader finds them on a page, those of the
fonts, and those of `tools.stroke_digits`. What is none: letters unlike any digit, two letters, signs, scribbles, filled
shapes, plus signs, coins, brick walls, and two digits of MNIST taken for one. The fonts are under the SIL Open Font
License or the Apache License, but for printed ones that Matplotlib ships; no outline of theirs is in the file.

What it says is measured on other fonts, on MNIST's test digits and on the training digits that are kept apart, by which
`client/reading/result.py` has its limits.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inkling.client.reading import second_opinion
from inkling.client.reading.mnist_form import mnist_form, upright
from tools.compose_page import digit_ink, mnist_digits
from tools.stroke_digits import SHAPES, stroke_digit

Images = NDArray[np.uint8]  # uint8 [n, 28, 28], upright, in MNIST's form
Labels = NDArray[np.int64]  # int64 [n], 0 to 9, NONE for what is no digit
Floats = NDArray[np.float32]
Random = np.random.Generator

FONTS = [
    "annie-use-your-telescope",
    "caveat",
    "coming-soon",
    "gloria-hallelujah",
    "indie-flower",
    "kalam",
    "nothing-you-could-do",
    "permanent-marker",
    "schoolbell",
    "short-stack",
    "cedarville-cursive",
    "crafty-girls",
    "gaegu",
    "gamja-flower",
    "give-you-glory",
    "gochi-hand",
    "la-belle-aurore",
    "loved-by-the-king",
    "mali",
    "mansalva",
    "nanum-pen-script",
    "over-the-rainbow",
    "pangolin",
    "sriracha",
    "sunshiney",
    "swanky-and-moo-moo",
    "the-girl-next-door",
    "waiting-for-the-sunrise",
    "walter-turncoat",
    "zeyada",
]
TEST_FONTS = [
    "architects-daughter",
    "covered-by-your-grace",
    "delius",
    "handlee",
    "just-another-hand",
    "neucha",
    "patrick-hand",
    "reenie-beanie",
    "shadows-into-light",
    "sue-ellen-francisco",
]
PRINTED = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf"]
LETTERS = "ACEFGHJKMNPQRTUVWXYadefhkmnprtuwxy"  # unlike any digit
SIGNS = "+=%$#&@?!"
PAIR_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHJKLMNPRSTW"
NONE = 10  # the class of what is no digit
KEPT_APART = 5000  # of MNIST's training digits, the last ones: not trained with
COARSE, LEAST_SIDE, MOST_SIDE = 0.2, 7, 16  # share of the digits that are seen with so few pixels
FILTERS, HIDDEN, EPOCHS = (24, 48), 96, 7
FILE = Path(second_opinion.__file__).with_name("second_opinion.npz")


def glyphs(fonts: Iterable[Path], texts: Iterable[str], count: int, random: Random) -> Images:
    """Draw `count` variations of each text in each font: size, slant, turn, breadth and pen differ."""
    forms = []
    for font in fonts:
        for text in texts:
            for _ in range(count):
                ink = _glyph(text, ImageFont.truetype(str(font), int(random.integers(36, 72))), random)
                if ink is not None:
                    forms.append(_form(ink, random))
    return np.stack(forms)


def _glyph(text: str, font: ImageFont.FreeTypeFont, random: Random) -> Floats | None:
    """[h, w], 0 to 1; None if the font does not have it."""
    mask = font.getmask(text, mode="L")
    if not min(mask.size):
        return None
    ink = np.array(mask, np.float32).reshape(mask.size[::-1]) / 255
    if float(ink.sum()) < 20:
        return None
    ink = np.pad(ink, max(ink.shape) // 2 + 4)
    height, width = ink.shape
    angle, slant, breadth = np.deg2rad(random.uniform(-9, 9)), random.uniform(-0.2, 0.25), random.uniform(0.5, 1.25)
    turn = np.array([[np.cos(angle) * breadth, -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, -slant], [0, 1]])
    middle = np.array([width / 2, height / 2])
    drawn = cv2.warpAffine(ink, np.column_stack([linear, middle - linear @ middle]), (width, height))
    pen = int(random.integers(0, 4))
    if pen > 1:
        drawn = cv2.dilate(drawn, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))
    return drawn.astype(np.float32)


def _form(ink: Floats, random: Random) -> NDArray[np.uint8]:
    """In MNIST's form; some as if seen from afar."""
    ink = np.clip(ink, 0, 1).astype(np.float32)
    if random.random() < COARSE:
        rows, columns = np.flatnonzero(ink.max(axis=1) > 0.3), np.flatnonzero(ink.max(axis=0) > 0.3)
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        scale = random.integers(LEAST_SIDE, MOST_SIDE) / max(ink.shape)
        coarse = cv2.resize(ink, None, fx=max(scale, 1 / ink.shape[1]), fy=scale, interpolation=cv2.INTER_AREA)
        ink = np.clip(cv2.resize(np.pad(coarse, 1), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), 0, 1)
    return upright(mnist_form(ink.astype(np.float32)))


def strokes(count: int, random: Random) -> Images:
    """So many of each digit, drawn from strokes; those of a digit follow each other."""
    return np.stack([_form(stroke_digit(label, random), random) for label in SHAPES for _ in range(count)])


def drawings(count: int, random: Random) -> Images:
    """Scribbles, filled shapes, plus signs, brick walls and coins."""
    return np.stack([_form(_drawing(random), random) for _ in range(count)])


def _drawing(random: Random) -> Floats:
    image = Image.new("L", (200, 200), 0)
    draw = ImageDraw.Draw(image)
    kind = random.integers(7)
    (left, top), (right, bottom) = random.uniform(30, 70, 2), random.uniform(120, 170, 2)
    if kind < 3:
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (int(random.integers(4, 14)), 2))]
        draw.line(points, fill=255, width=int(random.integers(4, 12)), joint="curve")
    elif kind == 3:
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (int(random.integers(3, 7)), 2))]
        draw.polygon(points, fill=255)
    elif kind == 4:
        width = int(random.integers(4, 22))
        draw.line((left, (top + bottom) / 2, right, (top + bottom) / 2), fill=255, width=width)
        draw.line(((left + right) / 2, top, (left + right) / 2, bottom), fill=255, width=width)
    elif kind == 5:
        for y in np.linspace(top, bottom, int(random.integers(2, 5))):
            draw.line([(left, y), (right, y)], fill=255, width=5)
        for x in np.linspace(left, right, int(random.integers(2, 5))):
            draw.line([(x, top), (x, bottom)], fill=255, width=5)
    else:
        draw.ellipse((left, top, right, bottom), outline=255, width=int(random.integers(4, 10)))
        points = [(float(x), float(y)) for x, y in random.uniform(80, 120, (int(random.integers(3, 8)), 2))]
        draw.line(points, fill=255, width=int(random.integers(4, 10)), joint="curve")
    return (np.asarray(image, np.float32) / 255).astype(np.float32)


def digits(split: str, count: int, random: Random, *, among: slice = slice(None)) -> tuple[Images, Labels]:
    """MNIST's digits, as the data set has them and as they are on a page.

    Args:
        among: which of the split's images they are drawn from.
    """
    images, labels = (each[among] for each in mnist_digits(split))
    chosen = random.integers(0, len(images), count)
    return np.stack([_digit(images[index], random) for index in chosen]), labels[chosen].astype(np.int64)


def _digit(image: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
    if random.random() < 0.4:
        return upright(image)
    ink = digit_ink(
        image,
        height=random.uniform(24, 90),
        slant=random.uniform(-0.3, 0.3),
        degrees=random.uniform(-8, 8),
        stroke=random.uniform(0.28, 0.58),
    )
    return _form(ink, random)


def pairs(split: str, count: int, random: Random) -> Images:
    """Two digits of MNIST that touch, as one."""
    images, _ = mnist_digits(split)
    forms = []
    for chosen in random.integers(0, len(images), (count, 2)):
        one, other = (
            digit_ink(images[i], height=60, slant=random.uniform(-0.1, 0.1), degrees=0, stroke=0.42) for i in chosen
        )
        left = max(one.shape[1] + int(random.uniform(-8, 4)), 1)
        ink = np.zeros((max(one.shape[0], other.shape[0]), left + max(other.shape[1], one.shape[1])), np.float32)
        for patch, x in ((one, 0), (other, left)):
            top = (ink.shape[0] - patch.shape[0]) // 2
            place = ink[top : top + patch.shape[0], x : x + patch.shape[1]]
            np.maximum(place, patch, out=place)
        forms.append(_form(ink, random))
    return np.stack(forms)


def letter_pairs(fonts: Sequence[Path], count: int, random: Random) -> Images:
    """Two letters that hang together, as one."""
    forms = []
    for font in fonts:
        texts = ["".join(random.choice(list(PAIR_LETTERS), 2)) for _ in range(count)]
        forms.append(glyphs([font], texts, 1, random))
    return np.concatenate(forms)


def training_fonts(folder: Path) -> list[Path]:
    """The handwriting fonts in the folder, and printed ones that Matplotlib ships."""
    import matplotlib

    printed = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [*(_file(folder, name) for name in FONTS), *(printed / name for name in PRINTED)]


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}-latin-400-normal.woff"


def training_set(fonts: Sequence[Path], random: Random) -> tuple[Images, Labels]:
    """Everything that the network is fitted to."""
    mnist, mnist_labels = digits("train", 28_000, random, among=slice(0, -KEPT_APART))
    images, labels = [mnist, strokes(1500, random)], [mnist_labels, np.repeat(np.arange(10), 1500)]
    for label in range(10):
        images.append(glyphs(fonts, [str(label)], 28, random))
        labels.append(np.full(len(images[-1]), label))
    strange = [glyphs(fonts, LETTERS, 13, random), glyphs(fonts, SIGNS, 8, random), drawings(5000, random)]
    strange += [pairs("train", 5000, random), letter_pairs(fonts, 70, random)]
    labels.append(np.full(sum(map(len, strange)), NONE))
    return np.concatenate(images + strange), np.concatenate(labels)


def train(images: Images, labels: Labels) -> dict[str, Any]:
    """Fit the network.

    Returns: the file's arrays by name: weights as 8-bit integers with a scale for each layer.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    convolutions = [
        keras.layers.Conv2D(filters, side, strides=second_opinion.STRIDE, activation="relu")
        for filters, side in zip(FILTERS, second_opinion.KERNELS, strict=True)
    ]
    hidden = keras.layers.Dense(HIDDEN, "relu", kernel_regularizer=keras.regularizers.L2(1e-5))
    dropouts = [keras.layers.Dropout(share) for share in (0.1, 0.2)]
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), *convolutions, keras.layers.Flatten(), dropouts[0], hidden, dropouts[1]]
    )
    model.add(keras.layers.Dense(NONE + 1))
    inputs = (images.astype(np.float32) / np.float32(255))[..., None]
    steps = EPOCHS * (len(inputs) // 128)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.02)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(inputs, labels, batch_size=128, epochs=EPOCHS, verbose=2)
    stored: dict[str, Any] = {}
    values = model.get_weights()
    for number, (weights, biases) in enumerate(zip(values[::2], values[1::2], strict=True)):
        flat = weights.reshape(-1, weights.shape[-1])
        scale = np.float32(np.abs(flat).max() / 127)
        stored |= {
            f"weights{number}": np.rint(flat / scale).astype(np.int8),
            f"scale{number}": np.array(scale),
            f"biases{number}": biases.astype(np.float32),
        }
    return stored


def report(test_fonts: Sequence[Path], random: Random) -> None:
    """Print how many of each kind of test picture it refuses, and how many digits it calls by their names."""
    font_digits = [glyphs(test_fonts, [str(label)], 10, random) for label in range(10)]
    apart = slice(-KEPT_APART, None)
    known = {
        "MNIST's training digits, kept apart": digits("train", 6000, random, among=apart),
        "MNIST's test digits": digits("test", 6000, random),
        "digits of other fonts": (np.concatenate(font_digits), np.repeat(np.arange(10), list(map(len, font_digits)))),
    }
    strange = {
        "letters of other fonts": glyphs(test_fonts, LETTERS, 6, random),
        "signs of other fonts": glyphs(test_fonts, SIGNS, 6, random),
        "drawings": drawings(800, random),
        "two digits for one": pairs("test", 1500, random),
    }
    for name, (forms, labels) in known.items():
        right = float((second_opinion.second_opinions(forms).digits.argmax(axis=1) == labels).mean())
        print(f"{name}: {right:.2%} right, {_over(forms)}")
    for name, forms in strange.items():
        print(f"{name}: {_over(forms)}")


def _over(forms: Images) -> str:
    logits = second_opinion.second_opinions(forms).strangers
    return ", ".join(f"{(logits > limit).mean():.2%} over {limit}" for limit in (-2, -1, 0, 1, 2, 3, 4, 5))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the file, and print what it says of each kind."""
    parser = argparse.ArgumentParser(prog="python -m tools.second_opinion", description=__doc__.partition("\n")[0])
    parser.add_argument("--fonts", type=Path, required=True, help="folder with NAME-latin-400-normal.woff of each font")
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    parser.add_argument("--check", action="store_true", help="write nothing: is the file what this makes?")
    options = parser.parse_args(arguments)
    arrays = train(*training_set(training_fonts(options.fonts), np.random.default_rng(0)))
    if options.check:
        with np.load(options.output) as stored:
            same = {name: float((stored[name] == array).mean()) for name, array in arrays.items()}
        print("\n".join(f"{name}: {share:.1%} the same" for name, share in same.items()))
        return 0 if min(same.values()) == 1 else 1
    np.savez_compressed(options.output, **arrays)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")
    second_opinion._network.cache_clear()
    report([_file(options.fonts, name) for name in TEST_FONTS], np.random.default_rng(1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
