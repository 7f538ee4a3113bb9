"""`python -m serving promote` and `rollback`: labels move, calls by label go on, the file says what the servers do."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from inkling.serving import rollout
from inkling.serving import version_labels as labels
from inkling.serving.errors import ServingError
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess

HEAD = "# Which models are served.\n# Two lines.\n"


def _config(folder: Path, *, policy: str, version_labels: dict[str, int]) -> str:
    entries = [f'version_labels {{ key: "{name}" value: {version} }}' for name, version in version_labels.items()]
    return f"""{HEAD}model_config_list {{ config {{
      name: "times" base_path: "{folder}" model_platform: "tensorflow"
      model_version_policy {{ {policy} }}
      {" ".join(entries)}
    }} }}
    """


def _parse(text: str) -> ModelServerConfig:
    return text_format.Parse(text, ModelServerConfig())


def _labels(config: ModelServerConfig) -> dict[str, int]:
    return dict(labels.find_model(config, "times").version_labels)


def _versions(config: ModelServerConfig) -> list[int]:
    return list(labels.find_model(config, "times").model_version_policy.specific.versions)


def _read(file: Path) -> ModelServerConfig:
    return _parse(file.read_text())


class Times(tf.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x * self.factor}


@pytest.fixture(scope="module")
def times(tmp_path_factory) -> Path:
    """A model whose version n multiplies by n; version 9 is broken."""
    folder = tmp_path_factory.mktemp("models") / "times"
    for version in (1, 2, 3):
        module = Times(float(version))
        tf.saved_model.save(module, str(folder / str(version)), signatures=module.__call__)
    (folder / "9").mkdir()
    (folder / "9" / "saved_model.pb").write_bytes(b"half of one")
    return folder


@pytest.fixture
def file(times, tmp_path) -> Path:
    path = tmp_path / "models.config"
    path.write_text(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 1}))
    return path


@pytest.fixture(scope="module")
def process(times, tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "models.config"
    path.write_text(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 1}))
    with ServerProcess(f"--model_config_file={path}", "--max_num_load_retries=0") as process:
        yield process


@pytest.fixture
def server(process, file):
    """The process, with the file's configuration."""
    with grpc.insecure_channel(process.address) as channel:
        request = model_management_pb2.ReloadConfigRequest(config=_read(file))
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=PATIENCE_S)
    return process


def _times(address: str, label: str) -> tuple[float, int]:
    """What 1.0 times the label's version is, and that version."""
    with grpc.insecure_channel(address) as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "times"
        request.model_spec.version_label = label
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=PATIENCE_S)
    return float(tf.make_ndarray(answer.outputs["y"])[0]), answer.model_spec.version.value


def wait_until(condition) -> None:
    """Return when the condition holds; the test's timeout ends it otherwise."""
    pause = threading.Event()
    while True:
        try:
            if condition():
                return
        except grpc.RpcError:
            pass
        pause.wait(0.1)


def test_a_promotion_moves_stable_and_remembers_where_it_was(times):
    before = _parse(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 1}))
    after = labels.promoted(before, model_name="times", version=2, label="stable")
    assert _labels(after) == {"stable": 2, "previous": 1}
    assert _versions(after) == [1, 2]


def test_the_first_promotion_pins_a_model_that_followed_the_latest(times):
    before = _parse(_config(times, policy="latest { num_versions: 1 }", version_labels={}))
    after = labels.promoted(before, model_name="times", version=2, label="stable")
    assert (_labels(after), _versions(after)) == ({"stable": 2}, [2])


def test_a_canary_leaves_stable_alone(times):
    before = _parse(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 1}))
    after = labels.promoted(before, model_name="times", version=3, label="canary")
    assert (_labels(after), _versions(after)) == ({"stable": 1, "canary": 3}, [1, 3])


def test_a_canary_that_becomes_stable_goes_on_to_answer(times):
    before = _parse(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 1, "canary": 2}))
    after = labels.promoted(before, model_name="times", version=2, label="stable")
    assert _labels(after) == {"stable": 2, "previous": 1, "canary": 2}


def test_a_canary_follows_stable_when_nothing_is_on_trial(times):
    before = _parse(_config(times, policy="specific { versions: 2 }", version_labels={"stable": 2, "canary": 2}))
    after = labels.promoted(before, model_name="times", version=3, label="stable")
    assert (_labels(after), _versions(after)) == ({"stable": 3, "previous": 2, "canary": 3}, [2, 3])


def test_a_canary_on_trial_stays_there_when_stable_moves_past_it(times):
    before = _parse(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 1, "canary": 2}))
    after = labels.promoted(before, model_name="times", version=3, label="stable")
    assert _labels(after) == {"stable": 3, "previous": 1, "canary": 2}


@pytest.mark.parametrize("canary", [2, 3], ids=["on what was stable", "on trial"])
def test_a_rollback_takes_the_canary_to_what_is_stable(times, canary):
    before = {"stable": 2, "previous": 1, "canary": canary}
    back = labels.rolled_back(_parse(_config(times, policy="", version_labels=before)), model_name="times")
    assert (_labels(back), _versions(back)) == ({"stable": 1, "previous": 2, "canary": 1}, [1, 2])


@pytest.mark.process
def test_callers_of_the_canary_are_answered_after_each_step(server, file):
    common = [f"--model_config_file={file}", "--model_name=times", f"--server={server.address}"]
    canary = ["promote", "--version=2", "--label=canary"]
    for step, version in ((canary, 2), (["promote", "--version=2"], 2), (["rollback"], 1)):
        assert rollout.main([*step, *common]) == 0
        assert _times(server.address, "canary") == (float(version), version)


def test_a_rollback_undoes_a_promotion_and_a_second_one_undoes_that(times):
    before = _parse(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 2, "previous": 1}))
    back = labels.rolled_back(before, model_name="times")
    assert _labels(back) == {"stable": 1, "previous": 2}
    assert _labels(labels.rolled_back(back, model_name="times")) == {"stable": 2, "previous": 1}


def test_a_rollback_without_a_version_before_says_what_to_do(times):
    before = _parse(_config(times, policy="specific { versions: 1 }", version_labels={"stable": 1}))
    with pytest.raises(ServingError, match=r"no version to go back to \(stable 1\); name one with `promote"):
        labels.rolled_back(before, model_name="times")


def test_other_models_stay_as_they_are(times):
    text = _config(times, policy="specific { versions: 1 }", version_labels={"stable": 1})
    before = _parse(text)
    before.model_config_list.config.add(name="other", base_path="/other")
    after = labels.promoted(before, model_name="times", version=2, label="stable")
    assert labels.find_model(after, "other") == labels.find_model(before, "other")


@pytest.mark.process
def test_a_promotion_reaches_the_server_and_the_file(server, file):
    assert _times(server.address, "stable") == (1.0, 1)
    arguments = ["--version=2", f"--model_config_file={file}", "--model_name=times", f"--server={server.address}"]
    assert rollout.main(["promote", *arguments]) == 0
    assert _times(server.address, "stable") == (2.0, 2)
    assert _labels(_read(file)) == {"stable": 2, "previous": 1}
    assert file.read_text().startswith(HEAD)
    assert rollout.main(["rollback", *arguments[1:]]) == 0
    assert _times(server.address, "stable") == (1.0, 1)
    assert _labels(_read(file)) == {"stable": 1, "previous": 2}


@pytest.mark.process
def test_calls_by_label_are_answered_throughout(server, file):
    stop = threading.Event()
    answers: list[float] = []
    errors: list[grpc.RpcError] = []

    def call() -> None:
        while not stop.is_set():
            try:
                answers.append(_times(server.address, "stable")[0])
            except grpc.RpcError as error:
                errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    common = [f"--model_config_file={file}", "--model_name=times", f"--server={server.address}"]
    try:
        for version in (2, 3, 1):
            assert rollout.main(["promote", f"--version={version}", *common]) == 0
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert set(answers) <= {1.0, 2.0, 3.0}
    assert _times(server.address, "stable") == (1.0, 1)


@pytest.mark.process
@pytest.mark.parametrize(("version", "reason"), [(7, "version 7"), (9, "version 9")], ids=["absent", "broken"])
def test_a_version_that_does_not_load_changes_nothing(server, file, version, reason, capsys):
    text = file.read_text()
    arguments = [f"--model_config_file={file}", "--model_name=times", f"--server={server.address}", "--timeout_s=5"]
    assert rollout.main(["promote", f"--version={version}", *arguments]) == 1
    assert "error: " in (message := capsys.readouterr().err)
    assert reason in message or "did not become available" in message
    assert file.read_text() == text
    assert _times(server.address, "stable") == (1.0, 1)


@pytest.mark.process
def test_without_a_server_only_the_file_changes_and_a_server_that_polls_it_follows(times, file):
    flags = (f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1")
    with ServerProcess(*flags, "--allow_version_labels_for_unavailable_models") as server:
        assert rollout.main(["promote", "--version=2", f"--model_config_file={file}", "--model_name=times"]) == 0
        wait_until(lambda: _times(server.address, "stable") == (2.0, 2))


def test_a_file_is_never_half_written(file, monkeypatch):
    text = file.read_text()

    def fail(source, target) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        rollout.write_config(file, labels.promoted(_read(file), model_name="times", version=2, label="stable"))
    assert file.read_text() == text
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.process
def test_the_command_line_names_an_unknown_model(file):
    command = [sys.executable, "-m", "serving", "promote", "--version", "2", "--model_config_file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("error: there is no model 'mnist' in the configuration; it has: times\n")


def test_a_version_must_be_a_number(file, capsys):
    with pytest.raises(SystemExit) as ended:
        rollout.main(["promote", "--version", "latest", f"--model_config_file={file}"])
    assert ended.value.code == 2
    assert "'latest' is not a version; give the number of its folder, like 2" in capsys.readouterr().err
