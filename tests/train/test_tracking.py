"""Runs told to trackers: the thread between them, TensorBoard's events, and MLflow by real stores and a real server."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from inkling.train import config as configs
from inkling.train import progress
from inkling.train.progress import Advance, Drawn, Message, Published, Validated
from inkling.train.tracking import feed as feeds
from inkling.train.tracking.feed import Feed
from inkling.train.tracking.secrets import without_secrets
from inkling.train.tracking.tensorboard import TensorBoard
from inkling.train.tracking.trackers import check_installed
from tests.patience import PATIENCE_S, wait_until
from tests.ports import free_port
from tests.train.ray_processes import ENVIRONMENT, ROOT, SMALL, Job, checkpoint_steps

# What MLflow's client and its SQLAlchemy warn of, when this process looks into a store.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "FutureWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
]
HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None
needs_mlflow = pytest.mark.skipif(not HAS_MLFLOW, reason="MLflow's client is missing: pip install './train[tracking]'")
SERVER = os.environ.get("INKLING_TEST_MLFLOW") or shutil.which("mlflow")
# The package of this checkout, and after it wherever MLflow was put.
CHECKOUT = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
RUN = ["--in-process", *SMALL, "--epochs", "2"]


class Recorder:
    """A tracker that keeps what it is told; it fails, or waits, as often as it is asked to."""

    name = "recorder"

    def __init__(self, fails=0, gate=None):
        self.told, self.fails, self.gate = [], fails, gate

    def _take(self, what):
        if self.gate:
            self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise ConnectionError("http://user:hunter2@tracker answers nothing\nand more lines")
        self.told.append(what)

    def open(self):
        self._take("open")
        return "here"

    def log(self, events):
        self._take([event.step for event in events])

    def picture(self, event):
        self._take(event.name)

    def published(self, event):
        self._take(event.version)

    def close(self, status):
        self._take(status)


def advance(step):
    return Advance(step, 100, step / 50, 2, 1000.0, 0.5, 0.9, 1e-3, 60.0)


def steps(told):
    return [step for what in told if isinstance(what, list) for step in what]


def test_a_tracker_gets_everything_in_order_and_the_end():
    tracker, lines = Recorder(), []
    feed = Feed(tracker, lines.append)
    for event in (
        advance(1),
        Message("nothing for it"),
        Validated(2, 1, 2, 0.5, 0.4, 0.9),
        progress.Tested(2, {"a": 1.0}),
    ):
        feed.put(event)
    feed.put(Drawn("curve.png", b"png"))
    feed.put(Published("mnist", "models/mnist/7"))
    feed.close("finished", timeout_s=PATIENCE_S)
    assert steps(tracker.told) == [1, 2, 2]
    assert tracker.told[0] == "open" and tracker.told[-3:] == ["curve.png", 7, "finished"]
    assert lines == ["recorder: here"]


def test_a_tracker_that_fails_is_told_everything_later_and_warned_of_once():
    tracker, lines = Recorder(fails=3), []
    feed = Feed(tracker, lines.append, retry_s=0.01)
    for step in range(1, 6):
        feed.put(advance(step))
    wait_until(lambda: steps(tracker.told) == [1, 2, 3, 4, 5])
    feed.close("finished", timeout_s=PATIENCE_S)
    assert tracker.told[-1] == "finished"
    assert [line for line in lines if "cannot be told" in line] == lines[:1]
    assert "ConnectionError: http://***@tracker answers nothing)" in lines[0] and "hunter2" not in lines[0]


def test_a_tracker_that_hangs_holds_nobody_up():
    gate = threading.Event()
    tracker, lines = Recorder(gate=gate), []
    feed = Feed(tracker, lines.append)
    for step in range(3):
        feed.put(advance(step))
    feed.close("stopped", timeout_s=0.01)
    gate.set()
    assert lines == ["recorder has not got all of this run; its folder has"]


def test_what_waits_for_a_tracker_is_bounded_and_pictures_stay(monkeypatch):
    monkeypatch.setattr(feeds, "MOST_WAITING", 3)
    gate = threading.Event()
    tracker, lines = Recorder(gate=gate), []
    feed = Feed(tracker, lines.append)
    feed.put(Drawn("first.png", b""))
    for step in range(1, 9):
        feed.put(advance(step))
    gate.set()
    feed.close("finished", timeout_s=PATIENCE_S)
    assert "first.png" in tracker.told and steps(tracker.told)[-1] == 8 and len(steps(tracker.told)) <= 3
    assert lines[-1] == "recorder has not got all of this run; its folder has"


def test_a_run_that_tells_nothing_opens_no_tracker():
    tracker = Recorder()
    feed = Feed(tracker, lambda line: None)
    feed.put(Message("only for the display"))
    feed.close("failed", timeout_s=PATIENCE_S)
    assert tracker.told == []


def test_tensorboard_reads_what_is_written_for_it(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoard(tmp_path / "tensorboard")
    tracker.open()
    tracker.log([advance(1), advance(2), Validated(2, 1, 2, 0.5, 0.25, 0.75)])
    tracker.close("finished")
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 0.5), (2, 0.5)]
    assert [(event.step, event.value) for event in found.Scalars("validation_loss")] == [(2, 0.25)]


def test_no_secret_is_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcdefgh12345")
    assert without_secrets("at https://me:pw@host/x with abcdefgh12345") == "at https://***@host/x with ***"


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ("wandb", "--track takes mlflow, or mlflow:URI such as"),
        (":http://host", "--track takes mlflow"),
        ("mlflow:https://me:hunter2@host", "--track mlflow has a user in its URI"),
    ],
)
def test_a_wrong_tracker_is_refused_without_its_secret(track, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        configs.JobConfig(track=track)
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(HAS_MLFLOW, reason="MLflow's client is installed")
def test_a_tracker_without_its_client_is_refused_before_training():
    with pytest.raises(ValueError, match=r"pip install 'inkling-train\[tracking\]'"):
        check_installed("mlflow")


def train(*arguments, cwd, **variables):
    command = [sys.executable, "-m", "train", *map(str, arguments)]
    environment = CHECKOUT | variables
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


class Tracked:
    """The one run of an experiment, as a store of MLflow has it."""

    def __init__(self, uri):
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        experiment = self.client.get_experiment_by_name("inkling")
        [self.run] = self.client.search_runs([experiment.experiment_id])

    def steps(self, name):
        return [figure.step for figure in self.client.get_metric_history(self.run.info.run_id, name)]

    def assert_whole(self, folder, name):
        """Everything that the run's own folder has: parameters, every line of figures once, pictures, the version."""
        lines = [json.loads(line) for line in (folder / f"runs/{name}/metrics.jsonl").read_text().splitlines()]
        assert self.run.data.params["learning_rate"] == "0.003" and self.run.data.params["shift_px"] == "2"
        assert self.run.data.tags["mlflow.runName"] == name and self.run.info.status == "FINISHED"
        for figure in ("loss", "learning_rate", "validation_loss", "validation_accuracy"):
            assert sorted(self.steps(figure)) == [line["step"] for line in lines if figure in line]
        report = json.loads((folder / f"runs/{name}/report.json").read_text())
        assert self.run.data.metrics["test_accuracy"] == pytest.approx(report["test"]["accuracy"])
        pictures = {item.path for item in self.client.list_artifacts(self.run.info.run_id, "pictures")}
        assert pictures == {f"pictures/{picture}.png" for picture in ("learning_curve", "confusion_matrix", "mistakes")}
        version = self.client.get_model_version_by_alias("mnist", "published")
        assert version.run_id == self.run.info.run_id and version.tags["inkling.version"] == "1"
        files = {item.path for item in self.client.list_artifacts(self.run.info.run_id, "models/mnist/1")}
        assert "models/mnist/1/saved_model.pb" in files


@needs_mlflow
@pytest.mark.process
def test_a_run_stopped_and_resumed_is_one_run_of_a_store(digits_file, tmp_path):
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()  # or the kill may leave half of its tables
    data = ["--data", digits_file, "--name", "r", "--track", "mlflow:sqlite:///mlflow.db"]
    job = Job(tmp_path, *RUN, *data, environment=CHECKOUT)
    wait_until(lambda: checkpoint_steps(tmp_path / "runs/r") or job.process.poll() is not None, job.output)
    job.kill()
    assert "Traceback" not in job.output()
    done = train("--in-process", "--resume", "r", cwd=tmp_path)  # from tracking.json, without --track
    assert f"mlflow: run r of experiment inkling at sqlite:///{tmp_path}/mlflow.db" in done.stderr
    Tracked(f"sqlite:///{tmp_path}/mlflow.db").assert_whole(tmp_path, "r")


@needs_mlflow
@pytest.mark.process
def test_several_workers_on_ray_are_one_run_of_a_store(digits_file, tmp_path):
    workers = [*SMALL, "--epochs", "1", "--num-workers", "2", "--cpus-per-worker", "1"]
    store = ["--data", digits_file, "--name", "r", "--track", f"mlflow:{tmp_path}/store"]
    train(*workers, *store, cwd=tmp_path, RAY_worker_niceness="0")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    Tracked(f"{tmp_path}/store").assert_whole(tmp_path, "r")


@needs_mlflow
@pytest.mark.slow
@pytest.mark.process
def test_each_trial_of_a_sweep_is_a_run_of_a_store(digits_file, tmp_path):
    from mlflow import MlflowClient

    over = ["--over", "shift_px=1.0,2.0", "--no-asha", "--data", digits_file, "--name", "s", "--epochs", "1"]
    train("sweep", *SMALL, *over, "--track", "mlflow:sqlite:///mlflow.db", cwd=tmp_path, RAY_worker_niceness="0")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("inkling").experiment_id])
    assert {run.data.tags["mlflow.runName"] for run in found} == {"s-000", "s-001"}
    assert {run.data.params["shift_px"] for run in found} == {"1.0", "2.0"}
    for run in found:
        name = run.data.tags["mlflow.runName"]
        lines = [json.loads(line) for line in (tmp_path / f"runs/{name}/metrics.jsonl").read_text().splitlines()]
        steps = [figure.step for figure in client.get_metric_history(run.info.run_id, "loss")]
        assert steps == [line["step"] for line in lines if "loss" in line]
        assert run.info.status == "FINISHED" and run.data.tags["inkling.sweep"] == "s"


@contextmanager
def mlflow_server(folder):
    port = free_port()
    command = [SERVER, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        f"{folder}/artifacts",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = (folder / "server.txt").open("wb")
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    def healthy():
        assert server.poll() is None, (folder / "server.txt").read_text()
        try:
            return urlopen(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S).status == 200
        except URLError:
            return False

    try:
        wait_until(healthy, (folder / "server.txt").read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        log.close()


@needs_mlflow
@pytest.mark.process
@pytest.mark.skipif(not SERVER, reason="no `mlflow server` here: pip install mlflow elsewhere, and INKLING_TEST_MLFLOW")
def test_a_run_told_to_a_server(digits_file, tmp_path):
    server = tmp_path / "server"
    server.mkdir()
    with mlflow_server(server) as uri:
        done = train(
            *RUN, "--data", digits_file, "--name", "r", "--track", "mlflow", cwd=tmp_path, MLFLOW_TRACKING_URI=uri
        )
        assert f"experiment inkling at {uri}" in done.stderr and "cannot be told" not in done.stderr
        Tracked(uri).assert_whole(tmp_path, "r")


@needs_mlflow
@pytest.mark.process
def test_a_server_that_is_down_is_told_once_and_the_run_goes_on(digits_file, tmp_path):
    down = f"mlflow:http://127.0.0.1:{free_port()}"
    secret = {"MLFLOW_TRACKING_TOKEN": "not-for-anybody"}
    done = train(*RUN, "--data", digits_file, "--name", "r", "--track", down, cwd=tmp_path, **secret)
    assert done.stderr.count("mlflow cannot be told of this run now") == 1
    assert "mlflow has not got all of this run; its folder has" in done.stderr
    assert "Traceback" not in done.stderr and "Retrying" not in done.stderr
    assert "not-for-anybody" not in done.stderr + done.stdout
    assert "published       " in done.stdout and Path(tmp_path, "models/mnist/1/saved_model.pb").exists()
