"""Runs the command line, in this process or in one of its own, and a behaviour of servers for it."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from inkling.client.cli import main
from tests.client.stub_server import predict_response

ROOT = Path(__file__).parents[3]


def run(capsys, *arguments):
    """(exit status, output, errors)"""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "client", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)


def seven(request, context):
    """Every image is a 7, surely."""
    rows = request.inputs["images"].tensor_shape.dim[0].size
    probabilities = np.full((rows, 10), 0.001, np.float32)
    probabilities[:, 7] = 0.991
    return predict_response(request, classes=np.full(rows, 7), probabilities=probabilities)
