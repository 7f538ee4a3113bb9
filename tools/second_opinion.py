"""Makes `client/reading/second_opinion.npz`, the network that tells digits from what is none, and which they are.

    npm pack @fontsource/caveat ...                  # FONTS and TEST_FONTS; unpack their latin-400 .woff files
    python -m tools.second_opinion --fonts folder    # a quarter of an hour; writes the file, prints what it refuses
    python -m tools.second_opinion --fonts folder --further    # minutes: from the file's weights on

The digits are MNIST's training digits, as the data set has them, as the reader finds them on a page, and as small
squares; those of the fonts, and those of `tools.stroke_digits`; some are bent, some by a broken pen. The signs are
those of `second_opinion.SIGNS`. What is none: letters unlike any digit, two letters, other signs, scribbles, filled
shapes, coins, brick walls, two digits of MNIST taken for one, and what the reader cuts out of lines that is no whole
digit (`tools.segmented_lines`). The fonts are under the SIL Open Font License or the Apache License, but for printed
ones that Matplotlib ships; no outline of theirs is in the file.

What it says is measured on other fonts, on MNIST's test digits and on the training digits that are kept apart, by which
`client/reading/result.py` has its limits.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from inkling.client.reading import second_opinion
from inkling.client.reading.mnist_form import mnist_form, upright
from tools.compose_page import digit_ink, mnist_digits
from tools.segmented_lines import LETTERS, NONE, candidates
from tools.stroke_digits import SHAPES, stroke_digit

Images = NDArray[np.uint8]  # uint8 [n, 28, 28], upright, in MNIST's form
Labels = NDArray[np.int64]  # int64 [n], 0 to 9, NONE for what is no digit
Floats = NDArray[np.float32]
Random = np.random.Generator
Job = tuple[Callable[..., tuple[Images, Labels]], tuple[object, ...]]  # what makes a part, and of what

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
    "amatic-sc",
    "atma",
    "averia-libre",
    "bad-script",
    "boogaloo",
    "bubblegum-sans",
    "calligraffitti",
    "caveat-brush",
    "chilanka",
    "cute-font",
    "damion",
    "dancing-script",
    "east-sea-dokdo",
    "edu-nsw-act-foundation",
    "edu-sa-beginner",
    "edu-vic-wa-nt-beginner",
    "fuzzy-bubbles",
    "gluten",
    "hachi-maru-pop",
    "julee",
    "kavivanar",
    "licorice",
    "liu-jian-mao-cao",
    "long-cang",
    "marck-script",
    "meddon",
    "merienda",
    "ms-madi",
    "mynerve",
    "nerko-one",
    "oooh-baby",
    "oregano",
    "playpen-sans",
    "pompiere",
    "rancho",
    "ruge-boogie",
    "salsa",
    "satisfy",
    "sedgwick-ave",
    "shantell-sans",
    "sniglet",
    "square-peg",
    "stalemate",
    "tillana",
    "unkempt",
    "yellowtail",
    "yuji-boku",
    "zen-kurenaido",
    "zhi-mang-xing",
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
OTHER_SIGNS = "=#&@?!"
PAIR_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHJKLMNPRSTW"
STRANGE_CUTS = 1.3  # of what the reader cuts out of lines: so many that are none for each digit
KEPT_APART = 5000  # of MNIST's training digits, the last ones: not trained with
COARSE, LEAST_SIDE, MOST_SIDE = 0.2, 7, 16  # share of the digits that are seen with so few pixels
BENT, HOLED = 0.5, 0.12  # share of the digits that are
SQUARE, BINARY = (8, 17), 0.4  # px of the side that a digit is stretched to; share of those that are black or white
FILTERS, HIDDEN, EPOCHS, BATCH, RATE = (24, 48, 64), 128, 8, 128, 2e-3
FURTHER_EPOCHS, FURTHER_RATE, FURTHER_PARTS = 2.5, 8e-4, 50  # of `further`; parts that are handed over at once
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
    return np.stack(forms) if forms else np.empty((0, 28, 28), np.uint8)


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
    """In MNIST's form; some bent, some by a pen that leaves holes, some as if seen from afar."""
    ink = np.clip(ink, 0, 1).astype(np.float32)
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.3), np.flatnonzero(ink.max(axis=0) > 0.3)
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if random.random() < BENT:
        ink = _bent(ink, random)
    if random.random() < HOLED:
        ink = _holed(ink, random)
    if random.random() < COARSE:
        scale = random.integers(LEAST_SIDE, MOST_SIDE) / max(ink.shape)
        coarse = cv2.resize(ink, None, fx=max(scale, 1 / ink.shape[1]), fy=scale, interpolation=cv2.INTER_AREA)
        ink = np.clip(cv2.resize(np.pad(coarse, 1), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), 0, 1)
    return upright(mnist_form(ink.astype(np.float32)))


def _bent(ink: Floats, random: Random) -> Floats:
    """Moved a little, otherwise at each place: P. Simard, D. Steinkraus and J. Platt, Best practices for convolutional
    neural networks applied to visual document analysis, ICDAR 2003."""
    size = max(ink.shape)
    pad = size // 5 + 2
    ink = np.pad(ink, pad)
    coarse = random.normal(0, random.uniform(0.02, 0.07) * size, (2, 4, 4)).astype(np.float32)
    down, across = (cv2.resize(each, ink.shape[::-1], interpolation=cv2.INTER_CUBIC) for each in coarse)
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]].astype(np.float32)
    return cv2.remap(ink, x + across, y + down, cv2.INTER_LINEAR).astype(np.float32)


def _holed(ink: Floats, random: Random) -> Floats:
    holed = np.ascontiguousarray(ink, np.float32).copy()
    size = max(ink.shape)
    for _ in range(int(random.integers(1, 6))):
        middle = (int(random.integers(ink.shape[1])), int(random.integers(ink.shape[0])))
        cv2.circle(holed, middle, max(1, round(size * random.uniform(0.02, 0.06))), 0.0, -1)
    return holed if holed.sum() > 0.7 * ink.sum() and holed.max() > 0.5 else ink


def strokes(count: int, random: Random) -> Images:
    """So many of each digit, drawn from strokes; those of a digit follow each other."""
    return np.stack([_form(stroke_digit(label, random), random) for label in SHAPES for _ in range(count)])


def drawings(count: int, random: Random) -> Images:
    """Scribbles, filled shapes, brick walls and coins."""
    return np.stack([_form(_drawing(random), random) for _ in range(count)])


def _drawing(random: Random) -> Floats:
    image = Image.new("L", (200, 200), 0)
    draw = ImageDraw.Draw(image)
    kind = random.integers(6)
    (left, top), (right, bottom) = random.uniform(30, 70, 2), random.uniform(120, 170, 2)
    if kind < 3:
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (int(random.integers(4, 14)), 2))]
        draw.line(points, fill=255, width=int(random.integers(4, 12)), joint="curve")
    elif kind == 3:
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (int(random.integers(3, 7)), 2))]
        draw.polygon(points, fill=255)
    elif kind == 4:
        for y in np.linspace(top, bottom, int(random.integers(2, 5))):
            draw.line([(left, y), (right, y)], fill=255, width=5)
        for x in np.linspace(left, right, int(random.integers(2, 5))):
            draw.line([(x, top), (x, bottom)], fill=255, width=5)
    else:
        draw.ellipse((left, top, right, bottom), outline=255, width=int(random.integers(4, 10)))
        points = [(float(x), float(y)) for x, y in random.uniform(80, 120, (int(random.integers(3, 8)), 2))]
        draw.line(points, fill=255, width=int(random.integers(4, 10)), joint="curve")
    return (np.asarray(image, np.float32) / 255).astype(np.float32)


def plus_signs(count: int, random: Random) -> Images:
    """Two straight strokes."""
    return np.stack([_form(_plus(random), random) for _ in range(count)])


def _plus(random: Random) -> Floats:
    image = Image.new("L", (200, 200), 0)
    draw, width = ImageDraw.Draw(image), int(random.integers(4, 22))
    (left, top), (right, bottom) = random.uniform(30, 70, 2), random.uniform(120, 170, 2)
    x, y = (left + right) / 2 + random.uniform(-12, 12), (top + bottom) / 2 + random.uniform(-12, 12)
    lean, fall = random.uniform(-12, 12, 2)
    draw.line((left, y - fall, right, y + fall), fill=255, width=width)
    draw.line((x + lean, top, x - lean, bottom), fill=255, width=width)
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


def training_set(fonts: Sequence[Path]) -> tuple[Images, Labels]:
    """Everything that the network is fitted to."""
    jobs = _jobs(fonts)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(made, jobs, range(len(jobs))))
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _jobs(fonts: Sequence[Path]) -> list[Job]:
    """What the parts of the training set are made by, and of what."""
    jobs: list[Job] = [*[(_mnist_part, (1250,))] * 32, *[(_stroke_part, (40,))] * 32]
    jobs += [(_font_part, ([font],)) for font in fonts]
    jobs += [*[(_strange_part, (250,))] * 16, *[(_line_part, (fonts, 60))] * 64]
    jobs += [*[(_line_part, ([], 60))] * 24, *[(_square_part, (800,))] * 8]
    return jobs


def made(job: Job, seed: int) -> tuple[Images, Labels]:
    """A part of the training set."""
    cv2.setNumThreads(1)
    make, arguments = job
    return make(*arguments, np.random.default_rng([0, seed]))


def _mnist_part(count: int, random: Random) -> tuple[Images, Labels]:
    return digits("train", count, random, among=slice(0, -KEPT_APART))


def _square_part(count: int, random: Random) -> tuple[Images, Labels]:
    """MNIST's digits as USPS, Semeion and `load_digits` have theirs: stretched to a square of few pixels."""
    images, labels = (each[:-KEPT_APART] for each in mnist_digits("train"))
    chosen = random.choice(np.flatnonzero(labels != 1), count)  # a stretched bar is a filled square
    return np.stack([_square(images[i], random) for i in chosen]), labels[chosen].astype(np.int64)


def _square(image: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
    side = int(random.integers(*SQUARE))
    rows, columns = np.flatnonzero(image.max(axis=1) > 40), np.flatnonzero(image.max(axis=0) > 40)
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 255
    coarse = cv2.resize(ink, (round(side * random.uniform(0.75, 1.0)), side), interpolation=cv2.INTER_AREA)
    if random.random() < BINARY:
        coarse = (coarse > random.uniform(0.3, 0.6)).astype(np.float32)
    grown = cv2.resize(np.pad(coarse, 1), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    return upright(mnist_form(np.clip(grown, 0, 1).astype(np.float32)))


def _stroke_part(count: int, random: Random) -> tuple[Images, Labels]:
    return strokes(count, random), np.repeat(np.arange(10), count)


def _font_part(fonts: Sequence[Path], random: Random) -> tuple[Images, Labels]:
    known = [glyphs(fonts, [str(label)], 36, random) for label in range(10)]
    signs = [glyphs(fonts, [sign], 20, random) for sign in second_opinion.SIGNS]
    strange = [
        glyphs(fonts, LETTERS, 5, random),
        glyphs(fonts, OTHER_SIGNS, 4, random),
        letter_pairs(fonts, 20, random),
    ]
    labels = [np.full(len(images), label) for label, images in enumerate(known)]
    labels += [np.full(len(images), NONE + 1 + number) for number, images in enumerate(signs)]
    labels += [np.full(len(images), NONE) for images in strange]
    return np.concatenate(known + signs + strange), np.concatenate(labels)


def _strange_part(count: int, random: Random) -> tuple[Images, Labels]:
    strange = np.concatenate([drawings(count, random), pairs("train", count, random)])
    plus = plus_signs(count // 4, random)
    labels = np.concatenate(
        [np.full(len(strange), NONE), np.full(len(plus), NONE + 1 + second_opinion.SIGNS.index("+"))]
    )
    return np.concatenate([strange, plus]), labels


def _line_part(fonts: Sequence[Path], lines: int, random: Random) -> tuple[Images, Labels]:
    """What the reader cuts out of lines: all that is a digit, and so much more that is none."""
    images, labels = candidates(fonts, lines, random)
    known, strange = np.flatnonzero(labels != NONE), np.flatnonzero(labels == NONE)
    chosen = np.concatenate([known, random.permutation(strange)[: round(STRANGE_CUTS * len(known))]])
    return images[chosen], labels[chosen]


def train(images: Images, labels: Labels) -> dict[str, Any]:
    """Fit the network.

    Returns: the file's arrays by name: weights as 8-bit integers with a scale for each output.
    """
    import keras

    keras.utils.set_random_seed(0)
    model = network(steps=EPOCHS * (len(images) // BATCH))
    model.fit(inputs(images), labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    return stored(model)


def further(images: Images, labels: Labels) -> dict[str, Any]:
    """Fit the stored network further, when the reader or the set has changed a little; returns as `train`."""
    import keras

    keras.utils.set_random_seed(0)
    epochs = [np.random.default_rng(epoch).permutation(len(images)) for epoch in range(int(np.ceil(FURTHER_EPOCHS)))]
    order = np.concatenate(epochs)[: int(FURTHER_EPOCHS * len(images))]
    model = restored(network(steps=len(order) // BATCH, rate=FURTHER_RATE))
    for part in np.array_split(order, FURTHER_PARTS):
        model.fit(inputs(images[part]), labels[part], batch_size=BATCH, shuffle=False, verbose=2)
    return stored(model)


def restored(model: Any) -> Any:
    """The model, with the weights that the client has."""
    arrays = [array for layer in second_opinion._network() for array in layer]
    model.set_weights([array.reshape(own.shape) for array, own in zip(arrays, model.get_weights(), strict=True)])
    return model


def network(*, steps: int, rate: float = RATE) -> Any:
    """The Keras model, compiled to be fitted in so many steps, at this rate first."""
    import keras

    convolutions = [
        keras.layers.Conv2D(filters, side, strides=stride, activation="relu")
        for filters, side, stride in zip(FILTERS, second_opinion.KERNELS, second_opinion.STRIDES, strict=True)
    ]
    hidden = keras.layers.Dense(HIDDEN, "relu", kernel_regularizer=keras.regularizers.L2(1e-5))
    dropouts = [keras.layers.Dropout(share) for share in (0.1, 0.2)]
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), *convolutions, keras.layers.Flatten(), dropouts[0], hidden, dropouts[1]]
    )
    model.add(keras.layers.Dense(NONE + 1 + len(second_opinion.SIGNS)))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.02)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def inputs(images: Images) -> Floats:
    """Forms as the network takes them, float32 [n, 28, 28, 1]."""
    return (images.astype(np.float32) / np.float32(255))[..., None]


def stored(model: Any) -> dict[str, Any]:
    """The file's arrays."""
    arrays: dict[str, Any] = {}
    values = model.get_weights()
    for number, (weights, biases) in enumerate(zip(values[::2], values[1::2], strict=True)):
        flat = weights.reshape(-1, weights.shape[-1])
        scale = (np.abs(flat).max(axis=0) / 127).astype(np.float32)
        arrays |= {
            f"weights{number}": np.rint(flat / scale).astype(np.int8),
            f"scale{number}": scale,
            f"biases{number}": biases.astype(np.float32),
        }
    return arrays


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
        "signs of other fonts": glyphs(test_fonts, OTHER_SIGNS, 6, random),
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
    """Write the file, and print what it says of each kind."""
    parser = argparse.ArgumentParser(prog="python -m tools.second_opinion", description=__doc__.partition("\n")[0])
    parser.add_argument("--fonts", type=Path, required=True, help="folder with NAME-latin-400-normal.woff of each font")
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    parser.add_argument("--further", action="store_true", help="from the weights on that the client has")
    options = parser.parse_args(arguments)
    fit = further if options.further else train
    arrays = fit(*training_set(training_fonts(options.fonts)))
    np.savez_compressed(options.output, **arrays)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")
    second_opinion._network.cache_clear()
    report([_file(options.fonts, name) for name in TEST_FONTS], np.random.default_rng(1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
