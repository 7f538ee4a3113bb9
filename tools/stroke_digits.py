"""Draws digits from strokes, as other hands than MNIST's write them, for what is fitted by `tools.second_opinion`.

MNIST's writers are American. What they seldom write is here: a 4 open at its top, in two strokes or as a stroke of
lightning, a 1 with a flag or a long upstroke, a slashed 0, a 7 with a bar, a curled 9; and the usual shapes beside
them. Points, pen, slant, breadth and sharpness differ from one digit to the next.

    python -m tools.stroke_digits -o digits.png      # twenty of each
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Points = Sequence[tuple[float, float]]  # x to the right, y downwards; a digit is about 0.6 wide and 1 high
Random = np.random.Generator

HEIGHT, ROOM = 64, 128  # px of a digit, and of the picture that it is drawn in
JITTER, APART = 0.035, 0.02  # of its height: sigma of the points, and of where a stroke lies
STEPS = 12  # of a curve, between two of its points


def ring(x: float, y: float, across: float, down: float, start: float = -80, stop: float = 275) -> Points:
    """Points on an ellipse, from one angle in degrees to another, clockwise from the right."""
    angles = np.deg2rad(np.linspace(start, stop, 9))
    return [(x + across * float(np.cos(a)), y + down * float(np.sin(a))) for a in angles]


# For each digit the ways to write it: strokes, of which a "line" is a polygon and a "curve" runs smoothly.
Stroke = tuple[str, Points]  # "curve" or "line", and through which points it runs
SHAPES: dict[int, list[list[Stroke]]] = {
    0: [
        [("curve", ring(0.3, 0.5, 0.3, 0.5))],
        [("curve", ring(0.4, 0.5, 0.4, 0.5, -60, 300))],
        [("curve", ring(0.3, 0.5, 0.3, 0.5)), ("line", [(0.58, 0.05), (0.02, 0.95)])],
        [("curve", ring(0.35, 0.5, 0.35, 0.48)), ("line", [(0.75, -0.1), (-0.05, 1.1)])],
        [("curve", ring(0.3, 0.5, 0.3, 0.5)), ("line", [(0.42, 0.3), (0.18, 0.7)])],
    ],
    1: [
        [("line", [(0.1, 0), (0.08, 1)])],
        [("line", [(0, 0.25), (0.22, 0), (0.2, 1)])],
        [("line", [(0, 0.6), (0.35, 0), (0.35, 1)])],
        [("line", [(0, 0.9), (0.35, 0), (0.45, 1)])],
        [("line", [(-0.2, 1), (0.45, 0), (0.38, 1)])],
        [("curve", [(-0.3, 0.95), (0.1, 0.6), (0.45, 0.02)]), ("line", [(0.45, 0), (0.36, 1)])],
        [("line", [(0.08, 0.22), (0.22, 0), (0.16, 1)])],
        [("line", [(0, 0.2), (0.22, 0), (0.22, 1)]), ("line", [(0, 1), (0.45, 1)])],
    ],
    2: [
        [("curve", [(0, 0.28), (0.2, 0.02), (0.52, 0.1), (0.5, 0.45), (0, 1)]), ("line", [(0, 1), (0.65, 0.98)])],
        [("curve", [(0, 0.2), (0.3, 0), (0.55, 0.2), (0.3, 0.65), (0.02, 0.95), (0.1, 0.78), (0.35, 0.93), (0.7, 1)])],
        [("line", [(0, 0.05), (0.55, 0), (0, 1), (0.6, 1)])],
    ],
    3: [
        [("curve", [(0, 0.12), (0.3, 0), (0.52, 0.2), (0.2, 0.46), (0.58, 0.7), (0.3, 1), (0, 0.88)])],
        [("curve", [(0.05, 0.12), (0.35, 0), (0.36, 0.35), (0.15, 0.47), (0.42, 0.62), (0.3, 1), (0, 0.95)])],
        [("line", [(0, 0), (0.55, 0), (0.22, 0.4)]), ("curve", [(0.22, 0.4), (0.58, 0.6), (0.4, 0.97), (0, 0.9)])],
    ],
    4: [
        [("line", [(0.42, 1), (0.42, 0), (0, 0.66), (0.65, 0.66)])],
        [("line", [(0.15, 0), (0, 0.55), (0.6, 0.55)]), ("line", [(0.42, 0.25), (0.4, 1)])],
        [("line", [(0.1, 0), (0.02, 0.5), (0.5, 0.48)]), ("line", [(0.5, 0), (0.46, 1)])],
        [("line", [(0.35, 0), (0, 0.58), (0.55, 0.52), (0.4, 1)])],
        [("curve", [(0.4, 0), (0.05, 0.5), (0.15, 0.62), (0.6, 0.5)]), ("line", [(0.5, 0.35), (0.36, 1)])],
        [("line", [(0.45, 0), (0, 0.62), (0.7, 0.6)]), ("line", [(0.5, 0.4), (0.3, 1)])],
        [("curve", [(0.5, 0), (0.1, 0.4), (0.1, 0.6), (0.5, 0.55), (0.62, 0.35)]), ("line", [(0.6, 0.3), (0.45, 1)])],
        [("line", [(0.1, 0), (0, 0.5), (0.25, 0.6), (0.6, 0.45)]), ("line", [(0.62, 0.1), (0.4, 1)])],
        [("line", [(0.42, 0), (0.02, 0.55), (0.02, 0.72), (0.6, 0.72)]), ("line", [(0.58, 0.35), (0.4, 1)])],
        [("curve", [(0.4, 0), (0.02, 0.55), (0.1, 0.75), (0.6, 0.65)]), ("line", [(0.6, 0.3), (0.42, 0.98)])],
    ],
    5: [
        [
            ("line", [(0.55, 0), (0.1, 0.02), (0.06, 0.42)]),
            ("curve", [(0.06, 0.42), (0.5, 0.45), (0.5, 0.9), (0, 0.95)]),
        ],
        [("curve", [(0.5, 0.02), (0.15, 0.1), (0.12, 0.4), (0.5, 0.6), (0.4, 0.95), (0, 0.95)])],
        [("curve", [(0.1, 0.05), (0.05, 0.42), (0.5, 0.5), (0.45, 0.92), (0, 0.95)]), ("line", [(0.12, 0), (0.6, 0)])],
    ],
    6: [
        [("curve", [(0.45, 0), (0.1, 0.35), (0.02, 0.75), (0.3, 1), (0.55, 0.75), (0.3, 0.52), (0.04, 0.7)])],
        [("curve", [(0.2, 0), (0.02, 0.5), (0.1, 0.95), (0.45, 0.95), (0.5, 0.65), (0.25, 0.55), (0.05, 0.75)])],
    ],
    7: [
        [("line", [(0, 0), (0.55, 0), (0.18, 1)])],
        [("line", [(0, 0), (0.55, 0), (0.2, 1)]), ("line", [(0.12, 0.5), (0.55, 0.48)])],
        [("line", [(0, 0.2), (0, 0.02), (0.55, 0), (0.3, 1)])],
        [
            ("curve", [(0, 0.1), (0.2, 0.05), (0.55, 0.05), (0.3, 0.5), (0.22, 1)]),
            ("line", [(0.05, 0.52), (0.5, 0.45)]),
        ],
        [("curve", [(0, 0.15), (0.25, 0), (0.55, 0.1), (0.35, 0.5), (0.15, 1)]), ("line", [(0.05, 0.55), (0.6, 0.45)])],
    ],
    8: [
        [("curve", [(0.5, 0.12), (0.25, 0), (0.05, 0.2), (0.5, 0.65), (0.3, 1), (0, 0.75), (0.3, 0.45), (0.52, 0.15)])],
        [("curve", ring(0.28, 0.24, 0.23, 0.24, 90, 450)), ("curve", ring(0.28, 0.74, 0.28, 0.26, -90, 270))],
        [("curve", ring(0.28, 0.29, 0.28, 0.29, 90, 450)), ("curve", ring(0.28, 0.78, 0.2, 0.21, -90, 270))],
        [("curve", [(0.6, 0.05), (0.2, 0), (0.05, 0.2), (0.5, 0.7), (0.3, 1), (0.05, 0.8), (0.3, 0.5), (0.6, 0.05)])],
    ],
    9: [
        [("curve", ring(0.26, 0.27, 0.26, 0.27, -20, 340)), ("line", [(0.52, 0.2), (0.48, 1)])],
        [("curve", ring(0.28, 0.28, 0.26, 0.27, -20, 340)), ("curve", [(0.54, 0.2), (0.5, 0.85), (0.3, 1), (0, 0.9)])],
        [("curve", [(0.5, 0.1), (0.2, 0), (0, 0.3), (0.3, 0.5), (0.5, 0.15), (0.42, 0.6), (0.2, 1)])],
        [
            ("curve", [(0.06, 0.02), (0, 0.3), (0.22, 0.48), (0.46, 0.28), (0.5, 0)]),
            ("curve", [(0.5, 0), (0.52, 0.7), (0.35, 1), (0.05, 0.85)]),
        ],
        [("curve", ring(0.26, 0.22, 0.24, 0.22, -20, 340)), ("curve", [(0.5, 0.2), (0.55, 0.8), (0.25, 1), (0, 0.8)])],
        [("curve", ring(0.26, 0.2, 0.22, 0.2, -20, 340)), ("curve", [(0.5, 0.2), (0.6, 0.85), (0.5, 1), (0, 0.98)])],
        [
            ("curve", [(0.5, 0.1), (0.2, 0), (0, 0.25), (0.3, 0.4), (0.52, 0.2)]),
            ("line", [(0.5, 0.1), (0.55, 1), (0, 0.95)]),
        ],
    ],
}


def stroke_digit(label: int, random: Random) -> Floats:
    """Draw one digit.

    Returns: float32 [ROOM, ROOM], 0 to 1, ink white on black.
    """
    shapes = SHAPES[label]
    return _drawn(shapes[int(random.integers(len(shapes)))], random)


def _drawn(strokes: Sequence[Stroke], random: Random) -> Floats:
    slant, breadth = random.uniform(-0.15, 0.35), random.uniform(0.45, 1.4)
    angle = np.deg2rad(random.uniform(-8, 8))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place = turn @ np.array([[breadth, -slant], [0.0, 1.0]])
    pen = max(2, round(HEIGHT * random.uniform(0.05, 0.2)))
    ink = np.zeros((ROOM, ROOM), np.uint8)
    for kind, points in strokes:
        moved = (np.array(points) - (0.3, 0.5)) @ place.T + random.normal(0, JITTER, (len(points), 2))
        moved += random.normal(0, APART, 2)
        path = _curve(moved) if kind == "curve" else moved
        pixels = np.rint(16 * (path * HEIGHT + ROOM / 2)).astype(np.int32)
        cv2.polylines(ink, [pixels], False, 255, pen, cv2.LINE_AA, 4)
    return (ink.astype(np.float32) / 255).astype(np.float32)


def _curve(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Catmull-Rom curve through the points, which goes as each point's neighbours lie to each other."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, STEPS, endpoint=False)[:, None]
    parts = []
    for before, start, stop, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        bend = 2 * before - 5 * start + 4 * stop - after
        twist = 3 * start - before - 3 * stop + after
        parts.append(0.5 * (2 * start + (stop - before) * t + bend * t**2 + twist * t**3))
    return np.concatenate([*parts, points[-1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a picture of twenty of each digit."""
    parser = argparse.ArgumentParser(prog="python -m tools.stroke_digits", description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(options.seed)
    rows = [np.hstack([stroke_digit(label, random) for _ in range(20)]) for label in SHAPES]
    Image.fromarray(np.rint(255 * (1 - np.vstack(rows))).astype(np.uint8)).save(options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
