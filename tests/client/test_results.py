"""Results as text and as notebooks show them: what a server wrote is shown, and never obeyed or taken for HTML."""

import numpy as np
import pytest

from inkling.client import (
    Classification,
    ClassScore,
    InvalidInput,
    ModelMetadata,
    ModelStatus,
    Outputs,
    Prediction,
    Signature,
    TensorSpec,
    VersionStatus,
)

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202e<b>"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b1m\u202e<b>"
SPEC = {HOSTILE: TensorSpec("uint8", (-1, 28, 28))}


def outputs():
    found = Outputs(model_name=HOSTILE, version=1, signature="s")
    found[HOSTILE] = np.zeros(1)
    return found


RESULTS = [
    Prediction(np.array([1, 2]), np.full((2, 10), 0.1, np.float32), HOSTILE, 1),
    Classification((ClassScore(HOSTILE, 1.0),), "m", 1),
    ModelMetadata(HOSTILE, 1, {HOSTILE: Signature(HOSTILE, "predict", SPEC, SPEC)}),
    ModelStatus("mnist", (VersionStatus(1, "END", HOSTILE),)),
    VersionStatus(1, "END", HOSTILE),
    outputs(),
    InvalidInput(HOSTILE),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_control_characters_of_a_server_are_shown(result):
    text = str(result)
    assert SHOWN in text and all(one.isprintable() or one == "\n" for one in text)


def test_an_error_keeps_the_servers_own_words():
    assert InvalidInput(HOSTILE).details == HOSTILE
    assert str(InvalidInput("größer als 3 µm\nzu groß")) == "größer als 3 µm zu groß"


@pytest.mark.parametrize("result", [RESULTS[0], RESULTS[2]], ids=["prediction", "metadata"])
def test_a_notebook_shows_a_table(result):
    html = result._repr_html_()
    assert html.startswith("<table>") and html.count("<tr>") == 3 and "<b>" not in html and "\x1b" not in html
    assert "&lt;b&gt; version 1</caption>" in html


def test_a_notebook_shows_the_first_predictions_of_many():
    html = Prediction(np.zeros(300, int), np.full((300, 10), 0.1, np.float32), "mnist", 1)._repr_html_()
    assert "and 280 more, mnist version 1" in html and html.count("<tr>") == 21
