"""Pictures in colour all the way: a folder of them, trained on by Ray's workers, swept over, served, asked for."""

import numpy as np
import pytest
from PIL import Image

from inkling.client import Client
from tests.server_process import ServerProcess
from tests.train.ray_processes import SMALL, Job

pytestmark = [pytest.mark.process, pytest.mark.slow]

SIDE = 16
# As light as one another, so that a model of grey images could not tell them apart.
COLOURS = {"red": (255, 0, 0), "green": (0, 130, 0), "blue": (100, 60, 255)}


def picture(colour, random):
    """A disc somewhere on black, with noise."""
    y, x = np.ogrid[:SIDE, :SIDE]
    centre = random.uniform(5, SIDE - 5, 2)
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 16
    pixels = disc[..., None] * np.array(COLOURS[colour]) + random.uniform(0, 20, (SIDE, SIDE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for part, count in (("train", 200), ("test", 30)):
        for colour in COLOURS:
            place = root / "discs" / part / colour
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(picture(colour, random)).save(place / f"{number}.png")
    return root


def test_a_model_of_colours_is_trained_on_two_workers_and_served(folder):
    quick = ["--data", folder / "discs", *SMALL, "--epochs", "4", "--learning-rate", "0.01", "--dropout", "0", "0"]
    job = Job(
        folder, *quick, "--num-workers", "2", "--cpus-per-worker", "1", "--name", "discs", "--model-name", "discs"
    )
    status, output = job.wait()
    assert status == 0, output
    random = np.random.default_rng(1)
    images = np.stack([picture(colour, random) for colour in COLOURS])
    with (
        ServerProcess(f"--model_base_path={folder}/models/discs", "--model_name=discs") as server,
        Client(server.address, model="discs") as client,
    ):
        assert client.predict(images).classes.tolist() == [sorted(COLOURS).index(colour) for colour in COLOURS]


def test_a_sweep_takes_pictures_in_colour(folder):
    over = ["--epochs", "1", "--over", "learning_rate=0.003,0.01"]
    job = Job(folder, "sweep", "--data", folder / "discs", *SMALL, *over)
    status, output = job.wait()
    assert status == 0, output
