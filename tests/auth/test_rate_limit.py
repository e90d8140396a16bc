"""Rates: how often each of many may do something."""

import pytest

from deploylog.auth.rate_limit import _MAX_KEYS, RateLimiter
from support.clocks import Clock


def test_a_burst_is_let_through_at_once_and_the_next_waits():
    clock = Clock()
    rate = RateLimiter(10, burst=3, clock=clock)

    assert [rate.acquire("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert rate.acquire("a") == pytest.approx(0.1)


def test_who_waits_as_long_as_told_may_go_on():
    clock = Clock()
    rate = RateLimiter(10, burst=1, clock=clock)
    rate.acquire("a")

    clock.advance(rate.acquire("a"))

    assert rate.acquire("a") == 0.0
    assert rate.acquire("a") > 0


def test_to_be_refused_costs_nothing():
    clock = Clock()
    rate = RateLimiter(1, burst=1, clock=clock)
    rate.acquire("a")

    waits = {rate.acquire("a") for _ in range(50)}

    assert waits == {1.0}


def test_over_time_the_rate_is_kept():
    clock = Clock()
    rate = RateLimiter(10, burst=5, clock=clock)
    taken = 0

    for _ in range(10_000):
        taken += not rate.acquire("a")
        clock.advance(0.001)

    assert taken == pytest.approx(10 * 10 + 5, abs=1)


def test_each_key_has_its_own():
    rate = RateLimiter(1, burst=1, clock=Clock())
    rate.acquire("a")

    assert rate.acquire("b") == 0.0


def test_to_look_takes_nothing():
    rate = RateLimiter(1, burst=1, clock=Clock())

    assert [rate.delay("a") for _ in range(3)] == [0.0] * 3
    assert rate.acquire("a") == 0.0
    assert rate.delay("a") == 1.0


def test_zero_is_no_limit():
    rate = RateLimiter(0, burst=1, clock=Clock())

    assert {rate.acquire("a") for _ in range(100)} == {0.0}
    assert rate.delay("a") == 0.0


def test_many_keys_do_not_fill_the_memory():
    clock = Clock()
    rate = RateLimiter(1, burst=1, clock=clock)

    for number in range(3 * _MAX_KEYS):
        rate.acquire(str(number))
        clock.advance(0.0001)

    assert len(rate._full_at) <= _MAX_KEYS
    assert rate.acquire(str(3 * _MAX_KEYS - 1)) > 0
