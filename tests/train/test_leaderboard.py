"""The leaderboard's page, made of reports as runs write them."""

import dataclasses
import json

import pytest

from inkling.train import config as configs
from tools import leaderboard

MNIST = "00" * 32


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A function that writes a run's `config.json` and `report.json`, as of a run on MNIST."""

    def write(name, config, *, accuracy, seconds=100.0, data=MNIST, **changes):
        report = {
            "step": 200, "timed_steps": 200, "training_seconds": seconds, "hardware": "a machine", "parameters": 1000,
            "git_revision": "0123456789abcdef", "test": {"accuracy": accuracy, "num_examples": 10_000},
        } | changes  # fmt: skip
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report))
        settings = {"train": config.to_json(), "job": {"data_sha256": data}}
        (folder / "config.json").write_text(json.dumps(settings))

    class Mnist:
        checksum = staticmethod(lambda: MNIST)

    monkeypatch.setattr(leaderboard.data, "load", Mnist)  # the real one takes seconds to check
    return write


def page_of(tmp_path):
    leaderboard.main([str(tmp_path / "runs"), "-o", str(tmp_path / "page.md")])
    return (tmp_path / "page.md").read_text()


def test_seeds_are_one_entry_with_the_error_of_their_mean(runs, tmp_path):
    quick = configs.quick()
    for seed, accuracy in enumerate([0.9950, 0.9960, 0.9970]):
        runs(f"q{seed}", dataclasses.replace(quick, seed=seed), accuracy=accuracy, seconds=90.0 + 10 * seed)
    runs("slow", dataclasses.replace(quick, epochs=9), accuracy=0.9955, seconds=200.0)
    runs("poor", dataclasses.replace(quick, epochs=1), accuracy=0.98, seconds=10.0)
    first, *_ = page_of(tmp_path).partition("## Images per second")
    rows = [line for line in first.splitlines() if "| a machine |" in line]
    assert rows == [
        "| 100.0 ± 5.8 | a machine | 99.600 ± 0.058 % | `python -m train` | 0, 1, 2 | 0123456789ab |",
        "| 200.0 ± – | a machine | 99.550 ± – % | `python -m train --epochs 9` | 0 | 0123456789ab |",
    ]


def test_images_per_second_are_those_of_the_steps_that_were_timed(runs, tmp_path):
    runs("whole", configs.quick(), accuracy=0.99)
    runs("gone-on", dataclasses.replace(configs.quick(), epochs=9), accuracy=0.999, timed_steps=100, seconds=25.0)
    page = page_of(tmp_path)
    assert "| 512 ± – | a machine | 1,000 | float32 | `python -m train --epochs 9` |" in page
    assert "| 256 ± – | a machine | 1,000 | float32 | `python -m train` |" in page
    assert "No entry yet" in page.partition("## Images per second")[0]  # its seconds are not those of all steps


def test_what_cannot_enter_is_left_out_with_the_reason(runs, tmp_path, capsys):
    runs("other-data", configs.quick(), accuracy=0.99, data="ff" * 32)
    runs("old", configs.quick(), accuracy=0.99, hardware=None)
    report = tmp_path / "runs/old/report.json"
    values = json.loads(report.read_text())
    del values["hardware"]
    report.write_text(json.dumps(values))
    assert page_of(tmp_path).count("No entry yet") == 3
    told = capsys.readouterr().err
    assert "other-data is left out: it was trained on other data" in told
    assert "old is left out: its report.json has no hardware: an earlier version wrote it" in told


def test_the_command_is_what_makes_such_a_run():
    config = dataclasses.replace(
        configs.best(),
        epochs=20,
        seed=3,
        dropout=(0.1, 0.2),
        onednn=None,
        deterministic=True,
        augmentation=dataclasses.replace(configs.POLICIES["original"], vertical_flip=False),
    )
    assert leaderboard.command(config) == (
        "python -m train --recipe best --policy original --epochs 20 --dropout 0.1 0.2 --onednn None --deterministic "
        "--no-vertical-flip"
    )


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(SystemExit, match="gone is no folder; give folders of runs"):
        leaderboard.main([str(tmp_path / "gone")])
