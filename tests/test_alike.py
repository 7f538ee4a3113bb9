"""The packages share no code, so that each installs alone: what they have to do alike stands in each, to the letter."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRACES = ["client/trace_export.py", "serving/monitoring/trace_export.py", "train/tracking/traces.py"]
RAY = ["client/batch/pool.py", "train/cluster/connection.py"]
ALIKE = {
    **{name: TRACES for name in ("is_wanted", "_resource", "_exporter_names", "_endpoint")},
    **{name: RAY for name in ("patience", "_own_signal_handlers", "_init", "_check_listening")},
}


@pytest.mark.parametrize(("name", "files"), ALIKE.items(), ids=ALIKE)
def test_what_stands_in_several_packages_is_the_same(name, files):
    assert len({function(file, name) for file in files}) == 1


def function(file, name):
    """The source of a module's function, without comments."""
    tree = ast.parse((ROOT / file).read_text())
    [found] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return ast.unparse(found)
