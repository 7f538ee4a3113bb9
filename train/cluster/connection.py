"""Find or start a Ray cluster, as quietly and as patiently as a person at a terminal needs it."""

import json
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

from .. import quiet

POLL_S = 0.2  # between two looks whether a node has come up
CONNECT_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0  # for a node on this machine to come up, at each of its tries
STARTS = 3
# A worker that does not answer for this long is dead. Ray waits 10 minutes, which a frozen process is not worth:
# https://docs.ray.io/en/master/train/user-guides/debugging.html
RAY_DEFAULTS = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1"}


class ClusterUnreachable(RuntimeError):
    """No Ray cluster answers at the address, or it does not let us in; the message says what to try."""


@contextmanager
def connected(address: str, *, onednn: bool | None, verbose: bool) -> Iterator[None]:
    """Ray while the context lasts: started on this machine (`local`), or a cluster that is joined.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.
        onednn: whether the workers' CPU kernels are oneDNN's; None leaves it to TensorFlow.

    Raises: ClusterUnreachable.
    """
    _connect(address, onednn=onednn, verbose=verbose)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str, *, onednn: bool | None, verbose: bool) -> None:
    for name, value in RAY_DEFAULTS.items():
        os.environ.setdefault(name, value)
    level = logging.INFO if verbose else logging.ERROR
    variables = {"TF_CPP_MIN_LOG_LEVEL": "0" if verbose else "2"}
    if onednn is not None:
        variables[quiet.ONEDNN] = str(int(onednn))
    environment: dict[str, Any] = {"env_vars": variables}
    options: dict[str, Any] = {"log_to_driver": verbose, "logging_level": level}
    staged = tempfile.TemporaryDirectory()  # until ray.init has sent it
    if address == "local":
        options["include_dashboard"] = False
    else:
        # The cluster's nodes need TensorFlow and Ray, not this repository: its code travels with the job.
        environment["py_modules"] = [str(_shipped_package(Path(staged.name)))]
        environment["excludes"] = ["mnist/mnist.npz", "**/__pycache__"]  # data goes through the object store
        if not verbose:
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # or it tells each try to connect
    try:
        with staged:
            _check_listening(address)
            with _own_signal_handlers(), patience() if address == "local" else nullcontext():
                options["runtime_env"] = _beside_the_jobs_own(environment)
                _init(address, options, tries=STARTS if address == "local" else 1)
        if not verbose:
            # The last log lines of a lost node, pages of them; that it is lost is said in a line of ours.
            global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    except (OSError, ray.exceptions.AuthenticationError) as error:
        raise ClusterUnreachable(
            f"no Ray cluster answers at {address} ({last_line(error)}); start one with `ray start --head`, correct "
            "--address, or leave it out to use this machine alone; a cluster with token authentication wants "
            "RAY_AUTH_MODE=token and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error
    except Exception as error:
        # Beside these two Ray raises bare exceptions, as when its processes do not answer within 30 s.
        if type(error) is not Exception and not isinstance(error, RuntimeError | ValueError):
            raise
        verb = "start" if address == "local" else "join the cluster"
        raise ClusterUnreachable(f"Ray could not {verb}: {last_line(error)}; --verbose shows all it says") from error


def _init(address: str, options: dict[str, Any], *, tries: int) -> None:
    """Join Ray, or start it: on a busy machine its raylet ends when its agents are not there within 15 s.

    https://github.com/ray-project/ray/issues/65983
    """
    try:
        ray.init(address=address, **options)
    except Exception as error:
        if type(error) is not Exception or tries == 1:  # as Ray says that a node of its own did not come up
            raise
        ray.shutdown()
        _init(address, options, tries=tries - 1)


def _beside_the_jobs_own(environment: dict[str, Any]) -> dict[str, Any]:
    """`environment` without what the runtime environment of a submitted Ray job sets, in which this process runs.

    Ray refuses two values for one field or variable, and its refusal shows all variables, secrets among them:
    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/worker.py#L1789
    """
    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")).get("runtime_env") or {}
    ours = {name: value for name, value in environment.items() if name == "env_vars" or name not in job}
    variables = {name: value for name, value in ours["env_vars"].items() if name not in job.get("env_vars", {})}
    return ours | {"env_vars": variables}


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep SIGTERM as it was: `ray.init` has it end the process with status 15, without a hint how to go on.

    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/worker.py#L1679
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def patience() -> Iterator[None]:
    """Let a node that starts here take START_TIMEOUT_S: Ray gives up after 30 s, which a busy machine may need.

    https://github.com/ray-project/ray/blob/ray-2.60.0/python/ray/_private/node.py#L428
    """
    get_node = services.get_node

    def ask_again(gcs_address: str, node_id: str) -> Any:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return get_node(gcs_address, node_id)
            except RuntimeError:  # not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    services.get_node = ask_again
    try:
        yield
    finally:
        services.get_node = get_node


def _shipped_package(staged: Path) -> Path:
    """The folder that workers import this package from, under the name that the driver has it by.

    In a checkout that is `train` and the folder itself; installed it is `inkling.train`, and Ray, which takes a
    folder's own name for the package's, gets a copy of it in `staged/inkling`.
    """
    folder = Path(__file__).parents[1]
    *namespace, _, _ = __name__.split(".")
    if len(namespace) == 1:
        return folder
    skip = shutil.ignore_patterns("mnist.npz", "__pycache__")
    shutil.copytree(folder, staged.joinpath(*namespace), ignore=skip)
    return staged / namespace[0]


def _check_listening(address: str) -> None:
    """Raise OSError at once if nothing listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def last_line(error: BaseException) -> str:
    """The last line of an error, or of what caused it in another process, with its class."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"[:400]
