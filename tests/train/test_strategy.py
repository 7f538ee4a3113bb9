"""Which CPUs a worker keeps to, as the operating system has it."""

import os
import threading

import pytest

from inkling.train.strategy import keep_to_own_cpus

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind threads")


def cpus_of_a_worker(local_rank, *, local_workers, num_cpus):
    """What a thread of the worker may run on; in a thread of its own, as the binding outlives the call."""
    found = []

    def work():
        keep_to_own_cpus(local_rank, local_workers=local_workers, num_cpus=num_cpus)
        started_later = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        started_later.start()
        started_later.join()

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    return found[0]


ALL = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


@pytest.mark.skipif(len(ALL) < 2, reason="one CPU")
def test_workers_that_have_all_cpus_share_them_out():
    shares = [cpus_of_a_worker(rank, local_workers=len(ALL), num_cpus=1) for rank in range(len(ALL))]
    assert [len(share) for share in shares] == [1] * len(ALL)
    assert set().union(*shares) == ALL


def test_a_worker_alone_is_not_bound():
    assert cpus_of_a_worker(0, local_workers=1, num_cpus=len(ALL)) == ALL
    assert cpus_of_a_worker(0, local_workers=1, num_cpus=1) == ALL


@pytest.mark.parametrize("more", [-1, 1])
def test_workers_that_have_fewer_or_more_than_all_cpus_are_not_bound(more):
    assert cpus_of_a_worker(0, local_workers=len(ALL) + more, num_cpus=1) == ALL
