"""How many epochs fit a time: the arithmetic, and one measurement on this machine."""

import dataclasses

import pytest

from inkling.train import config as configs
from inkling.train import speed


@pytest.mark.parametrize(
    ("images_per_s", "minutes", "epochs", "said"),
    [
        (10_000, 5, 6, "all 6 epochs fit"),
        (850, 5, 3, "3 epochs fit 5 minutes"),
        (850, 6, 4, "4 epochs fit 6 minutes (about 5); --epochs 6 would take about 8"),
        (300, 5, 3, "3 epochs are the fewest, and take more than 5 minutes (about 11)"),
    ],
)
def test_as_many_epochs_as_fit(images_per_s, minutes, epochs, said):
    fitted, told = speed.fitted(configs.quick(), minutes=minutes, speed=images_per_s, num_examples=58_000)
    assert fitted.epochs == epochs and said in told
    assert dataclasses.replace(fitted, epochs=6, warmup_epochs=0.5) == configs.quick()


def test_what_belongs_to_the_epochs_shrinks_with_them():
    fitted, _ = speed.fitted(configs.best(), minutes=10, speed=900, num_examples=59_000)
    assert fitted.epochs == 7 and fitted.plain_epochs == 0
    assert 0 < fitted.warmup_epochs < configs.best().warmup_epochs


@pytest.mark.process
def test_a_machine_is_measured(small_config, digits, monkeypatch):
    assert 0 < speed.images_per_s(small_config, digits, num_threads=1) < 1e7
    monkeypatch.setattr(speed.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"could not be measured \(exit status 1\); give --epochs"):
        speed.images_per_s(small_config, digits, num_threads=1)
