"""How a run is begun, gone on with and opened again; without training."""

import dataclasses
import json

import numpy as np
import pytest

from inkling.train import runs
from inkling.train.config import JobConfig
from inkling.train.runs import RunError


@pytest.fixture
def job(digits_file, tmp_path):
    return JobConfig(name="run", storage=str(tmp_path / "runs"), data=digits_file)


def begin(config, job):
    told = []
    return runs.begin(config, job, lambda message: told.append(message.text)), told


def edit_config(run, edit):
    stored = run.folder.read_json("config.json")
    edit(stored["job"])
    run.folder.write_json("config.json", stored)


def as_version_0_1_wrote_it(stored):
    del stored["held_out_sha256"]


def of_another_split(stored):
    stored["held_out_sha256"] = "0" * 64


def test_a_run_is_begun_once_and_then_goes_on(small_config, job):
    run, told = begin(small_config, job)
    assert told == [f"run run: recipe quick, 2 epochs, files in {run.folder}/"]
    written = run.folder.read("config.json")
    assert len(json.loads(written)["job"]["held_out_sha256"]) == 64
    again, told = begin(small_config, job)
    assert told[0] == "run run was begun before; going on"
    assert (again.config, again.job, again.folder.read("config.json")) == (run.config, run.job, written)


@pytest.mark.parametrize("edit", [as_version_0_1_wrote_it, of_another_split])
def test_a_run_that_holds_other_images_out_does_not_go_on(small_config, job, edit):
    run, _ = begin(small_config, job)
    edit_config(run, edit)
    for resumed in (job, dataclasses.replace(job, resume="run")):
        with pytest.raises(RunError, match=r"run 'run' was begun by .*`python -m train publish run --storage .*--name"):
            begin(small_config, resumed)
    assert len(runs.reopen("run", job.storage).dataset.train_labels) == 1000  # what the advice needs


def test_a_run_that_holds_nothing_out_goes_on_whoever_began_it(small_config, job):
    config = dataclasses.replace(small_config, validation_size=0)
    run, _ = begin(config, job)
    edit_config(run, as_version_0_1_wrote_it)
    again, told = begin(config, job)
    assert told[0] == "run run was begun before; going on" and again.config == config


def test_a_seed_holds_out_the_images_that_its_run_wrote_down(small_config, job):
    one, _ = begin(small_config, job)
    two, _ = begin(dataclasses.replace(small_config, seed=1), dataclasses.replace(job, name="two"))
    sums = [run.folder.read_json("config.json")["job"]["held_out_sha256"] for run in (one, two)]
    assert sums[0] != sums[1]
    held = one.dataset.held_out(small_config.validation_size, small_config.seed)
    assert not np.array_equal(held, two.dataset.held_out(small_config.validation_size, 1))


def test_too_many_held_out_images_are_refused_before_the_run_is_begun(small_config, job, tmp_path):
    with pytest.raises(ValueError, match="validation_size=1000 leaves nothing to train on"):
        begin(dataclasses.replace(small_config, validation_size=1000), job)
    assert not (tmp_path / "runs").exists()


def test_an_earlier_run_is_opened_with_its_own_settings_and_data(small_config, job, digits):
    begin(small_config, dataclasses.replace(job, model_name="letters"))
    run = runs.reopen("run", job.storage)
    assert run.config == small_config and run.job.model_name == "letters"
    np.testing.assert_array_equal(run.dataset.train_images, digits.train_images)
    edit_config(run, lambda stored: stored.update(data=None))
    with pytest.raises(RunError, match="MNIST is not what run 'run' was trained on any more"):
        runs.reopen("run", job.storage)


def test_a_new_run_is_fitted_once_and_goes_on_as_it_was(small_config, job):
    def fit(config, dataset):
        assert len(dataset.train_labels) == 1000
        return dataclasses.replace(config, epochs=1)

    chosen = frozenset({"epochs"})
    run = runs.begin(small_config, job, lambda message: None, by_machine=chosen, fit=fit)
    assert run.config.epochs == 1 and run.folder.read_json("config.json")["train"]["epochs"] == 1
    again = runs.begin(small_config, job, lambda message: None, by_machine=chosen, fit=lambda *_: pytest.fail("again"))
    assert again.config == run.config
    resumed, _ = begin(small_config, dataclasses.replace(job, resume="run"))
    assert resumed.config == run.config


def test_a_run_without_a_checkpoint_can_be_begun_anew(small_config, job):
    begin(small_config, job)
    other = dataclasses.replace(small_config, epochs=3)
    with pytest.raises(RunError, match="begun with other settings .*it has no checkpoint, so --begin-anew forgets it"):
        begin(other, job)
    anew = dataclasses.replace(job, begin_anew=True)
    run, _ = begin(other, anew)
    assert run.config.epochs == 3
    run.folder.write("checkpoints/step_00000001/checkpoint.json", b"{}")
    with pytest.raises(RunError, match="has checkpoints, which --begin-anew would leave"):
        begin(small_config, anew)


def test_how_the_data_were_read_is_kept(small_config, job):
    run, _ = begin(small_config, dataclasses.replace(job, invert=True))
    assert runs.reopen("run", job.storage).dataset.checksum() == run.dataset.checksum()


def test_a_run_of_version_0_2_goes_on_by_the_kernels_that_it_had(small_config, job):
    run, _ = begin(small_config, job)
    stored = run.folder.read_json("config.json")
    del stored["train"]["onednn"]
    run.folder.write_json("config.json", stored)
    again, _ = begin(small_config, dataclasses.replace(job, resume="run"))
    assert again.config == dataclasses.replace(small_config, onednn=None)
