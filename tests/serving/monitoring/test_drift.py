"""Drift: distances from the model card's reference statistics rise where images change, and stay where they do not."""

import json
import re
import urllib.request

import numpy as np
import pytest
from PIL import Image, ImageFilter

import inkling.train.data as train_data
from inkling.client import Client
from inkling.serving.lifecycle.model_card import read_reference
from inkling.serving.monitoring import drift
from inkling.serving.monitoring.drift import DriftWindow, Histogram, distance
from inkling.train.publishing import reference
from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess

SMALL, ACTED_UPON = 0.1, 0.25  # of a population stability index, by custom
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    """MNIST's test images, mixed: its two halves are of different writers, a drift of 0.25 by their ink."""
    return RNG.permutation(train_data.load().test_images)


@pytest.fixture(scope="module")
def probabilities(digits):
    """Of a model that is nearly always right and sure."""
    values = RNG.dirichlet([0.01] * 10, len(digits))
    return values.astype(np.float32)


def blurred(images):
    return np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2))) for image in images])


def outputs_of(probabilities):
    return {"classes": probabilities.argmax(axis=1), "probabilities": probabilities}


def write_card(folder, card):
    (folder / "model_card.json").write_text(card if isinstance(card, str) else json.dumps(card))
    return str(folder)


@pytest.fixture(scope="module")
def known(digits, probabilities, tmp_path_factory):
    """The reference as a server reads it."""
    statistics = reference.reference_statistics(digits[:5000], probabilities[:5000])
    found = read_reference(write_card(tmp_path_factory.mktemp("version"), {"reference": statistics}))
    assert found is not None
    return found


def distances(known, images, probabilities, monkeypatch):
    monkeypatch.setattr(drift, "COST_SHARE", 1e9)
    window = DriftWindow(known, 1000)
    for start in range(0, len(images), drift.MAX_ROWS):
        part = slice(start, start + drift.MAX_ROWS)
        window.observe({"images": images[part]}, outputs_of(probabilities[part]))
    return {found.feature: found for found in window.distances()}


def test_both_packages_compute_the_same_features(digits):
    ours, theirs = reference.image_features(digits[:200]), drift.image_features(digits[:200])
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])


def test_clean_digits_stay(known, digits, probabilities, monkeypatch):
    found = distances(known, digits[6000:7000], probabilities[6000:7000], monkeypatch)
    assert found.keys() == {"ink", "rim", "height", "width", "sharpness", "confidence", "class"}
    assert all(each.stability_index < SMALL for each in found.values()), found
    assert all(each.kolmogorov_smirnov < SMALL for name, each in found.items() if name != "class"), found
    assert found["class"].kolmogorov_smirnov is None


@pytest.mark.parametrize(
    ("change", "features"),
    [
        (lambda images: 255 - images, ["ink", "rim", "sharpness", "width"]),
        (blurred, ["sharpness"]),
        (lambda images: np.roll(images, 9, axis=1), ["rim"]),
        (lambda images: images // 4, ["ink", "height"]),
    ],
    ids=["inverted", "blurred", "cut off", "faint"],
)
def test_changed_digits_are_far_from_the_reference(known, digits, probabilities, monkeypatch, change, features):
    found = distances(known, change(digits[6000:7000]), probabilities[6000:7000], monkeypatch)
    assert all(found[name].stability_index > ACTED_UPON for name in features), found
    assert all(found[name].kolmogorov_smirnov > SMALL for name in features), found


def test_a_class_that_comes_too_often(known, digits, probabilities, monkeypatch):
    sevens = np.tile(np.eye(10, dtype=np.float32)[7], [1000, 1])
    assert distances(known, digits[6000:7000], sevens, monkeypatch)["class"].stability_index > ACTED_UPON


def test_the_distances_are_their_formulas():
    histogram = Histogram(np.array([0.5]), np.array([499, 499]), is_ordered=True)
    found = distance("x", histogram, np.array([749, 249]))
    # 750 and 250 of 999, each with the half that is added; expected 0.5 and 0.5.
    p = np.array([749.5, 249.5]) / 999
    assert found.stability_index == pytest.approx(((p - 0.5) * np.log(p / 0.5)).sum())
    assert found.kolmogorov_smirnov == pytest.approx(749 / 998 - 0.5)
    assert distance("x", histogram, np.array([499, 499])).stability_index == 0


def test_a_window_forgets_what_is_old(known, digits, probabilities, monkeypatch):
    monkeypatch.setattr(drift, "COST_SHARE", 1e9)
    window = DriftWindow(known, 200)
    assert list(window.distances()) == []
    for images in (255 - digits[:256], digits[:256]):
        for start in range(0, 256, 64):
            window.observe({"images": images[start : start + 64]}, {})
    assert window.num_examples() == 200
    assert max(found.stability_index for found in window.distances()) < ACTED_UPON


def test_little_time_goes_into_it(known, digits, probabilities):
    window = DriftWindow(known, 10_000)
    for _ in range(100):
        window.observe({"images": digits[:1000]}, outputs_of(probabilities[:1000]))
    assert 0 < window.num_examples() < 100 * drift.MAX_ROWS


@pytest.mark.parametrize(
    "inputs",
    [{}, {"images": np.zeros([3, 28, 28], np.float32)}, {"images": np.zeros([0, 28, 28], np.uint8)},
     {"images": np.zeros([3, 0, 28], np.uint8)}, {"images": np.zeros([1, 5000, 5000], np.uint8)},
     {"image_bytes": np.array([b"x"], object)}],
)  # fmt: skip
def test_other_requests_are_let_be(known, inputs):
    window = DriftWindow(known, 100)
    window.observe(inputs, {"y": np.zeros(3), "classes": np.array([b"a"], object), "probabilities": np.zeros([0, 10])})
    assert window.num_examples() == 0


@pytest.mark.parametrize(
    "card",
    ["", "1", "{", {"reference": 1}, {"reference": {"features": {"ink": {"edges": [1, 0], "counts": [1, 1, 1]}}}},
     {"reference": {"features": {"ink": {"edges": [1], "counts": [1], "ordered": True}}}}, "[" * 100_000],
)  # fmt: skip
def test_a_card_that_makes_no_sense_is_told_and_no_more(tmp_path, caplog, card):
    assert read_reference(write_card(tmp_path, card)) is None
    assert "no reference statistics can be read" in caplog.text


def test_a_version_without_statistics_is_not_watched(tmp_path, caplog):
    assert read_reference(str(tmp_path)) is None
    assert read_reference(write_card(tmp_path, {"metrics": {}})) is None
    assert caplog.text == ""


@pytest.mark.process
def test_the_gauges_of_a_served_model(digit_models, tmp_path):
    """Clean digits stay, inverted and blurred ones are seen."""
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = [f"--model_base_path={digit_models}/mnist", "--model_name=mnist", f"--monitoring_config_file={config}"]
    with ServerProcess(*flags, "--drift_window=256") as server, Client(server.address) as client:

        def gauges(name):
            with urllib.request.urlopen(f"{server.rest_url}/metrics", timeout=PATIENCE_S) as response:
                page = response.read().decode()
            lines = re.findall(
                rf'^inkling_serving_drift_{name}{{.*version="1"(?:,feature="(.*)")?}} (\S+)$', page, re.M
            )
            return {feature: float(value) for feature, value in lines}

        def send_until(images, condition):
            def ask():
                client.predict(images[RNG.integers(0, len(images), 64)], as_is=True)
                return gauges("examples")[""] == 256 and condition(gauges("stability_index"))

            wait_until(ask, lambda: gauges("stability_index"))

        images = train_data.load().test_images[:2000]  # of the writers that the model's reference is of
        send_until(images, lambda found: max(found.values()) < ACTED_UPON)
        send_until(255 - images, lambda found: found["rim"] > ACTED_UPON)
        send_until(images, lambda found: found["rim"] < SMALL)
        send_until(blurred(images), lambda found: found["sharpness"] > ACTED_UPON)
        assert gauges("kolmogorov_smirnov")["sharpness"] > SMALL
