"""What tests of several packages need: their environment, and a really trained digit model, as a server finds it."""

import os
import shutil
import signal
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

# The tests are about this code on any machine, and run beside each other: of processes that share a GPU, the first
# takes its memory. Those of tests/train/test_gpu.py undo this.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# TensorFlow leaves oneDNN off on CPUs without AVX-512, where training with it is 2.6 times as fast. It is read when
# TensorFlow is imported, here and in the processes that tests start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# A shell's background jobs are deaf to Ctrl-C, those of `nohup` to SIGHUP, and so is what they start: the tests that
# send these would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    with suppress(ValueError):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

from tests import digit_models as kept
from tests import quick

# Files of minutes come first, or one worker would be left with them while the others have nothing to do.
LONG_FIRST = ("tests/train/test_ray.py", "tests/train/", "tests/serving/")


def pytest_addoption(parser: pytest.Parser) -> None:
    quick.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    quick.forbid_processes()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    quick.watch(item)
    try:
        return (yield)
    finally:
        quick.watch(None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    skipped = config.getoption("--quick") and collection_path.is_file() and quick.is_left_out(collection_path)
    return True if skipped else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, path in enumerate(LONG_FIRST) if item.nodeid.startswith(path)), 9))
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if quick.left_out(item)])
        items[:] = [item for item in items if not quick.left_out(item)]


@pytest.fixture(scope="session")
def digit_models(tmp_path_factory) -> Path:
    """A model repository with `mnist/1`, trained on the real MNIST, 99 % accurate; this test run's own copy."""
    folder = tmp_path_factory.mktemp("digit_models") / "models"
    shutil.copytree(kept.digit_models(), folder)
    return folder
