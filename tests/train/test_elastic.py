"""A run on a cluster that grows and shrinks: the same run as on one machine that does not change. Real nodes."""

import dataclasses
import re

import pytest

from inkling.train import checkpoint
from inkling.train.storage import RunFolder
from tests.patience import wait_until
from tests.train.ray_processes import ENVIRONMENT, SMALL, TOKEN, Job, cluster
from tests.train.test_ray import assert_same_run

pytestmark = [pytest.mark.process, pytest.mark.slow]

# Wide enough for the run to last while nodes come and go; Adam turns rounding into steps of the learning rate's size.
RUN = [*SMALL, "--widths", "16", "16", "16", "16", "--dropout", "0", "0", "--epochs", "100", "--learning-rate", "1e-5"]


def last(folder, name):
    return checkpoint.latest(RunFolder(str(folder / "runs"), name))[0]


def test_a_run_takes_nodes_that_come_and_gives_up_those_that_leave(digits_file, tmp_path):
    status, output = Job(tmp_path, "--in-process", "--data", digits_file, *RUN, "--no-publish", "--name", "one").wait()
    assert status == 0, output
    with cluster(tmp_path, num_cpus=1) as nodes:
        elastic = ["--address", nodes.address, "--num-workers", "1:3", "--cpus-per-worker", "1", "--no-publish"]
        job = Job(
            tmp_path, "--data", digits_file, *RUN, *elastic, "--name", "elastic", environment={**ENVIRONMENT, **TOKEN}
        )
        job.wait_for("epoch [1-9]")
        wait_until(lambda: nodes.requested() == 3 * [{"CPU": 1}])  # all that it could take, while it trains on one
        nodes.join(num_cpus=1)
        job.wait_for("paused at step .*: the cluster has changed\nRay: 2 workers with 1 CPU each")
        job.wait_for(r"Ray: 2 workers(.*\n)+epoch ")
        nodes.nodes[-1].process.terminate()  # as the kubelet does when the pod's node is drained
        job.wait_for(r"Ray: 2 workers(.*\n)+Ray: 1 worker with 1 CPU each")
        status, output = job.wait()
        wait_until(lambda: nodes.requested() == [])
    assert status == 0, output
    pauses = [int(step.replace(",", "")) for step in re.findall(r"paused at step ([\d,]+)", output)]
    resumed = [int(step.replace(",", "")) for step in re.findall(r"going on from step ([\d,]+)", output)]
    assert len(pauses) == 2 and resumed == pauses  # no step is lost, and none is taken twice
    found = last(tmp_path, "elastic")
    steps = [line["step"] for line in found.history if "loss" in line]
    assert len(steps) == len(set(steps))
    one = last(tmp_path, "one")
    alike = {line["step"] for line in one.history} - {after(found, pause) for pause in pauses}
    assert_same_run(at(found, alike), at(one, alike))


def after(run, pause):
    """The step of the first line after a pause, whose loss is the mean of fewer steps than in a run without pauses."""
    return min(line["step"] for line in run.history if line["step"] > pause)


def at(run, steps):
    """The run with the lines of some steps only: a pause writes one of its own."""
    return dataclasses.replace(run, history=[line for line in run.history if line["step"] in steps])
