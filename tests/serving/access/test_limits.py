"""Token buckets and counts, by a clock that the test turns."""

import grpc
import pytest

from inkling.serving.access import limits
from inkling.serving.access.callers import Caller, Limits, Refusal
from inkling.serving.access.limits import Limiter


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(clock):
    return Limiter(clock)


def caller(name="alice", *, rate=0.0, concurrent=0):
    return Caller(name, "key", limits=Limits(rate, concurrent))


def spend(limiter, who, times):
    """How many of so many requests are let through."""
    passed = 0
    for _ in range(times):
        try:
            limiter.spend(who)
        except Refusal:
            continue
        passed += 1
    return passed


def test_a_second_s_requests_may_come_at_once_and_then_as_fast_as_the_rate(limiter, clock):
    who = caller(rate=5)
    assert spend(limiter, who, 20) == 5
    clock.now += 0.4
    assert spend(limiter, who, 20) == 2
    clock.now += 3600
    assert spend(limiter, who, 20) == 5


def test_a_rate_below_one_lets_one_through_and_says_how_long_to_wait(limiter, clock):
    who = caller(rate=0.1)
    limiter.spend(who)
    with pytest.raises(Refusal, match=r"alice may send 0.1 requests a second; wait 10 s") as caught:
        limiter.spend(who)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.headers == {"retry-after": "10"} and caught.value.caller is who
    clock.now += 10
    limiter.spend(who)


def test_callers_do_not_share_their_limits(limiter):
    assert spend(limiter, caller("a", rate=2), 9) == spend(limiter, caller("b", rate=2), 9) == 2
    assert spend(limiter, caller("c"), 9) == 9


def test_requests_in_hand_are_counted_until_they_end(limiter):
    who = caller(concurrent=2)
    limiter.begin(who)
    limiter.begin(who)
    with pytest.raises(Refusal, match="alice has 2 requests in hand and may have 2") as caught:
        limiter.begin(who)
    assert caught.value.headers == {"retry-after": "1"}
    limiter.end(who)
    limiter.begin(who)


def test_counting_many_callers_forgets_none_that_has_something_in_hand(limiter, monkeypatch):
    monkeypatch.setattr(limits, "MAX_CALLERS", 3)
    busy = caller("busy", concurrent=1)
    limiter.begin(busy)
    for number in range(10):
        limiter.spend(caller(f"c{number}", rate=1))
    with pytest.raises(Refusal):
        limiter.begin(busy)
    assert len(limiter._accounts._accounts) <= 4
