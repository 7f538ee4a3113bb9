"""Versions come and go while the server answers."""

import math
import shutil
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc

from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess
from tests.serving import saved_models
from tests.serving.conftest import predict_request, write_model_config

pytestmark = pytest.mark.process

State = get_model_status_pb2.ModelVersionStatus
X = np.array([1.0], np.float32)


class Model:
    """A server of the model `scale` in `folder`, and stubs to talk to it."""

    def __init__(self, server: ServerProcess, channel: grpc.Channel) -> None:
        self.server = server
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self) -> tuple[int, float]:
        """The version that answers, and its answer to 1."""
        answer = self.predictions.Predict(predict_request("scale", {"x": X}), timeout=PATIENCE_S)
        return answer.model_spec.version.value, answer.outputs["y"].float_val[0]

    def states(self) -> dict[int, tuple[int, str]]:
        """State and error text by version."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "scale"
        statuses = self.models.GetModelStatus(request, timeout=PATIENCE_S).model_version_status
        return {each.version: (each.state, each.status.error_message) for each in statuses}

    def wait_for(self, condition, what: str, timeout_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.states()}\n{self.server.log_text()}"
            time.sleep(0.05)


@pytest.fixture
def folder(tmp_path, repository) -> Path:
    folder = tmp_path / "scale"
    folder.mkdir()
    publish(repository / "scale" / "1", folder / "1")
    return folder


def publish(source: Path, target: Path) -> None:
    """Put a version in place by one rename, as a publisher does."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.copytree(source, unfinished)
    unfinished.rename(target)


@pytest.fixture
def model(folder):
    flags = ["--model_name=scale", f"--model_base_path={folder}", "--load_retry_interval_micros=200000"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        yield Model(server, channel)


def test_a_new_version_takes_over_and_the_old_one_goes(model, folder, repository):
    assert model.predict() == (1, 1.0)
    publish(repository / "scale" / "2", folder / "2")
    model.wait_for(lambda: model.predict() == (2, 2.0), "version 2 answers")
    model.wait_for(lambda: model.states()[1][0] == State.END, "version 1 ends")


def test_a_version_that_does_not_load_is_reported_and_displaces_nothing(model, folder, repository):
    shutil.copytree(repository / "scale" / "2", folder / "2")
    data = next((folder / "2" / "variables").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:2])
    model.wait_for(lambda: model.states().get(2, (0, ""))[1], "version 2 has failed")
    assert model.states()[2][0] == State.END
    assert model.predict() == (1, 1.0)
    shutil.rmtree(folder / "2")
    publish(repository / "scale" / "2", folder / "2")
    model.wait_for(lambda: model.predict() == (2, 2.0), "the mended version 2 answers")


def test_half_a_version_is_waited_for(model, folder, repository):
    source, target = repository / "scale" / "2", folder / "2"
    target.mkdir()
    shutil.copytree(source / "assets", target / "assets")
    model.server.wait_for_log("it has no saved_model.pb")
    shutil.copy(source / "saved_model.pb", target)
    model.server.wait_for_log("it has no variables/variables.index")
    (target / "variables").mkdir()
    shutil.copy(source / "variables" / "variables.index", target / "variables")
    model.server.wait_for_log("it has no variables/variables.data")
    assert 2 not in model.states() and model.predict() == (1, 1.0)
    for data in (source / "variables").glob("variables.data*"):
        shutil.copy(data, target / "variables")
    model.wait_for(lambda: model.predict() == (2, 2.0), "version 2 answers")
    assert not any(error for _, error in model.states().values())


def test_going_back_by_removing_the_newest_version(model, folder, repository):
    publish(repository / "scale" / "2", folder / "2")
    model.wait_for(lambda: model.predict()[0] == 2, "version 2 answers")
    (folder / "2").rename(folder / "no-version")
    model.wait_for(lambda: model.predict()[0] == 1, "version 1 answers again")


def test_requests_in_flight_end_on_their_version(tmp_path, repository):
    folder = tmp_path / "several"
    folder.mkdir()
    publish(repository / "several" / "1", folder / "1")
    with (
        ServerProcess("--model_name=several", f"--model_base_path={folder}") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_request("several", {"rounds": np.array([6000], np.int32)}, signature="slow")
        slow = predictions.Predict.future(request, timeout=PATIENCE_S)
        publish(repository / "several" / "1", folder / "2")
        server.wait_for_log("Successfully loaded servable version {name: several version: 2}")
        assert slow.result().model_spec.version.value == 1
        server.wait_for_log("unloaded several version 1")


def test_the_newest_version_being_broken_at_the_start_leaves_the_one_before(folder, repository):
    shutil.copytree(repository / "scale" / "2", folder / "2")
    (folder / "2" / "saved_model.pb").write_bytes(b"no model")
    flags = ["--model_name=scale", f"--model_base_path={folder}"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        model = Model(server, channel)
        assert model.predict() == (1, 1.0)
        assert model.states()[2][1]


def test_a_start_with_nothing_but_a_broken_version_fails(folder):
    (folder / "1" / "saved_model.pb").write_bytes(b"no model")
    flags = ["--model_name=scale", f"--model_base_path={folder}"]
    retries = ["--max_num_load_retries=2", "--load_retry_interval_micros=1000"]
    with ServerProcess(*flags, *retries, ready=False) as server:
        assert server.process.wait(PATIENCE_S) == 255
        assert "failed (attempt 3 of 3)" in server.log_text()
        assert "1 servable(s) did not become available: {{name: scale version: 1} due to error: " in server.log_text()


RETRIES = ["--max_num_load_retries=1000", "--load_retry_interval_micros=200000"]


def mend(version: Path, source: Path) -> None:
    """Put the model into a version that had none."""
    shutil.copy(source / "saved_model.pb", version / "new")
    (version / "new").rename(version / "saved_model.pb")


def test_a_start_tries_again_what_does_not_load(folder, repository):
    (folder / "1" / "saved_model.pb").write_bytes(b"no model")
    with ServerProcess("--model_name=scale", f"--model_base_path={folder}", *RETRIES, ready=False) as server:
        server.wait_for_log("failed (attempt 2 of 1001)")
        assert not server.is_serving()
        mend(folder / "1", repository / "scale" / "1")
        server.wait_until_ready()


def test_what_does_not_load_is_tried_again_without_polling_for_what_is_new(folder, repository):
    shutil.copytree(repository / "scale" / "2", folder / "2")
    (folder / "2" / "saved_model.pb").write_bytes(b"no model")
    flags = ["--model_name=scale", f"--model_base_path={folder}", "--file_system_poll_wait_seconds=0", *RETRIES]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        model = Model(server, channel)
        assert model.predict() == (1, 1.0)
        publish(repository / "scale" / "2", folder / "3")
        server.wait_for_log("failed (attempt 2 of 1001)")
        mend(folder / "2", repository / "scale" / "2")
        model.wait_for(lambda: model.predict() == (2, 2.0), "the mended version 2 answers")
        assert model.states().keys() == {1, 2}


def test_a_model_that_is_not_there_yet_is_waited_for(tmp_path, repository):
    folder = tmp_path / "scale"
    with ServerProcess("--model_name=scale", f"--model_base_path={folder}", ready=False) as server:
        server.wait_for_log(f"Could not find base path {folder} for servable scale")
        folder.mkdir()
        server.wait_for_log(f"No versions of servable scale found under base path {folder}")
        publish(repository / "scale" / "1", folder / "1")
        server.wait_until_ready()


def test_a_stale_warm_up_file_fails_the_load(folder, repository):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    extra = folder / "1" / "assets.extra"
    extra.mkdir()
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("scale", {"old_name": X}))
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    flags = ["--model_name=scale", f"--model_base_path={folder}", "--max_num_load_retries=0"]
    with ServerProcess(*flags, ready=False) as server:
        assert server.process.wait(PATIENCE_S) == 255
        assert "Signature input alias: x(feed name: " in server.log_text()
    with ServerProcess("--model_name=scale", f"--model_base_path={folder}", "--enable_model_warmup=false"):
        pass


def test_a_changed_config_file_is_followed(tmp_path, repository):
    config = write_model_config(tmp_path / "models.config", repository, ["scale"])
    flags = [f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1"]
    with ServerProcess(*flags) as server, grpc.insecure_channel(server.address) as channel:
        write_model_config(config, repository, ["scale", "table"], {"scale": "model_version_policy { all {} }"})
        server.wait_for_log("applied the changed")
        assert server.is_serving("table")
        assert set(Model(server, channel).states()) == {1, 2}
        config.write_text("nonsense")
        server.wait_for_log("is not applied: Invalid protobuf file")
        assert Model(server, channel).predict() == (2, 2.0)


@pytest.mark.slow
def test_a_version_every_second_under_load_fails_no_request(model, folder, tmp_path):
    sources = tmp_path / "sources"
    for number in range(2, 62):
        saved_models.write_scale(sources / str(number), float(number))
    published = {1: 0.0}  # when it was about to be there: it answers nothing before
    superseded: dict[int, float] = {}  # when a newer one was seen to answer: it answers nothing that is asked later
    failures: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            asked = time.monotonic()
            try:
                version, answer = model.predict()
            except grpc.RpcError as error:
                failures.append(f"{error.code()}: {error.details()}")
                continue
            answered = time.monotonic()
            live = published.get(version, math.inf) <= answered and asked <= superseded.get(version, math.inf)
            if answer != float(version) or not live:
                failures.append(f"version {version} answered {answer}; asked at {asked}, answered at {answered}")

    def watch() -> None:
        while not stop.is_set():
            available = max(number for number, (state, _) in model.states().items() if state == State.AVAILABLE)
            for number in range(1, available):
                superseded.setdefault(number, time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(16)] + [threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    for number in range(2, 62):
        began = time.monotonic()
        published[number] = began
        publish(sources / str(number), folder / str(number))
        stop.wait(max(0, 1 - (time.monotonic() - began)))
    try:
        model.wait_for(lambda: model.predict()[0] == 61, "the last version answers")
        model.wait_for(lambda: len(superseded) == 60, "all others were seen to be superseded")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:5]
    assert superseded.keys() == set(range(1, 61))


@pytest.mark.slow
def test_memory_does_not_grow_over_fifty_reloads(model, folder, repository):
    def replace(number: int) -> None:
        publish(repository / "scale" / "2", folder / str(number))
        model.wait_for(lambda: model.predict()[0] == number, f"version {number} answers")
        model.wait_for(lambda: model.states()[number - 1][0] == State.END, f"version {number - 1} ends")
        shutil.rmtree(folder / str(number - 1))

    for number in range(2, 12):
        replace(number)
    before = model.server.memory_mb()
    for number in range(12, 62):
        replace(number)
    assert model.server.memory_mb() - before < 30
