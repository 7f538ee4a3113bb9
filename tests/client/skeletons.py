"""Pen strokes from a digit's image: thinned to lines one pixel wide (Zhang and Suen, 1984), traced from end to end."""

import numpy as np
from PIL import Image

FINER = 4  # the skeleton is found at this many times the image's size, so that its lines are smooth
SHORTEST = 3 * FINER  # in pixels of that size; what thinning leaves at corners is shorter
AROUND = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]  # clockwise from above


def strokes_of(image, *, level=110):
    """The digit as strokes, each a list of (x, y) in pixels of `image`."""
    large = Image.fromarray(image).resize([FINER * side for side in image.shape[::-1]], Image.Resampling.BICUBIC)
    left = {(int(y), int(x)) for y, x in np.argwhere(skeleton(np.asarray(large) > level))}
    strokes = []
    while left:
        ends = [pixel for pixel in left if len(_neighbours(pixel, left)) == 1]
        stroke = _trace(min(ends or left), left)
        if len(stroke) >= SHORTEST or not strokes:
            points = [((x + 0.5) / FINER, (y + 0.5) / FINER) for y, x in stroke]
            strokes.append([*points[::FINER], points[-1]])
    return strokes


def skeleton(mask):
    """A mask thinned until only lines one pixel wide are left."""
    thin = np.pad(mask, 1).astype(np.uint8)
    while True:
        before = thin.sum()
        for first_half in (True, False):
            thin[_removable(thin, first_half)] = 0
        if thin.sum() == before:
            return thin[1:-1, 1:-1].astype(bool)


def _removable(thin, first_half):
    around = [np.roll(thin, (-dy, -dx), axis=(0, 1)) for dy, dx in AROUND]
    count = sum(each.astype(int) for each in around)
    turns = sum(((around[i] == 0) & (around[(i + 1) % 8] == 1)).astype(int) for i in range(8))
    up, right, down, left = around[0], around[2], around[4], around[6]
    one, other = (up & right & down, right & down & left) if first_half else (up & right & left, up & down & left)
    return (thin == 1) & (count >= 2) & (count <= 6) & (turns == 1) & (one == 0) & (other == 0)


def _neighbours(pixel, pixels):
    return [(pixel[0] + dy, pixel[1] + dx) for dy, dx in AROUND if (pixel[0] + dy, pixel[1] + dx) in pixels]


def _trace(start, left):
    """Take pixels off `left` along a line, straight on where it branches; ends where no neighbour is left."""
    path = [start]
    left.discard(start)
    while found := _neighbours(path[-1], left):
        back = path[-3:][0]
        ahead = (path[-1][0] - back[0], path[-1][1] - back[1])

        def bend(pixel, ahead=ahead):
            step = (pixel[0] - path[-1][0], pixel[1] - path[-1][1])
            return -(step[0] * ahead[0] + step[1] * ahead[1]) + 0.1 * (abs(step[0]) + abs(step[1]))

        path.append(min(found, key=bend))
        left.discard(path[-1])
    return path
