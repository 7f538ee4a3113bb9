"""Promise 2 and 6: whatever is killed, a run ends with the bits of the run that nobody disturbed. Real processes."""

import signal

import numpy as np
import psutil
import pytest

from inkling.train import checkpoint
from inkling.train.storage import RunFolder
from tests.patience import PATIENCE_S, wait_until
from tests.train.ray_processes import SMALL, Job, checkpoint_steps

pytestmark = [pytest.mark.process, pytest.mark.slow]
TWO_WORKERS = ["--num-workers", "2", "--cpus-per-worker", "1", "--epochs", "10", "--no-publish"]
STEPS = 188
HARM_AT = 60  # between two checkpoints, in mid-epoch


@pytest.fixture(scope="module")
def start(digits_file):
    def start(folder, *arguments):
        return Job(folder, "--data", digits_file, *SMALL, *TWO_WORKERS, "--name", "run", *arguments)

    return start


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    status, output = start(folder).wait()
    assert status == 0, output
    return final(folder)


def final(folder):
    found, problems = checkpoint.latest(RunFolder(str(folder / "runs"), "run"))
    assert not problems
    return found


def assert_same_bits(found, expected):
    assert found.step == expected.step == STEPS
    for name, value in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], value, err_msg=name)
    losses = [[line["loss"] for line in run.history if "loss" in line] for run in (found, expected)]
    assert losses[0] == losses[1]


def wait_until_step(job, folder, step):
    def reached():
        assert job.process.poll() is None, job.output()
        return max(checkpoint_steps(folder / "runs/run"), default=0) >= step

    wait_until(reached, job.output)


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_lost_worker_costs_nothing_but_time(undisturbed, start, tmp_path, harm):
    job = start(tmp_path)
    wait_until_step(job, tmp_path, HARM_AT)
    workers = job.train_workers()
    assert len(workers) == 2
    workers[1].send_signal(harm)
    status, output = job.wait()
    assert status == 0, output
    assert "failed: " in output and "going on from step" in output
    assert_same_bits(final(tmp_path), undisturbed)


def test_workers_that_fail_too_often_end_the_run_with_their_error(start, tmp_path):
    job = start(tmp_path, "--max-failures", "0")
    wait_until_step(job, tmp_path, 7)
    job.train_workers()[0].kill()
    status, output = job.wait()
    assert status == 1
    assert "error: " in output and "--resume run" in output and "Traceback" not in output


def test_a_killed_driver_is_followed_by_a_second_start(undisturbed, start, tmp_path):
    job = start(tmp_path)
    wait_until_step(job, tmp_path, HARM_AT)
    job.kill()
    status, output = start(tmp_path).wait()
    assert status == 0, output
    assert "run run was begun before; going on" in output and "going on from step" in output
    assert_same_bits(final(tmp_path), undisturbed)


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(undisturbed, start, tmp_path, digits_file):
    job = start(tmp_path)
    wait_until_step(job, tmp_path, HARM_AT)
    family = psutil.Process(job.process.pid).children(recursive=True)
    job.process.send_signal(signal.SIGINT)
    status, output = job.wait()
    assert status == 130
    hint = output.rstrip().partition("stopped; go on with: python -m train ")[2]
    assert hint == "--resume run --num-workers 2 --cpus-per-worker 1"
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []
    step = checkpoint_steps(tmp_path / "runs/run")[-1]
    # Its newest checkpoint is cut short as well: the one before it must do.
    damaged = tmp_path / "runs/run" / checkpoint.path_of(step) / "state.npz"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    resumed = Job(tmp_path, *hint.split(), "--no-publish")
    status, output = resumed.wait()
    assert status == 0, output
    assert "damaged checkpoint passed over: " in output
    assert f"/runs/run/{checkpoint.path_of(step)}/state.npz does not match its checksum" in output
    assert_same_bits(final(tmp_path), undisturbed)
