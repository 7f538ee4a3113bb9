"""In one process, no module of ours is loaded under two names: as `client...` and as `inkling.client...`.

A folder has both names: one in a checkout, one where it is installed. Loaded twice, its classes would be two, and
`except InvalidInput` would not catch the other one.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]
# Runs a module as `python -m` does, or imports it; then prints which of our files were loaded, and as what.
SCRIPT = """
import importlib, json, pathlib, runpy, sys
how, name, *arguments = sys.argv[1:]
sys.argv[1:] = arguments
try:
    if how == "run":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        importlib.import_module(name)
except SystemExit:
    pass
root = pathlib.Path.cwd()
folders = [root / package for package in ("client", "serving", "train")]
found = {}
for module, loaded in sorted(sys.modules.items()):
    path = pathlib.Path(getattr(loaded, "__file__", None) or "/").resolve()
    # What runs is __main__, and the same module __mp_main__ for processes that multiprocessing may start.
    if any(path.is_relative_to(folder) for folder in folders) and module not in ("__main__", "__mp_main__"):
        found.setdefault(str(path.relative_to(root)), []).append(module)
print("loaded:", json.dumps(found))
"""


def loaded(*arguments):
    """The names of each of our files that a process has loaded, by path."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("loaded:")[2])


@pytest.mark.parametrize(
    ("arguments", "prefix"),
    [
        (["run", "client", "--help"], "client"),
        (["run", "inkling.client", "--help"], "inkling.client"),
        (["import", "inkling.client.web.serve"], "inkling.client"),
        (["import", "inkling.client.reading"], "inkling.client"),
        (["run", "serving", "--version"], "serving"),
        (["import", "inkling.serving.server"], "inkling.serving"),
        (["run", "train", "--help"], "train"),
        (["import", "inkling.train.config"], "inkling.train"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_no_module_is_loaded_under_two_names(arguments, prefix):
    found = loaded(*arguments)
    assert found, "nothing of ours was loaded"
    names = [name for names in found.values() for name in names]
    assert len(names) == len(found)
    assert [name for name in names if not f"{name}.".startswith(f"{prefix}.")] == []
