"""docs/serving.md knows every flag, RPC, route and metric that there is."""

import dataclasses
import re
from pathlib import Path

import pytest
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

from inkling.serving.flags import OURS, WITHOUT_EFFECT, ServerConfig
from inkling.serving.monitoring.metrics import Metrics
from inkling.serving.proto import open_inference_pb2

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
FLAG_TABLE = PAGE.partition("## Flags")[2].partition("## gRPC")[0]


def flag_rows():
    """What the table says of each flag: same, differs, no effect, ours."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:]] for line in FLAG_TABLE.splitlines() if line.startswith("| `")
    ]
    return {name: says for names, _, says, *_ in rows for name in re.findall(r"`(\w+)`", names)}


def test_every_flag_has_a_row_that_says_what_it_does():
    fields = {field.name for field in dataclasses.fields(ServerConfig)}
    rows = flag_rows()
    assert rows.keys() == fields | {"use_tflite_model"}
    assert {name for name, says in rows.items() if says == "no effect"} == WITHOUT_EFFECT
    assert {name for name, says in rows.items() if says == "ours"} == OURS


@pytest.mark.parametrize(
    "module", [prediction_service_pb2, model_service_pb2, open_inference_pb2], ids=lambda module: module.__name__
)
def test_every_rpc_is_named(module):
    for service in module.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert f"`{service.name}.{method.name}`" in PAGE or f"`{method.name}`" in PAGE


def test_every_metric_is_named():
    names = re.findall(r"# TYPE (\S+) ", Metrics().exposition().decode())
    for name in names:
        if name.startswith((":", "inkling")):
            assert f"`{name}`" in PAGE or f"`{name.rpartition(':')[2]}`" in PAGE, name
