"""Pictures of single marks for `benchmarks.reading`: what is no digit, and digits of other writers than MNIST's."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

OTHER_HANDS_PX = 64  # a side of the digits of `load_digits`, enlarged


def letters() -> list[Image.Image]:
    """Printed letters that are shaped unlike any digit."""
    font = ImageFont.load_default(110)
    pictures = []
    for letter in "ACDEFGHJKMNPQRTUVWXYabdefhkmnprtuwxy":
        picture = Image.new("L", (200, 200), 255)
        ImageDraw.Draw(picture).text((60, 30), letter, font=font, fill=0)
        pictures.append(picture)
    return pictures


def scribbles(count: int = 36) -> list[Image.Image]:
    """Twelve random strokes on end, each time."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        picture = Image.new("L", (200, 200), 255)
        points = [(float(x), float(y)) for x, y in random.uniform(40, 160, (12, 2))]
        ImageDraw.Draw(picture).line(points, fill=0, width=7, joint="curve")
        pictures.append(picture)
    return pictures


def shapes() -> list[Image.Image]:
    """Filled shapes, plus signs, coins and brick walls."""
    pictures = []
    for size in range(60, 130, 10):
        pictures += [_shape(size, kind) for kind in ("disc", "box", "plus", "coin", "bricks")]
    return pictures


def _shape(size: int, kind: str) -> Image.Image:
    picture = Image.new("L", (200, 200), 255)
    draw = ImageDraw.Draw(picture)
    box, middle = (100 - size // 2, 100 - size // 2, 100 + size // 2, 100 + size // 2), 100
    if kind == "disc":
        draw.ellipse(box, fill=0)
    elif kind == "box":
        draw.rectangle(box, fill=0)
    elif kind == "plus":
        draw.line((box[0], middle, box[2], middle), fill=0, width=size // 10)
        draw.line((middle, box[1], middle, box[3]), fill=0, width=size // 10)
    elif kind == "coin":
        draw.ellipse(box, fill=190, outline=90, width=4)
        draw.text((middle, middle), "50", font=ImageFont.load_default(size // 3), fill=70, anchor="mm")
    else:
        for row in range(0, 200, size // 4):
            draw.line((0, row, 200, row), fill=0, width=3)
            for x in range((row * 4 // size % 2) * size // 4, 200, size // 2):
                draw.line((x, row, x, row + size // 4), fill=0, width=3)
    return picture


def other_hands() -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """scikit-learn's `load_digits` as pictures, uint8 [96, 96] each, dark on white, and their labels.

    Raises: ImportError without scikit-learn.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    side = OTHER_HANDS_PX * 3 // 2
    ink = [
        Image.fromarray(np.pad(image, 2).astype(np.float32) / 16).resize((side, side), Image.Resampling.BICUBIC)
        for image in found.images
    ]
    pictures = [np.clip(255 * (1 - np.asarray(each)), 0, 255).astype(np.uint8) for each in ink]
    return pictures, np.asarray(found.target, np.int64)
