"""`python -m serving`: read the flags, then serve, hand over to the real binary, change versions, or tune."""

import dataclasses
import difflib
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from . import flags, worker
from .config.memory import memory_limit, within_memory
from .config.models import model_names
from .flags import FlagError, Parsed, ServerConfig
from .processes import supervisor
from .processes.number import choose

logger = logging.getLogger(__name__)

BINARY = "tensorflow_model_server"
DEFAULT_MODELS = "models"
DEFAULT_REST_PORT = 8501
BAD_FLAGS = 255  # what -1 is as an exit code
VERY_NEAR = 0.85  # a flag's name and what was typed: one or two letters apart


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in ("promote", "rollback"):
        from .rollout import main as change_versions  # it imports protobuf messages and gRPC, which flags do not need

        return change_versions(arguments)
    if arguments and arguments[0] == "keys":
        from .access.command import main as make_keys

        return make_keys(arguments[1:])
    if arguments and arguments[0] == "tune":
        return _tune(arguments[1:])
    if any(argument in ("--help", "-h", "--helpfull") for argument in arguments):
        print(flags.usage())
        return 0
    try:
        parsed = flags.parse(arguments)
    except FlagError as error:
        print(error, file=sys.stderr)
        return BAD_FLAGS
    if parsed.config.version:
        print(_version())
        return 0
    if (binary := _binary(parsed.config)) is not None:
        try:
            _exec_binary(binary, [*flags.for_the_real_binary(parsed), *_flags_for_models(parsed)])
        except FlagError as error:
            print(error, file=sys.stderr)
            return BAD_FLAGS
    if parsed.config.engine == BINARY:
        print(f"--engine={BINARY}: there is no {BINARY} on the PATH; install it, or use --engine=auto", file=sys.stderr)
        return BAD_FLAGS
    for argument in parsed.unknown:
        if meant := _protecting(argument):
            print(
                f"unknown argument: {argument}; without --{meant} the server would be open, and is not started",
                file=sys.stderr,
            )
            return BAD_FLAGS
        print(f"unknown argument: {argument}{_nearest(argument)}, passed over; see --help", file=sys.stderr)
    return _serve(parsed)


def _tune(arguments: Sequence[str]) -> int:
    with worker.tensorflow_import():
        from .tuning.command import main as tune
    return tune(arguments)


def _protecting(argument: str) -> str:
    """The flag that keeps somebody out and is nearly spelled so; empty if there is none."""
    name = argument.removeprefix("--").partition("=")[0]
    near = difflib.get_close_matches(name, flags.ACCESS, n=1, cutoff=VERY_NEAR)
    return near[0] if near and argument.startswith("--") else ""


def _nearest(argument: str) -> str:
    """What was probably meant, if there is something like it."""
    name = argument.removeprefix("--").partition("=")[0]
    names = [field.name for field in dataclasses.fields(ServerConfig)]
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean --{near[0]}?)" if near and argument.startswith("--") else ""


def _serve(parsed: Parsed) -> int:
    from .monitoring import logs

    logs.configure(parsed.config.log_format)
    without_effect = sorted(set(parsed.given) & flags.WITHOUT_EFFECT)
    if without_effect:
        logger.info("accepted without effect here: %s", ", ".join(f"--{name}" for name in without_effect))
    config, folder = within_memory(parsed.config, parsed.given, memory_limit()), None
    if not _names_models(parsed):
        folder = Path(DEFAULT_MODELS).absolute()
        try:
            names = _models_in(folder)
        except FlagError as error:
            print(error, file=sys.stderr)
            return BAD_FLAGS
        if "rest_api_port" not in parsed.given:
            config = dataclasses.replace(config, rest_api_port=DEFAULT_REST_PORT)
        logger.info("serving %s from %s on gRPC %d and REST %d", names, folder, config.port, config.rest_api_port)
    try:
        number = choose(config, folder)
    except FlagError as error:
        print(error, file=sys.stderr)
        return BAD_FLAGS
    if number > 1:
        return supervisor.run(config, folder, number)
    return worker.run(config, folder)


def _binary(config: ServerConfig) -> str | None:
    """The real server's path, if it is asked for and installed."""
    return None if config.engine == "embedded" else shutil.which(BINARY)


def _exec_binary(binary: str, arguments: Sequence[str]) -> NoReturn:
    """Become the real server."""
    sys.stderr.flush()
    os.execv(binary, [binary, *arguments])


def _flags_for_models(parsed: Parsed) -> list[str]:
    """A start without model flags in flags of the real server, which needs some.

    Raises: FlagError.
    """
    if _names_models(parsed):
        return []
    folder = Path(DEFAULT_MODELS).absolute()
    names = _models_in(folder)
    if len(names) > 1:
        raise FlagError(
            f"{BINARY} serves several models from a file only, and {folder} holds {', '.join(names)}: name the file "
            f"with --model_config_file, or one model with --model_name and --model_base_path"
        )
    rest = [] if "rest_api_port" in parsed.given else [f"--rest_api_port={DEFAULT_REST_PORT}"]
    return [f"--model_name={names[0]}", f"--model_base_path={folder / names[0]}", *rest]


def _names_models(parsed: Parsed) -> bool:
    return not set(parsed.given).isdisjoint({"model_name", "model_base_path", "model_config_file"})


def _models_in(folder: Path) -> list[str]:
    """The models in `folder`, at least one.

    Raises: FlagError.
    """
    names = model_names(folder)
    if not names:
        raise FlagError(
            f"There is nothing to serve: {folder} holds no model (a folder with numbered version folders). "
            f"Name one with --model_name and --model_base_path, or see --help"
        )
    return names


def _version() -> str:
    own, tensorflow = _installed("inkling-serving"), _installed("tensorflow")
    return f"TensorFlow ModelServer: Inkling {own}\nTensorFlow Library: {tensorflow}"


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # run from its folder, or under another name such as tf-nightly
        return "unknown"
