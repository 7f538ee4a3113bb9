"""Makes the twenty pictures beside this file, each in a style of its own, and `truth.json` with what is on them.

    python -m tests.client.reading.pictures.make

Half of them are composed like the benchmark's pages; the other half are drawn along the skeletons of MNIST test digits
with pens that the benchmark does not have. All follow from the seeds here.
"""

import dataclasses
import io
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.client.skeletons import strokes_of
from tools import compose_page

FOLDER = Path(__file__).parent
PLAIN = dataclasses.replace(
    compose_page.CLEAN, height_px=(60, 60), noise=(0, 1), jpeg_quality=(94, 95), size_spread=0.08, margin=(0.5, 0.8)
)


def main():
    """Write all pictures."""
    truth = {}
    for make in (composed, drawn, odd_files):
        for name, (content, text) in make().items():
            (FOLDER / name).write_bytes(content)
            truth[name] = text
    (FOLDER / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")


def composed():
    """Pages of the benchmark's kind, one for each difficulty it has."""
    change = dataclasses.replace
    styles = {
        "clean.jpg": ([6], PLAIN, 1),
        "two_lines.jpg": ([4, 3], PLAIN, 2),
        "five_lines.jpg": ([5, 3, 6, 1, 4], change(PLAIN, height_px=(34, 34)), 3),
        "ruled.jpg": ([5], change(PLAIN, ruled=1.0), 15),
        "squared.jpg": ([4], change(PLAIN, ruled=1.0), 12),
        "shadow.jpg": ([5], change(PLAIN, shadow=0.75, noise=(4, 6)), 9),
        "askew.jpg": ([7], change(PLAIN, skew_degrees=8.0), 6),
        "noisy.jpg": ([4], change(PLAIN, noise=(22, 24), jpeg_quality=(40, 45)), 8),
        "blurred.jpg": ([5], change(PLAIN, blur=(0.04, 0.045)), 11),
        "small.jpg": ([6], change(PLAIN, height_px=(17, 17), noise=(0, 2)), 10),
        "touching.jpg": ([4], change(PLAIN, gap=(-0.03, 0.0)), 14),
    }
    made = {}
    for name, (lines, difficulty, seed) in styles.items():
        page = compose_page.compose(lines, difficulty, seed=[2026, seed])
        made[name] = _encoded(Image.fromarray(page.picture), "JPEG", quality=90), page.text
    return made


def drawn():
    """Pens, chalks and papers that the benchmark does not have."""
    made = {}
    ballpoint, text = _written(6, seed=42, height=150, pen=3)
    made["ballpoint.png"] = _encoded(_coloured(ballpoint, ink=(20, 40, 150), paper=(252, 252, 250)), "PNG"), text
    marker, text = _written(3, seed=22, height=150, pen=26)
    made["marker.webp"] = _encoded(_coloured(marker, ink=(200, 30, 40), paper=(255, 250, 220)), "WEBP"), text
    chalk, text = _written(4, seed=23, height=130, pen=11)
    grain = np.random.default_rng(23).uniform(0.55, 1, (chalk.height, chalk.width))
    dusty = Image.fromarray(np.rint(np.asarray(chalk) * grain).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    made["chalk.jpg"] = _encoded(_coloured(dusty, ink=(235, 240, 230), paper=(38, 66, 52)), "JPEG", quality=85), text
    pencil, text = _written(5, seed=47, height=110, pen=4)
    made["pencil.png"] = _encoded(_coloured(pencil, ink=(176, 176, 174), paper=(226, 224, 219)), "PNG"), text
    dirty, text = _written(4, seed=25, height=120, pen=9)
    made["specks.png"] = _encoded(_with_specks(_coloured(dirty, ink=(30, 30, 30), paper=(250, 250, 250))), "PNG"), text
    return made


def odd_files():
    """The same to the eye, but not to a decoder."""
    made = {}
    strokes, text = _written(4, seed=44, height=100, pen=8)
    white = Image.new("RGBA", strokes.size, (255, 255, 255, 0))
    white.putalpha(strokes)
    made["white_on_transparent.png"] = _encoded(white, "PNG"), text
    strokes, text = _written(3, seed=32, height=100, pen=8)
    deep = Image.fromarray(np.asarray(strokes).astype(np.uint16) * 40 + 3000)
    made["sixteen_bits.png"] = _encoded(deep, "PNG"), text
    strokes, text = _written(4, seed=33, height=100, pen=9)
    photo = _coloured(strokes, ink=(40, 30, 90), paper=(214, 208, 196)).transpose(Image.Transpose.ROTATE_90)
    turned = Image.Exif()
    turned[0x0112] = 6  # shown a quarter turn clockwise
    made["phone_turned.jpg"] = _encoded(photo, "JPEG", quality=88, exif=turned), text
    image, label = (values[35] for values in compose_page.mnist_digits("test"))
    made["single_28x28.png"] = _encoded(Image.fromarray(image), "PNG"), str(label)
    return made


def _written(count, *, seed, height, pen):
    """`count` digits written along their skeletons: white on black, and their text."""
    random = np.random.default_rng([2026, seed])
    images, labels = compose_page.mnist_digits("test")
    chosen = random.integers(len(images), size=count)
    step = height * 1.05
    size = (round(step * count + height), round(height * 2))
    finer = 3  # drawn larger and shrunk, for soft edges
    canvas = Image.new("L", (size[0] * finer, size[1] * finer))
    draw = ImageDraw.Draw(canvas)
    for place, index in enumerate(chosen):
        x0, y0 = height * 0.5 + step * (place + 0.5), height + random.uniform(-0.06, 0.06) * height
        for stroke in strokes_of(images[index]):
            points = [(finer * (x0 + (x - 14) / 20 * height), finer * (y0 + (y - 14) / 20 * height)) for x, y in stroke]
            draw.line(points, fill=255, width=pen * finer, joint="curve")
            for x, y in points:
                radius = pen * finer / 2
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return canvas.resize(size, Image.Resampling.LANCZOS), "".join(map(str, labels[chosen]))


def _coloured(strokes, *, ink, paper):
    return Image.composite(Image.new("RGB", strokes.size, ink), Image.new("RGB", strokes.size, paper), strokes)


def _with_specks(image):
    random = np.random.default_rng(7)
    pixels = np.asarray(image).copy()
    for x, y in zip(
        random.integers(image.width, size=60).tolist(), random.integers(image.height, size=60).tolist(), strict=True
    ):
        cv2.circle(pixels, (x, y), int(random.integers(1, 3)), (60, 60, 60), -1)
    return Image.fromarray(pixels)


def _encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
