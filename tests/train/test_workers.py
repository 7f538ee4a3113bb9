"""How many workers a cluster gets, by what its nodes have."""

import pytest

from inkling.train.cluster import ClusterTooSmall, WorkerPlan, plan_workers

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
