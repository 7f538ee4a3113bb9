"""Training jobs on real Ray clusters: the one that a job starts for itself, and one that was there before."""

import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest

from inkling.train import checkpoint
from inkling.train.storage import RunFolder
from tests.patience import PATIENCE_S, wait_until
from tests.ports import free_port
from tests.train.ray_processes import (
    ENVIRONMENT,
    ROOT,
    SMALL,
    TOKEN,
    Job,
    checkpoint_steps,
    cluster,
)

pytestmark = pytest.mark.process

NUM_CPUS = os.cpu_count() or 1
# Where the system binds threads, and has given this process every CPU that Ray counts.
CAN_BIND = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == NUM_CPUS
NO_DROPOUT = ["--dropout", "0", "0", "--epochs", "3", "--learning-rate", "3e-4"]


def weights(folder, name):
    return checkpoint.latest(RunFolder(str(folder / "runs"), name))[0]


@pytest.fixture(scope="module")
def one_worker(digits_file, tmp_path_factory):
    """The run that the others must agree with: one process, one replica, no Ray."""
    folder = tmp_path_factory.mktemp("one")
    status, output = Job(folder, "--in-process", "--data", digits_file, *SMALL, *NO_DROPOUT, "--name", "one").wait()
    assert status == 0, output
    return weights(folder, "one")


def assert_same_run(found, expected):
    """Promise 1: the same loss curve and the same variables, batch-norm statistics included, up to rounding."""
    assert found.step == expected.step
    for name in ("loss", "validation_loss"):
        curve, other = ([line[name] for line in run.history if name in line] for run in (found, expected))
        np.testing.assert_allclose(curve, other, rtol=2e-3)
    for name, value in expected.arrays.items():
        if not name.startswith("optimizer/"):
            np.testing.assert_allclose(found.arrays[name], value, rtol=1e-2, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ("split", "uri"),
    [
        pytest.param(["--num-workers", "2", "--cpus-per-worker", "1"], False, id="workers"),
        # Replicas of one process are compared in test_step.py and test_loop.py too.
        pytest.param(["--cpu-replicas", "2"], True, id="replicas, storage by URI", marks=pytest.mark.slow),
    ],
)
def test_the_number_of_workers_does_not_change_the_result(one_worker, digits_file, tmp_path, split, uri):
    places = [(flag, tmp_path / name) for flag, name in (("--storage", "runs"), ("--model-dir", "models"))]
    if uri:
        split = [*split, *(part for flag, path in places for part in (flag, path.as_uri()))]
    job = Job(tmp_path, "--data", digits_file, *SMALL, *NO_DROPOUT, *split, "--name", "split")
    status, output = job.wait()
    assert status == 0, output
    assert_same_run(weights(tmp_path, "split"), one_worker)
    assert (tmp_path / "models/mnist/1/saved_model.pb").exists()
    lines = output.splitlines()
    told = r"run |starting Ray|Ray: |epoch |writing|publishing|test |report |published |nothing from the workers "
    assert [line for line in lines if not re.match(told, line)] == []  # nothing of Ray's and TensorFlow's own


@pytest.mark.slow
@pytest.mark.skipif(not CAN_BIND or NUM_CPUS % 2 == 1, reason="two workers cannot have all CPUs and be bound to them")
def test_workers_that_have_all_cpus_keep_to_their_own(digits_file, tmp_path):
    job = Job(
        tmp_path,
        *("--data", digits_file, *SMALL, "--num-workers", "2", "--cpus-per-worker", NUM_CPUS // 2),
        *("--epochs", "100", "--name", "run"),
    )
    folder = tmp_path / "runs/run"
    wait_until(lambda: job.process.poll() is not None or checkpoint_steps(folder), job.output)
    if "room for" in job.output():
        pytest.skip("Ray has fewer CPUs than the system, as under a container's quota")
    of_workers = [cpus_of_threads(worker) - {frozenset(os.sched_getaffinity(0))} for worker in job.train_workers()]
    job.process.send_signal(signal.SIGTERM)  # what `kubectl delete` and `ray job stop` send
    status, output = job.wait()
    assert status == 130 and "stopped; go on with: python -m train --resume run" in output
    assert [len(shares) for shares in of_workers] == [1, 1]
    one, two = (next(iter(shares)) for shares in of_workers)
    assert len(one) == len(two) == NUM_CPUS // 2 and not one & two


def cpus_of_threads(process):
    return {frozenset(os.sched_getaffinity(thread.id)) for thread in process.threads()}


def test_more_workers_than_the_machine_holds_are_refused_at_once(digits_file, tmp_path):
    status, output = Job(tmp_path, "--data", digits_file, *SMALL, "--num-workers", "500", "--name", "big").wait()
    assert status == 1
    assert "asked for 500 workers" in output and "CPUs" in output and "--wait" in output


def test_a_cluster_that_cannot_be_reached_is_told_in_a_line(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    status, output = Job(tmp_path, "--address", address, "--name", "nowhere").wait()
    assert status == 1
    assert f"error: no Ray cluster answers at {address}" in output and "Traceback" not in output


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.mark.slow
def test_a_job_waits_for_nodes_and_runs_where_inkling_is_not_installed(ray_cluster, one_worker, digits_file, tmp_path):
    arguments = ["--address", ray_cluster.address, "--num-workers", "3", "--cpus-per-worker", "1", "--wait"]
    environment = {**ENVIRONMENT, **TOKEN}
    job = Job(
        tmp_path, "--data", digits_file, *SMALL, *NO_DROPOUT, *arguments, "--name", "joined", environment=environment
    )
    job.wait_for("waiting for the cluster: asked for 3 workers with 1 CPU each, but the cluster has 1 node")
    ray_cluster.add()
    status, output = job.wait()
    assert status == 0, output
    assert_same_run(weights(tmp_path, "joined"), one_worker)


@pytest.mark.slow
def test_a_driver_outside_the_cluster_joins_through_ray_client(ray_cluster, digits_file, tmp_path):
    arguments = ["--address", ray_cluster.client_address, "--num-workers", "1", "--epochs", "2", "--no-publish"]
    job = Job(
        tmp_path, "--data", digits_file, *SMALL, *arguments, "--name", "client", environment={**ENVIRONMENT, **TOKEN}
    )
    status, output = job.wait()
    assert status == 0, output
    assert "test accuracy" in output and checkpoint_steps(tmp_path / "runs/client")


@pytest.mark.slow
def test_each_node_gets_a_worker_where_one_node_could_hold_them_all(ray_cluster, digits_file, tmp_path):
    if len(ray_cluster.nodes) == 1:
        ray_cluster.add()
    arguments = ["--address", ray_cluster.address, "--epochs", "2", "--no-publish", "--name", "spread", "--wait"]
    job = Job(
        tmp_path, "--data", digits_file, *SMALL, *arguments, "--num-workers", "2", environment={**ENVIRONMENT, **TOKEN}
    )
    job.wait_for("epoch ")
    try:
        assert [len(node.train_workers()) for node in ray_cluster.nodes] == [1, 1]
    finally:
        status, output = job.wait()
    assert status == 0, output


def submit(ray_cluster, folder, *arguments):
    """`ray job submit` of this repository as it is; the exit status and what it printed."""
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "job", "submit"]
    # What Inkling sets too, and what nobody may see.
    environment = {"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "1", "PASSWORD": "s3cr3t"}, "excludes": ["*.md", ".cache"]}
    command += ["--address", ray_cluster.dashboard, "--working-dir", str(ROOT)]
    command += ["--runtime-env-json", json.dumps(environment), "--", "python", "-m", "train"]
    for _ in range(20):  # a cluster takes jobs only some seconds after it says that it runs
        status, output = Job(folder, *arguments, command=command, environment={**ENVIRONMENT, **TOKEN}).wait()
        if "No available agent to submit job" not in output:
            break
    return status, output


@pytest.mark.slow
def test_ray_job_submit_runs_the_repository_as_it_is(ray_cluster, digits_file, tmp_path):
    places = ["--storage", tmp_path / "runs", "--model-dir", tmp_path / "models", "--name", "submitted"]
    status, output = submit(ray_cluster, tmp_path, "--data", digits_file, *SMALL, "--epochs", "3", *places)
    assert status == 0, output
    assert "test accuracy" in output and "s3cr3t" not in output
    card = json.loads((tmp_path / "models/mnist/1/model_card.json").read_text())
    assert card["run"] == "submitted"
    assert checkpoint_steps(tmp_path / "runs/submitted")


def _status(url):
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None  # the agent listens some seconds after the head says that it runs


@pytest.mark.slow
def test_without_the_token_a_cluster_answers_probes_and_takes_no_jobs(ray_cluster):
    wait_until(lambda: _status(f"{ray_cluster.agent}/api/healthz") == 200, lambda: "no answer to KubeRay's probe")
    assert _status(f"{ray_cluster.dashboard}/api/jobs/") == 401


@pytest.mark.slow
def test_a_submitted_job_does_not_write_where_nothing_is_kept(ray_cluster, tmp_path):
    status, output = submit(ray_cluster, tmp_path, "--name", "lost")
    assert status == 1
    assert "error: --storage runs would lie in this submitted job's own folder" in output
