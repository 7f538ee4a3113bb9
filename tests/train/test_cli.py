"""The command line as a person types it: real processes, without Ray."""

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import keras
import numpy as np
import pytest

from inkling.client import Client
from inkling.train.cli import main
from inkling.train.publishing import signing
from tests.patience import PATIENCE_S, wait_until
from tests.server_process import ServerProcess
from tests.signing_keys import write_key_pair

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SMALL = ["--epochs", "3", "--widths", "8", "8", "8", "8", "--validation-size", "100", "--global-batch-size", "32"]
OF_TENSORFLOW = re.compile(r"\bI\d{4} .*\w\.cc:\d+\] ")  # a line of its log; what it says depends on the processor


def inkling(*arguments, cwd=None, check=None, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "train", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


def inkling_here(*arguments, cwd, check):
    """As `inkling`, in this process, which has TensorFlow imported already."""
    output, errors, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    try:
        with chdir(cwd), redirect_stdout(output), redirect_stderr(errors):
            status = main([str(argument) for argument in arguments])
    except SystemExit as error:  # flags that make no sense
        status = error.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert status == check, output.getvalue() + errors.getvalue()
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


@pytest.fixture(scope="module")
def trained(digits_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run = ["--in-process", *SMALL, "--data", digits_file, "--name", "small", "--min-accuracy", "0.5"]
    return folder, inkling(*run, cwd=folder, check=0, INKLING_REVISION="0123abcd")


def test_a_job_goes_from_data_to_a_published_model(trained):
    folder, done = trained
    report = json.loads((folder / "runs/small/report.json").read_text())
    assert f"test accuracy   {report['test']['accuracy']:.2%} (203 images)" in done.stdout
    assert "published       " in done.stdout and "models/mnist/1" in done.stdout
    assert report["timed_steps"] == report["step"] and " thread" in report["hardware"]
    assert report["git_revision"] == "0123abcd" and report["parameters"] > 0
    files = {path.name for path in (folder / "runs/small").iterdir()}
    assert files >= {
        "config.json", "metrics.jsonl", "checkpoints", "tensorboard", "learning_curve.png", "confusion_matrix.png",
        "mistakes.png", "report.json", "mnist.h5",
    }  # fmt: skip
    version = folder / "models/mnist/1"
    assert (version / "saved_model.pb").exists() and (version / "assets.extra/tf_serving_warmup_requests").exists()


def test_output_for_no_terminal_is_plain_lines(trained):
    _, done = trained
    assert "\x1b" not in done.stderr + done.stdout
    assert "epoch 1/3  loss " in done.stderr and "images/s" in done.stderr
    assert not any(word in done.stderr for word in ("oneDNN", "absl", "WARNING"))
    assert not OF_TENSORFLOW.search(done.stderr)
    assert len(done.stdout.splitlines()) == 4


def test_the_model_card_says_where_the_model_comes_from(trained, digits):
    folder, _ = trained
    card = json.loads((folder / "models/mnist/1/model_card.json").read_text())
    assert card["version"] == 1 and card["run"] == "small" and card["seed"] == 0
    assert card["data"]["sha256"] == digits.checksum()
    assert card["config"]["widths"] == [8, 8, 8, 8]
    assert card["versions"]["keras"] == keras.__version__
    assert (
        card["versions"]["inkling"]
        == tomllib.loads((ROOT / "train" / "pyproject.toml").read_text())["project"]["version"]
    )
    assert card["git_revision"] == "0123abcd"
    assert card["parameters"] == keras.models.load_model(folder / "runs/small/mnist.h5", compile=False).count_params()
    assert card["metrics"]["num_examples"] == 203


def test_evaluate_agrees_for_every_form_of_the_model(trained, digits_file):
    folder, _ = trained
    report = json.loads((folder / "runs/small/report.json").read_text())["test"]
    forms = ("models/mnist", "runs/small/mnist.h5")
    for model in (*forms, *(f"file://{folder}/{form}" for form in forms)):
        ask = inkling if model == forms[0] else inkling_here
        done = ask("evaluate", model, "--data", digits_file, "--json", cwd=folder, check=0)
        found = json.loads(done.stdout)
        assert found["confusion"] == report["confusion"]
        assert found["loss"] == pytest.approx(report["loss"], rel=1e-4)


def test_evaluate_passes_over_a_version_that_is_not_whole(trained, digits_file, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "models/mnist/1", tmp_path / "mnist/1")
    (tmp_path / "mnist/2/variables").mkdir(parents=True)
    for model in ("mnist", f"file://{tmp_path}/mnist"):
        inkling_here("evaluate", model, "--data", digits_file, cwd=tmp_path, check=0)


def test_evaluate_prints_a_table_and_draws_pictures(trained, digits_file):
    folder, _ = trained
    done = inkling_here("evaluate", "models/mnist/1", "--data", digits_file, "--pictures", "p", cwd=folder, check=0)
    assert done.stdout.startswith("accuracy ") and "precision" in done.stdout
    assert {path.name for path in (folder / "p").iterdir()} == {"confusion_matrix.png", "mistakes.png"}


def test_publish_takes_an_earlier_run_and_keeps_its_bar(trained):
    folder, _ = trained
    done = inkling_here("publish", "small", "--checkpoint", "best", "--model-name", "again", cwd=folder, check=0)
    assert done.stdout.strip().endswith("models/again/1")
    refused = inkling_here("publish", "small", "--model-name", "never", "--min-accuracy", "1", cwd=folder, check=1)
    assert "is below --min-accuracy 100.00%" in refused.stderr
    assert not (folder / "models/never").exists()
    place = f"oci-layout:{folder}/image"
    done = inkling_here("publish", "small", "--oci", place, cwd=folder, check=0)
    assert re.fullmatch(rf"{place}:1@sha256:[0-9a-f]{{64}}", done.stdout.strip())


@pytest.mark.slow
def test_a_server_takes_signed_versions_and_keeps_the_one_before_when_others_come(trained, digits, tmp_path):
    model_signing = pytest.importorskip(
        "model_signing", reason="model-signing is not installed: pip install 'inkling-train[sign]'"
    )
    folder, (private, public), base = trained[0], write_key_pair(tmp_path, "ours"), tmp_path / "models" / "mnist"
    inkling_here("publish", "small", "--model-dir", base.parent, "--sign", private, cwd=folder, check=0)
    inkling_here("verify", base / "1", "--key", public, cwd=folder, check=0)
    libraries = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(model_signing.__file__).parents[1])])}
    flags = [f"--model_base_path={base}", f"--verify_models={public}", "--max_num_load_retries=0", "--drain_seconds=1"]
    with (
        ServerProcess("--model_name=mnist", *flags, environment=libraries) as server,
        Client(server.address) as client,
    ):
        expected = client.predict(digits.test_images).probabilities

        def come(version, source, change=lambda path: None):
            """What is said of a version that comes, once it serves or is refused."""
            shutil.copytree(source, tmp_path / "coming")
            change(tmp_path / "coming")
            (tmp_path / "coming").rename(base / str(version))
            wait_until(lambda: ended(version), server.log_text)
            return ended(version)[0].error

        def ended(version):
            found = [each for each in client.status().versions if each.version == version]
            return [each for each in found if each.state in ("AVAILABLE", "END")]

        assert "2 is not loaded: it has no model.sig" in come(2, folder / "models/mnist/1")
        assert re.search("3 is not loaded: .*Hash mismatch for 'variables/", come(3, base / "1", change_a_weight))
        stranger = write_key_pair(tmp_path, "stranger")[0]
        foreign = come(4, base / "1", lambda path: signing.sign(path, stranger))
        assert "4 is not loaded: its signature does not hold for the key of --verify_models" in foreign
        again = client.predict(digits.test_images)
        assert again.version == 1 and np.array_equal(again.probabilities, expected)
        assert come(5, base / "1") == "" and client.predict(digits.test_images).version == 5


def change_a_weight(version):
    file = next((version / "variables").glob("*.data-*"))
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


def test_a_complete_run_is_not_trained_again(trained, digits_file):
    folder, _ = trained
    done = inkling("--in-process", *SMALL, "--data", digits_file, "--name", "small", cwd=folder, check=1)
    assert "run 'small' is complete" in done.stderr and "python -m train publish small" in done.stderr


def test_a_run_that_was_stopped_before_it_published_publishes_when_it_goes_on(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "runs/small", tmp_path / "runs/small")
    report = tmp_path / "runs/small/report.json"
    report.write_text(json.dumps({"test": {}}))
    done = inkling("--in-process", "--resume", "small", cwd=tmp_path, check=0)
    assert "going on from step" in done.stderr and "epoch 1/3" not in done.stderr
    assert json.loads(report.read_text())["published"] == str(folder / "models/mnist/2")  # where it was begun for


def test_a_run_goes_on_only_with_its_own_settings(trained, tmp_path):
    folder, _ = trained
    run = tmp_path / "runs" / "small"
    run.mkdir(parents=True)
    (run / "config.json").write_bytes((folder / "runs/small/config.json").read_bytes())
    other = inkling("--in-process", "--name", "small", cwd=tmp_path, check=1)
    assert "begun with other settings (" in other.stderr and "epochs=3 then, 6 now" in other.stderr
    data = inkling("--in-process", *SMALL, "--name", "small", "--min-accuracy", "0.5", cwd=tmp_path, check=1)
    assert "begun with other data" in data.stderr


def test_a_run_keeps_the_precision_of_the_machine_that_began_it(trained, tmp_path):
    folder, _ = trained
    config = json.loads((folder / "runs/small/config.json").read_text())
    config["train"]["precision"] = "float16"  # which no machine chooses
    run = tmp_path / "runs" / "small"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(config))
    again = ["--in-process", *SMALL, "--name", "small", "--min-accuracy", "0.5"]
    assert "begun with other data" in inkling(*again, cwd=tmp_path, check=1).stderr  # its settings are no hindrance
    other = inkling(*again, "--precision", "float32", cwd=tmp_path, check=1)
    assert "precision='float16' then, 'float32' now" in other.stderr


def test_in_process_needs_no_cluster_even_where_a_variable_names_one(tmp_path):
    done = inkling("--in-process", "--data", "gone.npz", cwd=tmp_path, check=2, RAY_ADDRESS="127.0.0.1:1")
    assert "no data at gone.npz" in done.stderr


def test_a_terminal_shows_one_live_line_and_verbose_all_logs(digits_file, tmp_path):
    master, terminal = pty.openpty()
    arguments = ["--in-process", *SMALL, "--data", digits_file, "--no-publish", "--verbose"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # the terminal's other end is closed
        while part := os.read(master, 65536):
            shown += part
    os.close(master)
    assert process.wait(PATIENCE_S) == 0, shown
    text = shown.decode()
    assert "\x1b[2K" in text and "epoch 1/3" in text and "learning rate" in text  # a line that is drawn again
    assert "test accuracy   " in text
    assert OF_TENSORFLOW.search(text)


MISTAKES = {
    "unknown run": (["--resume", "nothing"], 1, "there is no run 'nothing' to resume in runs; it has: none"),
    "publish unknown": (["publish", "nothing"], 1, "there is no run 'nothing' in runs"),
    "no repository": (["publish", "small", "--oci", "mnist"], 2, "--oci 'mnist' names no registry and repository"),
    "no registry": (["--model-dir", "oci://models"], 2, "--oci 'models/mnist' names no registry and repository"),
    "two names": (["--resume", "a", "--name", "b"], 2, "--resume a and --name b differ"),
    "no data": (["--data", "gone.npz"], 2, "no data at gone.npz"),
    "bad name": (["--name", "../x"], 2, "run name '../x' is not usable"),
    "range": (["--epochs", "0"], 2, "--epochs takes at least 1"),
    "not a number": (["--epochs", "many"], 2, "--epochs"),
    "unknown flag": (["--epoch", "3"], 2, "Perhaps you meant"),
    "unknown recipe": (["--recipe", "slow"], 2, "slow"),
    "no workers": (["--num-workers", "0"], 2, "num_workers='0'"),
    "model outside": (["--model-name", "../x"], 2, "model_name="),
    "flattened": (["--scale", "1"], 2, "scale=1.0"),
    "workers without Ray": (
        ["--in-process", "--num-workers", "2"],
        2,
        "num_workers='2' is out of range",
    ),
    "xla": (["--jit-compile", "True", "--in-process"], 2, "there are none here; leave it out"),
    "other settings": (["--resume", "a", "--epochs", "9"], 2, "--resume goes on with the run's own settings"),
    "resumed recipe": (["--resume", "a", "--recipe", "quick"], 2, "--resume goes on with the run's own settings"),
    "resumed for elsewhere": (["--resume", "a", "--model-name", "b"], 2, "--resume goes on with the run's own"),
    "nowhere to publish": (["--model-dir", "/proc/models"], 1, "--model-dir /proc/models cannot be written: /proc"),
    "nowhere to write": (["--storage", "/proc/runs", "--in-process"], 1, "/proc/runs"),
    "no model": (["evaluate", "gone"], 2, "gone is not a model"),
}


@pytest.mark.parametrize(("arguments", "status", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_in_a_line(tmp_path, arguments, status, message):
    done = inkling_here(*arguments, cwd=tmp_path, check=status)
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path):
    command = [sys.executable, "-m", "train", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_help_teaches(tmp_path):
    done = inkling("--help", cwd=tmp_path, check=0)
    for word in ("--num-workers", "passes over the training set", "python -m train publish", "--rotation-degrees"):
        assert word in done.stdout


def test_data_of_another_size_in_colour_and_with_other_classes_trains_and_publishes(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(600) % 3
    images = random.integers(0, 40, (600, 16, 20, 3), dtype=np.uint8)
    images[np.arange(600), 4:12, 4:12, labels] = 255  # a colour tells the class
    np.savez(tmp_path / "rows.npz", x_train=images, y_train=labels, x_test=images[:60], y_test=labels[:60])
    done = inkling(
        "--in-process", *SMALL, "--policy", "none", "--data", "rows.npz", "--model-name", "rows", "--name", "r",
        cwd=tmp_path, check=0,
    )  # fmt: skip
    assert "test accuracy   100.00% (60 images)" in done.stdout and "--channels 1 makes them grey" in done.stderr
    card = json.loads((tmp_path / "models/rows/1/model_card.json").read_text())
    assert card["channels"] == 3 and "(16, 20) colour image" in card["description"]
    done = inkling_here("evaluate", "models/rows", "--data", "rows.npz", cwd=tmp_path, check=0)
    assert "accuracy                    100.00%" in done.stdout
    wrong = inkling_here("evaluate", "models/rows", cwd=tmp_path, check=2)
    assert "28" in wrong.stderr and "Traceback" not in wrong.stderr
