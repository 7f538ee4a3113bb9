"""Flags are read as TensorFlow Serving reads them."""

import subprocess
import sys
from pathlib import Path

import pytest

from inkling.serving import cli, flags
from inkling.serving.config.files import (
    BatchingParameters,
    MonitoringConfig,
    read_batching,
    read_models,
    read_monitoring,
    read_tls,
)
from inkling.serving.errors import ServingError
from inkling.serving.flags import FlagError, ServerConfig
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.server_process import ROOT, ServerProcess

PARALLELISM = ("session", "intra_op", "inter_op")


@pytest.mark.parametrize(
    "arguments, name, value",
    [
        (["--port=9000"], "port", 9000),
        (["--port", "9000"], "port", 9000),
        (["--file_system_poll_wait_seconds", "-1"], "file_system_poll_wait_seconds", -1),
        (["--enable_batching"], "enable_batching", True),
        (["--enable_batching=true"], "enable_batching", True),
        (["--enable_batching", "false"], "enable_batching", False),
        (["--enable_model_warmup=false", "--port=1"], "enable_model_warmup", False),
        (["--per_process_gpu_memory_fraction=0.5"], "per_process_gpu_memory_fraction", 0.5),
        (["--grpc_channel_arguments=a=1,b=x"], "grpc_channel_arguments", "a=1,b=x"),
        (["--use_tflite_model=true"], "prefer_tflite_model", True),
    ],
)
def test_values_are_read(arguments, name, value):
    parsed = flags.parse(arguments)
    assert getattr(parsed.config, name) == value and not parsed.unknown


def test_defaults_are_those_of_tensorflow_serving():
    config = ServerConfig()
    assert (config.port, config.rest_api_port, config.model_name) == (8500, 0, "default")
    assert (config.max_num_load_retries, config.load_retry_interval_micros) == (5, 60_000_000)
    assert (config.file_system_poll_wait_seconds, config.rest_api_timeout_in_ms) == (1, 30_000)


def test_unknown_arguments_are_named_and_passed_over():
    parsed = flags.parse(["--nope=1", "stray", "--port=7"])
    assert parsed.unknown == ("--nope=1", "stray") and parsed.config.port == 7


@pytest.mark.parametrize(
    "argument, text",
    [
        ("--port=x", "--port=x is not usable: expected an integer"),
        ("--port=70000", "--port=70000 is not usable: expected 0 to 65535"),
        ("--rest_api_num_threads=0", "expected 1 to "),
        ("--rest_api_max_body_mb=0", "expected 1 to "),
        ("--max_queued_requests=0", "expected 1 to "),
        ("--grpc_max_concurrent_rpcs=0", "expected 1 to "),
        ("--drain_seconds=nan", "expected 0 to 86400"),
        ("--drain_seconds=-1", "expected 0 to 86400"),
        ("--grpc_channel_arguments=a=1,b", "'b' is not key=value"),
        ("--grpc_channel_arguments=a=4294967296", "its number does not fit in 32 bits"),
        ("--enable_batching=maybe", "expected true or false"),
        ("--num_processes=0", "expected 1 to 999, or auto"),
        ("--engine=other", "expected one of embedded, tensorflow_model_server, auto"),
        ("--request_log_sampling_rate=2", "expected 0.0 to 1.0"),
        ("--model_name", "--model_name needs a value"),
    ],
)
def test_an_unusable_value_ends_the_start_with_one_line(argument, text, capsys):
    assert cli.main([argument]) == 255
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "argument, nearest",
    [("--rest_port=1", " (did you mean --rest_api_port?)"), ("--xyzzy", ""), ("model_name=m", "")],
    ids=["nearly", "nothing like it", "no flag"],
)
def test_an_unknown_argument_is_told_in_one_line(argument, nearest, capsys):
    assert cli.main([argument, "--model_base_path=/m", "--port=0"]) == 255
    assert f"unknown argument: {argument}{nearest}, passed over; see --help\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argument", ["--api_key_file=k", "--verify_model=k", "--rest_ssl_config", "--enabel_admin=false"]
)
def test_a_misspelt_flag_that_was_to_keep_somebody_out_ends_the_start(argument, capsys):
    assert cli.main([argument, "--model_base_path=/m"]) == 255
    error = capsys.readouterr().err
    assert error.startswith(f"unknown argument: {argument}; without --") and "is not started" in error


def test_version_and_help(capsys):
    assert cli.main(["--version"]) == 0
    assert cli.main(["--help"]) == 0
    output = capsys.readouterr().out
    assert "TensorFlow Library: 2." in output
    assert all(f"--{name}=" in output for name in ("port", "drain_seconds", "enable_batching"))


@pytest.mark.process
def test_the_real_binary_is_run_with_its_own_flags_when_asked(tmp_path):
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text('#!/bin/sh\necho "binary: $@"\n')
    binary.chmod(0o755)
    flags_ = ["--engine=auto", "--port", "1", "--drain_seconds=3", "--log_format", "json", "--model_name=m"]
    flags_ += ["--enable_batching", "--enable_model_warmup=0", "--per_process_gpu_memory_fraction=.25", "--of_its_own"]
    command = [sys.executable, "-m", "serving", *flags_]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == (
        "binary: --port=1 --model_name=m --enable_batching=true --enable_model_warmup=false "
        "--per_process_gpu_memory_fraction=0.25 --of_its_own\n"
    )


@pytest.fixture
def start_binary(tmp_path):
    """What the real binary would be started with, in a folder with models."""
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    binary.write_text('#!/bin/sh\necho "binary: $@"\n')
    binary.chmod(0o755)
    (tmp_path / "models" / "digits" / "1").mkdir(parents=True)

    def start(*arguments):
        command = [sys.executable, "-m", "serving", "--engine=auto", *arguments]
        environment = {"PATH": str(binary.parent), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S
        )

    return start


@pytest.mark.process
def test_the_real_binary_is_told_which_model_there_is(start_binary, tmp_path):
    model = f"--model_name=digits --model_base_path={tmp_path}/models/digits"
    assert start_binary().stdout == f"binary: {model} --rest_api_port=8501\n"
    assert start_binary("--rest_api_port=7").stdout == f"binary: --rest_api_port=7 {model}\n"


@pytest.mark.process
def test_the_real_binary_is_not_started_for_what_it_cannot_serve_without_a_file(start_binary, tmp_path):
    (tmp_path / "models" / "letters" / "1").mkdir(parents=True)
    done = start_binary()
    assert done.returncode == 255 and "digits, letters: name the file with --model_config_file" in done.stderr


def test_asking_for_a_binary_that_is_not_there_says_so(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["--engine=tensorflow_model_server"]) == 255
    assert "there is no tensorflow_model_server on the PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--model_name=m"], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (["--model_base_path=/m", "--batching_parameters_file=/b"], "without setting server_options.enable_batching"),
        (["--model_base_path=/m", "--port=0"], "At least one of server_options.grpc_port or"),
        (["--model_base_path=/m", "--use_alts_credentials", "--ssl_config_file=/s"], "use_alts_credentials must be"),
        (
            ["--model_base_path=/m", *[f"--tensorflow_{which}_parallelism=2" for which in PARALLELISM]],
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all.",
        ),
        (["--model_config_file=/nope"], "/nope cannot be read"),
        (["--model_base_path=/m", "--monitoring_config_file=/nope"], "/nope cannot be read"),
    ],
)
def test_flags_that_do_not_go_together_end_the_start(arguments, text, capsys):
    assert cli.main(arguments) == 255
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("Failed to start server. Error: INVALID_ARGUMENT: ") and text in error[-1]


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--port=0"], "At least one of server_options.grpc_port or"),
        (["--batching_parameters_file=/b"], "without setting server_options.enable_batching"),
    ],
)
def test_flags_must_go_together_without_model_flags_too(arguments, text, tmp_path, monkeypatch, capsys):
    (tmp_path / "models" / "m" / "1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 255
    assert text in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("content", [b"improperly formatted file", b"\xff\xfe"], ids=["no protobuf", "no text"])
def test_a_bad_config_file_is_named_as_tensorflow_serving_names_it(content, tmp_path, capsys):
    file = tmp_path / "bad_model_config.txt"
    file.write_bytes(content)
    assert cli.main([f"--model_config_file={file}"]) == 255
    error = capsys.readouterr().err
    assert f"Invalid protobuf file: '{file}'" in error
    if content.isascii():
        assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in error


@pytest.fixture(scope="module")
def server(repository):
    flags_ = ["--model_name=scale", f"--model_base_path={repository / 'scale'}", "--skip_initialize_tpu", "--nope"]
    with ServerProcess(*flags_) as process:
        yield process


@pytest.mark.process
@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_a_port_in_use_ends_the_start(flag, server, repository):
    taken, port = (server.port, "rest_api_port") if flag == "port" else (server.rest_port, "port")
    flags_ = ["--model_name=scale", f"--model_base_path={repository / 'scale'}", f"--{port}={free_port()}"]
    with ServerProcess(*flags_, f"--{flag}={taken}", ready=False, ports=False) as second:
        assert second.process.wait(PATIENCE_S) == 255
        assert "Failed to start server. Error: " in second.log_text()
        assert "in use" in second.log_text()


@pytest.mark.process
def test_flags_without_effect_are_named(server):
    assert "accepted without effect here: --skip_initialize_tpu" in server.log_text()
    assert "unknown argument: --nope, passed over" in server.log_text()
    assert "--ssl_config_file=" not in server.log_text()  # the list of all flags would bury it
    assert f"Running gRPC ModelServer at 0.0.0.0:{server.port} ..." in server.log_text()
    assert f"Exporting HTTP/REST API at:localhost:{server.rest_port} ..." in server.log_text()


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_server_does_without_keras(server):
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "/tensorflow/" in maps
    assert not any(f"/{package}/" in maps for package in ("optree", "pandas", "matplotlib"))  # which Keras imports


@pytest.mark.process
def test_without_model_flags_every_model_in_the_folder_is_served(repository, tmp_path):
    (tmp_path / "models").symlink_to(repository)
    with ServerProcess(cwd=tmp_path) as server:
        assert server.is_serving("scale") and server.is_serving("half_plus_two")
        assert "half_plus_two" in server.log_text() and str(tmp_path / "models") in server.log_text()


def test_without_model_flags_and_models_there_is_one_clear_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([]) == 255
    assert "There is nothing to serve: " in capsys.readouterr().err


def test_config_files_are_read(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8")
    assert read_batching(str(file)) == BatchingParameters(max_batch_size=8, allowed_batch_sizes=(4, 8))
    file.write_text("prometheus_config { enable: true }")
    assert read_monitoring(str(file)) == MonitoringConfig(True, "/monitoring/prometheus/metrics")
    file.write_text('server_key: "k" server_cert: "c" client_verify: true')
    with pytest.raises(ServingError, match="client_verify without custom_ca"):
        read_tls(str(file))
    file.write_text('model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } }')
    assert read_models(str(file)).model_config_list.config[0].name == "a"


def test_a_flag_error_is_a_value_error():
    with pytest.raises(FlagError):
        ServerConfig(port=-1)
