"""Replays: a signature is known for as long as it could come again, and memory is bounded."""

import pytest

from deploylog.auth import replay_cache as module
from deploylog.auth.replay_cache import GRACE_SECONDS, Replays
from support.clocks import Clock


def test_a_signature_that_comes_again_at_once_is_no_replay():
    clock = Clock()
    replays = Replays(lifetime=100, clock=clock)

    first = replays.is_replay("a")
    clock.advance(GRACE_SECONDS)

    assert (first, replays.is_replay("a")) == (False, False)


def test_one_that_comes_again_later_is_and_stays_one():
    clock = Clock()
    replays = Replays(lifetime=100, clock=clock)
    replays.is_replay("a")

    seen = []
    for _ in range(2):
        clock.advance(GRACE_SECONDS + 1)
        seen.append(replays.is_replay("a"))

    assert seen == [True, True]
    assert not replays.is_replay("b")


def test_what_could_not_come_again_is_forgotten():
    clock = Clock()
    replays = Replays(lifetime=100, clock=clock)
    replays.is_replay("a")

    clock.advance(101)
    replays.is_replay("b")

    assert list(replays._first) == ["b"]


def test_of_too_many_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    replays = Replays(lifetime=100, clock=Clock())

    for signature in "abcde":
        replays.is_replay(signature)

    assert list(replays._first) == ["c", "d", "e"]
