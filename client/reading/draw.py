"""Draws a reading into its picture: a box around each digit and, above it, what it was read as."""

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from .result import ReadDigit, Reading

SURE, DOUBTFUL, NO_DIGIT = (23, 128, 61), (202, 112, 0), (200, 30, 45)
LEAST_SIDE = 480  # smaller pictures are enlarged, so that the labels can be read


def drawn(reading: "Reading") -> Image.Image:
    """The picture with its reading; green for sure, amber for doubtful, red for no digit."""
    picture = Image.fromarray(reading.picture)
    scale = max(1, round(LEAST_SIDE / max(picture.size)))
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    heights = sorted(digit.box.bottom - digit.box.top for digit in reading.digits)
    height = heights[len(heights) // 2] * scale if heights else 40
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(11, min(48, round(height * 0.36))))
    for digit in reading.digits:
        _draw_digit(draw, digit, font, scale=scale, stroke=max(1, round(height / 45)), width=picture.width)
    return picture


def _draw_digit(
    draw: ImageDraw.ImageDraw,
    digit: "ReadDigit",
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    *,
    scale: int,
    stroke: int,
    width: int,
) -> None:
    colour = NO_DIGIT if not digit.is_digit else DOUBTFUL if digit.doubtful else SURE
    box = digit.box
    left, top, right, bottom = (edge * scale for edge in (box.left, box.top, box.right, box.bottom))
    draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=stroke)
    label = digit.text
    text_left, text_top, text_right, text_bottom = draw.textbbox((0, 0), label, font=font)
    pad = max(2, stroke)
    label_width, label_height = text_right - text_left + 2 * pad, text_bottom - text_top + 2 * pad
    # Above the box; inside at the top of the picture, and never past its right edge.
    x = min(left, width - label_width)
    y = max(top - label_height, 0)
    draw.rectangle((x, y, x + label_width, y + label_height), fill=colour)
    draw.text((x + pad - text_left, y + pad - text_top), label, fill="white", font=font)
