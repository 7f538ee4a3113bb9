"""Draws labelled boxes into a picture: where each digit is and, above it, what it was read as."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .page import Box

Colour = tuple[int, int, int]  # RGB

LEAST_SIDE = 480  # px; smaller pictures are enlarged, so that the labels can be read
USUAL_HEIGHT = 40  # px of a digit, for the size of the label where there is none
LABEL_HEIGHT, SMALLEST_LABEL, LARGEST_LABEL = 0.36, 11, 48  # of the digits' height; px
NOTEBOOK_SIDE = 1000  # px of a picture in a notebook, which is kept with it
BOXES_LINE = 1 / 45  # of the digits' height


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One box to draw."""

    box: Box
    label: str
    colour: Colour


def draw_boxes(picture: NDArray[np.uint8], boxes: Sequence[LabelledBox]) -> Image.Image:
    """Draw boxes into a picture.

    Args:
        picture: uint8 [height, width, 3] RGB.

    Returns: the picture with the boxes, a whole number of times as large if it is small.
    """
    image = Image.fromarray(picture)
    scale = max(1, round(LEAST_SIDE / max(image.size)))
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    heights = sorted(each.box.bottom - each.box.top for each in boxes)
    height = heights[len(heights) // 2] * scale if heights else USUAL_HEIGHT
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(SMALLEST_LABEL, min(LARGEST_LABEL, round(height * LABEL_HEIGHT))))
    for each in boxes:
        _draw_box(draw, each, font, scale=scale, stroke=max(1, round(height * BOXES_LINE)), width=image.width)
    return image


def _draw_box(
    draw: ImageDraw.ImageDraw,
    labelled: LabelledBox,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    *,
    scale: int,
    stroke: int,
    width: int,
) -> None:
    box, label, colour = labelled.box, labelled.label, labelled.colour
    left, top, right, bottom = (edge * scale for edge in (box.left, box.top, box.right, box.bottom))
    draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=stroke)
    text_left, text_top, text_right, text_bottom = draw.textbbox((0, 0), label, font=font)
    pad = max(2, stroke)
    label_width, label_height = text_right - text_left + 2 * pad, text_bottom - text_top + 2 * pad
    # Above the box; inside at the top of the picture, and never past its right edge.
    x = min(left, width - label_width)
    y = max(top - label_height, 0)
    draw.rectangle((x, y, x + label_width, y + label_height), fill=colour)
    draw.text((x + pad - text_left, y + pad - text_top), label, fill="white", font=font)


def notebook_html(picture: Image.Image, text: str) -> str:
    """A picture, shrunk to what a notebook shows, with a text below it."""
    picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{encoded}" alt=""><pre>{html.escape(text)}</pre>'
