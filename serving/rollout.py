"""`python -m serving promote` and `rollback`: move the labels `stable` and `canary` between versions of a model.

    python -m serving promote --version 2 --label canary --model_config_file models.config
    python -m serving promote --version 2 --model_config_file models.config
    python -m serving rollback --model_config_file models.config

The servers load the version first, then the label moves, then the file is written: calls by label succeed at every
moment, and servers that start later, or poll the file, find the same. Without `--server` only the file changes: for a
ConfigMap, which the servers on a cluster poll.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from . import version_labels
from .config import files
from .errors import ServingError

OK, FAILED, USAGE = 0, 1, 2
POLL_S = 0.2  # between two looks at a version that loads
CALL_TIMEOUT_S = 30  # for a look; a reload, which returns when the models are loaded, has --timeout_s
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
END = get_model_status_pb2.ModelVersionStatus.END


class RolloutFailed(RuntimeError):
    """A server did not take the change; the message says which one, why, and what state is left."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line, which begins with `promote` or `rollback`; returns the exit code."""
    flags = parse(arguments)
    try:
        before = files.read_models(str(flags.model_config_file))
        if flags.command == "promote":
            after = version_labels.promoted(
                before, model_name=flags.model_name, version=flags.version, label=flags.label
            )
        else:
            after = version_labels.rolled_back(before, model_name=flags.model_name)
        servers = [server for server in flags.server.split(",") if server]
        if servers:
            _roll_out(servers, before, after, flags)
        write_config(flags.model_config_file, after)
    except (ServingError, RolloutFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    moved = dict(version_labels.find_model(after, flags.model_name).version_labels)
    print(f"{flags.model_name}: " + ", ".join(f"{label} {version}" for label, version in sorted(moved.items())))
    return OK


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's flags; one that cannot be read ends the program with the usage."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="Move a label to another version.")
    commands = parser.add_subparsers(dest="command", required=True)
    promote = commands.add_parser("promote", help="put a label on a version")
    promote.add_argument("--version", type=_version, required=True, help="the version's number")
    promote.add_argument(
        "--label", default=version_labels.STABLE, help="stable, canary or one of your own (default: stable)"
    )
    rollback = commands.add_parser("rollback", help="put stable back on the version before the last promotion")
    for command in (promote, rollback):
        command.add_argument("--model_config_file", type=Path, required=True, help="the servers' file, rewritten")
        command.add_argument("--model_name", default="mnist", help="the model's name (default: mnist)")
        command.add_argument("--server", default="", help="HOST:PORT of gRPC, several with commas; none: file only")
        command.add_argument("--tls_ca", type=Path, help="PEM file of the authority to trust; plaintext without")
        command.add_argument("--api_key_file", type=Path, help="an administrator's key; else INKLING_API_KEY's")
        command.add_argument("--key_over_plaintext", action="store_true", help="send it without --tls_ca too")
        command.add_argument("--timeout_s", type=float, default=300, help="for the version to load (default: 300)")
    return parser.parse_args(arguments)


def _version(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a version; give the number of its folder, like 2")
    return int(text)


def _roll_out(
    servers: list[str], before: ModelServerConfig, after: ModelServerConfig, flags: argparse.Namespace
) -> None:
    """Have all servers load what the labels will point at, then have all move them.

    A version that does not load leaves every server as it was.

    Raises: RolloutFailed.
    """
    between = version_labels.with_versions_of(before, after, model_name=flags.model_name)
    versions = version_labels.find_model(after, flags.model_name).model_version_policy.specific.versions
    key = _api_key(flags)
    stubs = {server: model_service_pb2_grpc.ModelServiceStub(_channel(server, flags.tls_ca, key)) for server in servers}
    try:
        for server, stub in stubs.items():
            _reload(server, stub, between, flags.timeout_s)
            for version in versions:
                _wait_until_available(server, stub, flags.model_name, version, flags.timeout_s)
    except RolloutFailed:
        for server, stub in stubs.items():
            _reload(server, stub, before, flags.timeout_s)
        raise
    for server, stub in stubs.items():
        _reload(server, stub, after, flags.timeout_s)


class WithKey(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """Sends an API key with every call."""

    def __init__(self, key: str) -> None:
        self._key = key

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """The call, with the key in its metadata."""
        details = grpc.ClientCallDetails()
        for name in ("method", "timeout", "credentials", "wait_for_ready", "compression"):
            setattr(details, name, getattr(client_call_details, name, None))
        details.metadata = (*(client_call_details.metadata or ()), ("x-api-key", self._key))
        return continuation(details, request)


def _api_key(flags: argparse.Namespace) -> str:
    """An administrator's key, for servers that ask for one; empty without.

    Raises: RolloutFailed if it would cross the network in the clear.
    """
    key = flags.api_key_file.read_text() if flags.api_key_file else os.environ.get("INKLING_API_KEY", "")
    if key.strip() and flags.tls_ca is None and not flags.key_over_plaintext:
        raise RolloutFailed(
            "the API key would cross the network in the clear; give --tls_ca, or --key_over_plaintext where something "
            "else encrypts the connection"
        )
    return str(key.strip())


def _channel(server: str, authority: Path | None, key: str) -> grpc.Channel:
    if authority is None:
        channel = grpc.insecure_channel(server)
    else:
        channel = grpc.secure_channel(server, grpc.ssl_channel_credentials(authority.read_bytes()))
    return grpc.intercept_channel(channel, WithKey(key)) if key else channel


def _reload(
    server: str, stub: model_service_pb2_grpc.ModelServiceStub, config: ModelServerConfig, timeout_s: float
) -> None:
    request = model_management_pb2.ReloadConfigRequest(config=config)
    try:
        status = stub.HandleReloadConfigRequest(request, timeout=timeout_s).status
    except grpc.RpcError as error:
        raise RolloutFailed(f"{server} refuses the configuration: {error.details()} ({error.code().name})") from error
    if status.error_code:
        raise RolloutFailed(f"{server} refuses the configuration: {status.error_message}")


def _wait_until_available(
    server: str, stub: model_service_pb2_grpc.ModelServiceStub, model_name: str, version: int, timeout_s: float
) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model_name
    request.model_spec.version.value = version
    deadline = time.monotonic() + timeout_s
    last = "it does not know the version; is its folder in the model repository?"
    while time.monotonic() < deadline:
        try:
            [found] = stub.GetModelStatus(request, timeout=CALL_TIMEOUT_S).model_version_status
        except grpc.RpcError as error:
            last = error.details() or error.code().name
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise RolloutFailed(f"{server} does not tell the version's state: {last}") from error
        else:
            if found.state == AVAILABLE:
                return
            last = found.status.error_message or f"its state is {found.State.Name(found.state)}"
            if found.state == END and found.status.error_code:
                break
        time.sleep(POLL_S)
    raise RolloutFailed(f"{server} does not serve version {version} of {model_name!r}: {last}; nothing has changed")


def write_config(path: Path, config: ModelServerConfig) -> None:
    """Put the configuration into the file, whole or not at all; the comment that the file begins with stays."""
    text = "".join(_leading_comment(path.read_text())) + text_format.MessageToString(config)
    mode = path.stat().st_mode & 0o777
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, mode)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _leading_comment(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    end = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]
