"""What the reader's tests make up: drawn strokes, encoded pictures, candidates without pixels."""

import io

import numpy as np
from PIL import Image, ImageDraw

from inkling.client.reading.page import Box, Candidate

ONE, OTHER = (60, 40, 60, 120), (140, 40, 140, 120)  # two upright strokes


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def strokes(*lines, size=(240, 160), width=10, ink="black", paper="white"):
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    for line in lines:
        draw.line(line, fill=ink, width=width)
    return image


def candidate(start, stop, number, *, aspect=0.7, height=1.0, solidity=0.3):
    return Candidate(start, stop, Box(10 * start, 0, 10 * stop, 20), number, aspect, height, solidity)


def sure_of(label, probability=0.999):
    probabilities = np.full(10, (1 - probability) / 9)
    probabilities[label] = probability
    return probabilities
