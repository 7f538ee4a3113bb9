"""Makes `client/reading/strangers.npz`, the network that tells what is no digit, for `client/reading/strangers.py`.

    npm pack @fontsource/caveat ...             # FONTS and TEST_FONTS; unpack their latin-400 .woff files
    python -m tools.strangers --fonts folder    # minutes

The digits are MNIST's training digits, as the data set has them and as the reader finds them on a page, and those of
the fonts. What is none: letters unlike any digit, signs, scribbles, filled shapes, brick walls, and two digits of MNIST
taken for one. The fonts are under the SIL Open Font License or the Apache License; no outline of theirs is in the file.
It says how many of each kind of test picture (other fonts, MNIST's test digits) are refused.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inkling.client.reading import strangers
from inkling.client.reading.mnist_form import mnist_form, upright
from inkling.client.reading.novelty import features
from tools.compose_page import digit_ink, mnist_digits

Images = NDArray[np.uint8]  # uint8 [n, 28, 28], upright, in MNIST's form
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
DIGITS = "0123456789"
LETTERS = "ACEFGHJKMNPQRTUVWXYadefhkmnprtuwxy"  # unlike any digit
SIGNS = "+=%$#&@?!"
HIDDEN = (96, 32)
FILE = Path(strangers.__file__).with_name("strangers.npz")


def glyphs(fonts: Iterable[Path], characters: str, count: int, random: Random) -> Images:
    """Draw `count` variations of each character of each font: size, slant, turn, breadth and pen differ."""
    forms = []
    for font in fonts:
        for character in characters:
            for _ in range(count):
                ink = _glyph(character, ImageFont.truetype(str(font), int(random.integers(36, 72))), random)
                if ink is not None:
                    forms.append(_form(ink))
    return np.stack(forms)


def _glyph(character: str, font: ImageFont.FreeTypeFont, random: Random) -> Floats | None:
    """[h, w], 0 to 1; None if the font does not have the character."""
    mask = font.getmask(character, mode="L")
    if not min(mask.size):
        return None
    ink = np.array(mask, np.float32).reshape(mask.size[::-1]) / 255
    if float(ink.sum()) < 20:
        return None
    ink = np.pad(ink, max(ink.shape) // 2 + 4)
    height, width = ink.shape
    angle, slant, breadth = np.deg2rad(random.uniform(-9, 9)), random.uniform(-0.2, 0.25), random.uniform(0.85, 1.18)
    turn = np.array([[np.cos(angle) * breadth, -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, -slant], [0, 1]])
    middle = np.array([width / 2, height / 2])
    drawn = cv2.warpAffine(ink, np.column_stack([linear, middle - linear @ middle]), (width, height))
    pen = int(random.integers(0, 4))
    if pen > 1:
        drawn = cv2.dilate(drawn, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))
    return drawn.astype(np.float32)


def _form(ink: Floats) -> NDArray[np.uint8]:
    return upright(mnist_form(np.clip(ink, 0, 1).astype(np.float32)))


def drawings(count: int, random: Random) -> Images:
    """Scribbles, filled shapes and brick walls."""
    return np.stack([_form(_drawing(random)) for _ in range(count)])


def _drawing(random: Random) -> Floats:
    image = Image.new("L", (200, 200), 0)
    draw = ImageDraw.Draw(image)
    kind = random.integers(4)
    if kind < 2:
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (int(random.integers(5, 14)), 2))]
        draw.line(points, fill=255, width=int(random.integers(4, 12)), joint="curve")
    elif kind == 2:
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (int(random.integers(3, 7)), 2))]
        draw.polygon(points, fill=255)
    else:
        (left, top), (right, bottom) = random.uniform(30, 70, 2), random.uniform(120, 170, 2)
        for y in np.linspace(top, bottom, int(random.integers(2, 5))):
            draw.line([(left, y), (right, y)], fill=255, width=5)
        for x in np.linspace(left, right, int(random.integers(2, 5))):
            draw.line([(x, top), (x, bottom)], fill=255, width=5)
    return (np.asarray(image, np.float32) / 255).astype(np.float32)


def digits(split: str, count: int, random: Random) -> Images:
    """MNIST's digits, as the data set has them and as they are on a page."""
    images, _ = mnist_digits(split)
    forms = []
    for index in random.integers(0, len(images), count):
        if random.random() < 0.4:
            forms.append(upright(images[index]))
            continue
        ink = digit_ink(
            images[index],
            height=random.uniform(24, 90),
            slant=random.uniform(-0.3, 0.3),
            degrees=random.uniform(-8, 8),
            stroke=random.uniform(0.28, 0.58),
        )
        forms.append(_form(ink))
    return np.stack(forms)


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
        forms.append(_form(ink))
    return np.stack(forms)


def train(known: Images, strange: Images) -> dict[str, Any]:
    """Fit the network.

    Args:
        known: digits.
        strange: what is none.

    Returns: the file's arrays by name: weights as 8-bit integers with a scale for each layer.
    """
    import keras

    keras.utils.set_random_seed(0)
    inputs = np.concatenate([features(known), features(strange)])
    mean = inputs.mean(axis=0)
    labels = np.repeat([0.0, 1.0], [len(known), len(strange)]).astype(np.float32)
    layers = [keras.layers.Dense(size, "relu", kernel_regularizer=keras.regularizers.L2(1e-5)) for size in HIDDEN]
    model = keras.Sequential(
        [keras.Input((inputs.shape[1],)), layers[0], keras.layers.Dropout(0.2), layers[1], keras.layers.Dense(1)]
    )
    for rate, epochs in ((2e-3, 5), (4e-4, 2)):
        model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
        model.fit((inputs - mean) * strangers.GAIN, labels, batch_size=256, epochs=epochs, verbose=0)
    stored: dict[str, Any] = {"mean": mean.astype(np.float16)}
    values = model.get_weights()
    for number, (weights, biases) in enumerate(zip(values[::2], values[1::2], strict=True)):
        scale = np.float32(np.abs(weights).max() / 127)
        stored |= {
            f"weights{number}": np.rint(weights / scale).astype(np.int8),
            f"scale{number}": np.array(scale),
            f"biases{number}": biases.astype(np.float32),
        }
    return stored


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, and print what share of each kind it refuses."""
    parser = argparse.ArgumentParser(prog="python -m tools.strangers", description=__doc__.partition("\n")[0])
    parser.add_argument("--fonts", type=Path, required=True, help="folder with NAME-latin-400-normal.woff of each font")
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    fonts, test_fonts = (
        [options.fonts / f"{name}-latin-400-normal.woff" for name in names] for names in (FONTS, TEST_FONTS)
    )
    random = np.random.default_rng(0)
    known = np.concatenate([digits("train", 16_000, random), glyphs(fonts, DIGITS, 16, random)])
    strange = [glyphs(fonts, LETTERS, 14, random), glyphs(fonts, SIGNS, 8, random)]
    strange += [drawings(3000, random), pairs("train", 4000, random)]
    arrays: dict[str, Any] = train(known, np.concatenate(strange))
    np.savez_compressed(options.output, **arrays)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")
    strangers._network.cache_clear()
    tests = {
        "MNIST's test digits": digits("test", 6000, random),
        "digits of other fonts": glyphs(test_fonts, DIGITS, 10, random),
        "letters of other fonts": glyphs(test_fonts, LETTERS, 6, random),
        "signs of other fonts": glyphs(test_fonts, SIGNS, 6, random),
        "drawings": drawings(800, random),
        "two digits for one": pairs("test", 1500, random),
    }
    for name, forms in tests.items():
        logits = strangers.stranger_logits(forms)
        over = ", ".join(f"{(logits > limit).mean():.2%} over {limit}" for limit in (2, 4, 5.5))
        print(f"{name}: {over}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
