"""How many workers a cluster gets, by what its nodes have."""

import pytest
import ray
from ray._private import services

from inkling.train.cluster.connection import ClusterUnreachable, connected, patience
from inkling.train.cluster.elastic import PauseStep
from inkling.train.cluster.nodes import ClusterTooSmall, WorkerPlan, plan_elastic, plan_workers
from inkling.train.config import JobConfig

SMALL, LARGE, GPUS = {"CPU": 2.0}, {"CPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}
HEAD = {"memory": 1e9}  # with `num-cpus: 0`, as on Kubernetes


def plan(*nodes, num_workers=None, cpus=None, gpus=None, global_batch_size=128):
    return plan_workers(nodes, num_workers=num_workers, cpus=cpus, gpus=gpus, global_batch_size=global_batch_size)


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        ([SMALL], {}, WorkerPlan(1, 2, 0, "SPREAD")),
        ([HEAD, SMALL, SMALL], {}, WorkerPlan(2, 2, 0, "SPREAD")),
        ([SMALL, LARGE], {}, WorkerPlan(2, 2, 0, "SPREAD")),
        ([SMALL], {"cpus": 1}, WorkerPlan(2, 1, 0)),
        ([LARGE], {"num_workers": 3}, WorkerPlan(3, 2, 0, "SPREAD")),
        ([LARGE], {"num_workers": 3, "cpus": 1}, WorkerPlan(3, 1, 0)),
        ([HEAD, LARGE, GPUS, GPUS], {}, WorkerPlan(2, 16, 4, "SPREAD")),
        ([GPUS], {"num_workers": 4}, WorkerPlan(4, 4, 1, "SPREAD")),
        ([GPUS], {"gpus": 1, "cpus": 2}, WorkerPlan(4, 2, 1)),
        ([GPUS], {"gpus": 0}, WorkerPlan(1, 16, 0)),
        ([GPUS], {"num_workers": 8, "gpus": 0}, WorkerPlan(8, 2, 0)),
    ],
    ids=str,
)
def test_workers_follow_the_nodes(nodes, asked, expected):
    assert plan(*nodes, **asked) == expected


def test_the_global_batch_is_divided_evenly():
    assert plan(*[SMALL] * 5, global_batch_size=128) == WorkerPlan(4, 2, 0, "SPREAD")
    assert plan(*[GPUS] * 3, global_batch_size=96) == WorkerPlan(3, 16, 4, "SPREAD")


def test_more_workers_than_gpus_do_not_train_on_cpus_unasked():
    with pytest.raises(ClusterTooSmall, match="asked for 8 workers, but the cluster has 4 GPUs; .*--gpus-per-worker 0"):
        plan(HEAD, GPUS, num_workers=8)


@pytest.mark.parametrize(
    "asked", [{"num_workers": 2, "gpus": 4}, {"num_workers": 17, "cpus": 1, "gpus": 0}, {"cpus": 32}], ids=str
)
def test_more_than_there_is_is_refused(asked):
    with pytest.raises(ClusterTooSmall, match="16 CPUs and 4 GPUs in all, room for"):
        plan(GPUS, **asked)


def elastic(*nodes, least=1, most=8, cpus=None, gpus=None, global_batch_size=128):
    return plan_elastic(nodes, least=least, most=most, cpus=cpus, gpus=gpus, global_batch_size=global_batch_size)


def test_an_elastic_run_takes_what_is_there_and_divides_its_batch():
    assert str(elastic(SMALL)) == "1 worker with 2 CPUs each"
    assert elastic(SMALL, SMALL, SMALL).num_workers == 2  # three do not divide 128
    assert elastic(SMALL, SMALL, SMALL, global_batch_size=96).num_workers == 3
    assert elastic(*[SMALL] * 20).num_workers == 8
    assert elastic(HEAD, SMALL, LARGE, least=2, most=4).num_workers == 2
    assert elastic(LARGE, cpus=1).num_workers == 8
    assert elastic(SMALL, GPUS, GPUS).gpus == 4


def test_an_elastic_run_that_cannot_begin_says_why():
    with pytest.raises(ClusterTooSmall, match="asked for 4 workers"):
        elastic({"CPU": 2.0}, least=4, cpus=1)
    with pytest.raises(ValueError, match="does not split evenly over any number of workers from 3 to 3"):
        elastic(*[SMALL] * 4, least=3, most=3)


def test_all_workers_learn_of_a_pause_before_they_are_there():
    pauses = PauseStep()
    assert pauses.ask(0, 20) is None and pauses.ask(20, 20) is None
    pauses.pause()
    assert pauses.ask(0, 20) == 60  # the slower worker, a call behind
    assert pauses.ask(40, 20) == pauses.ask(20, 20) == 60


@pytest.mark.parametrize(("text", "bounds"), [("4", (4, 4)), ("1:8", (1, 8)), (None, None), (2, (2, 2))])
def test_a_number_of_workers_or_a_range(text, bounds):
    assert JobConfig(num_workers=text).worker_bounds == bounds


@pytest.mark.parametrize("text", ["0", "8:1", "0:3", "a", "1:2:3", "-1", ""])
def test_what_is_neither_is_refused(text):
    with pytest.raises(ValueError, match="a number from 1, or a range such as 1:8"):
        JobConfig(num_workers=text)


def test_a_node_may_take_longer_to_start_than_ray_waits(monkeypatch):
    looks = []

    def get_node(gcs_address, node_id):
        looks.append(node_id)
        if len(looks) < 3:
            raise RuntimeError("not there yet")
        return {"labels": {}}

    monkeypatch.setattr(services, "get_node", get_node)
    with patience():
        assert services.get_node("127.0.0.1:6379", "node") == {"labels": {}}
    assert looks == ["node"] * 3
    assert services.get_node is get_node


class SlowRay:
    """A Ray whose node does not come up the first few times."""

    def __init__(self, failures):
        self.failures, self.starts = failures, 0

    def init(self, **options):
        self.starts += 1
        if self.starts <= self.failures:
            raise Exception("The current node timed out during startup.")


def test_a_node_that_did_not_come_up_is_started_again(monkeypatch):
    slow = SlowRay(failures=2)
    monkeypatch.setattr(ray, "init", slow.init)
    with connected("local", onednn=None, verbose=True):
        assert slow.starts == 3


def test_a_node_that_never_comes_up_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setattr(ray, "init", SlowRay(failures=9).init)
    one_line = pytest.raises(ClusterUnreachable, match=r"Ray could not start: .*timed out during startup")
    with one_line, connected("local", onednn=None, verbose=True):
        pass
