from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from inkling.train import checkpoint
from inkling.train.checkpoint import Checkpoint, DamagedCheckpoint
from inkling.train.storage import RunFolder


@pytest.fixture(params=["folder", "file://", "memory://"])
def run(request, tmp_path):
    storage = str(tmp_path) if request.param == "folder" else f"{request.param}{tmp_path}"
    return RunFolder(storage, "run")


def make(step, **metrics):
    arrays = {"model/kernel": np.full((3, 2), step, np.float32), "optimizer/000/iteration": np.array(step)}
    return Checkpoint(step, arrays, metrics, [{"step": step, "loss": 0.5}])


def test_what_was_saved_is_loaded(run):
    checkpoint.save(run, make(12, validation_accuracy=0.9))
    found, problems = checkpoint.latest(run)
    assert (found.step, found.metrics, found.history) == (12, {"validation_accuracy": 0.9}, [{"step": 12, "loss": 0.5}])
    assert problems == []
    for name, value in make(12).arrays.items():
        np.testing.assert_array_equal(found.arrays[name], value)
        assert found.arrays[name].dtype == value.dtype


def test_a_run_without_checkpoints_has_none(run):
    assert checkpoint.latest(run) == (None, [])
    assert checkpoint.best_step(run) is None


@pytest.mark.parametrize("file", ["state.npz", "metrics.jsonl", "checkpoint.json"])
@pytest.mark.parametrize("keep", [0, 20], ids=["emptied", "cut short"])
def test_the_one_before_a_damaged_checkpoint_is_used(run, file, keep):
    for step in (5, 10):
        checkpoint.save(run, make(step))
    path = f"{checkpoint.path_of(10)}/{file}"
    run.write(path, run.read(path)[:keep])
    found, problems = checkpoint.latest(run)
    assert found.step == 5
    assert len(problems) == 1 and "step_00000010" in problems[0]


def test_a_checkpoint_without_its_seal_does_not_exist(run):
    checkpoint.save(run, make(10))
    run.remove(f"{checkpoint.path_of(10)}/checkpoint.json")
    assert checkpoint.latest(run)[0] is None
    with pytest.raises(DamagedCheckpoint, match="step_00000010 is incomplete"):
        checkpoint.load(run, 10)


class Failing:
    """A file system whose first calls fail, as those of an object store in an outage do."""

    def __init__(self, filesystem, failures):
        self.filesystem, self.failures = filesystem, failures

    def __getattr__(self, name):
        if self.failures:
            self.failures -= 1
            raise OSError("AWS Error NETWORK_CONNECTION during PutObject operation")
        return getattr(self.filesystem, name)


def test_a_storage_that_fails_is_asked_again(tmp_path, caplog):
    run = RunFolder(f"file://{tmp_path}", "run")
    run.filesystem = Failing(run.filesystem, 2)
    run.write("a/b", b"content")
    assert run.read("a/b") == b"content"
    assert "NETWORK_CONNECTION during PutObject operation; trying again for 60 s" in caplog.text


def test_a_storage_that_goes_on_failing_is_named(tmp_path):
    run = RunFolder(f"file://{tmp_path}", "run", retry_s=1.5)
    run.filesystem = Failing(run.filesystem, 1000)
    with pytest.raises(OSError, match=r"run/a/b: AWS Error NETWORK_CONNECTION .* \(tried for 1.5 s\)"):
        run.write("a/b", b"content")


def test_a_file_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(tmp_path):
    run = RunFolder(str(tmp_path), "run", retry_s=0)
    for step in (5, 10):
        checkpoint.save(run, make(step))
    state = tmp_path / "run" / checkpoint.path_of(10) / "state.npz"
    state.unlink()
    state.mkdir()  # what no permission does to others, it does to root
    with pytest.raises(OSError, match=r"state\.npz"):
        checkpoint.latest(run)


def test_of_many_that_create_a_file_at_once_one_does(tmp_path):
    run = RunFolder(str(tmp_path), "run")
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: run.create_json("config.json", {"number": number}), range(8)))
    assert sum(done) == 1
    assert run.read_json("config.json") == {"number": done.index(True)}
    assert run.names("") == ["config.json"]


def test_what_is_there_is_not_created_again(run):
    assert run.create_json("config.json", {"number": 1}) is True
    assert run.create_json("config.json", {"number": 2}) is False
    assert run.read_json("config.json") == {"number": 1}


def test_the_last_ones_and_the_best_are_kept(run):
    for step, accuracy in ((1, 0.5), (2, 0.9), (3, 0.9), (4, 0.7)):
        checkpoint.save(run, make(step, validation_accuracy=accuracy))
    for step in (5, 6):
        checkpoint.save(run, make(step))
    checkpoint.prune(run, keep=2)
    assert checkpoint.steps(run) == [3, 5, 6]
    assert checkpoint.best_step(run) == 3


def test_damaged_ones_are_not_among_those_that_are_kept(run):
    for step in (10, 20, 30):
        checkpoint.save(run, make(step))
    run.write(f"{checkpoint.path_of(30)}/state.npz", b"half")
    checkpoint.remove_after(run, checkpoint.latest(run)[0].step)
    checkpoint.save(run, make(23))
    checkpoint.prune(run, keep=1)
    assert checkpoint.steps(run) == [23]


def test_objects_are_not_unpickled(run):
    with pytest.raises(ValueError, match="[Oo]bject arrays cannot be saved"):
        checkpoint.save(run, Checkpoint(1, {"x": np.array([{}])}, {}, []))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    run = RunFolder(str(tmp_path), "run")
    run.write("file", b"old")
    with pytest.raises(TypeError):
        run.write("file", "not bytes")
    assert run.read("file") == b"old"
    assert run.names("") == ["file"]


@pytest.mark.parametrize("name", ["", ".", "../other", "a/b", "x" * 101, "-x"])
def test_names_that_leave_the_storage_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is not usable"):
        RunFolder(str(tmp_path), name)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="storage 'nope://x' cannot be opened"):
        RunFolder("nope://x", "run")
