"""The replay cache remembers a signature until it expires, within bounded memory."""

from deploylog.auth.replay_cache import GRACE_SECONDS, ReplayCache
from support.clocks import Clock


def test_a_signature_repeated_within_the_grace_period_is_no_replay():
    clock = Clock()
    replays = ReplayCache(lifetime=100, clock=clock)

    first = replays.is_replay("a")
    clock.advance(GRACE_SECONDS)

    assert (first, replays.is_replay("a")) == (False, False)


def test_a_signature_repeated_later_is_a_replay_every_time():
    clock = Clock()
    replays = ReplayCache(lifetime=100, clock=clock)
    replays.is_replay("a")

    seen = []
    for _ in range(2):
        clock.advance(GRACE_SECONDS + 1)
        seen.append(replays.is_replay("a"))

    assert seen == [True, True]
    assert not replays.is_replay("b")


def test_an_expired_signature_is_dropped():
    clock = Clock()
    replays = ReplayCache(lifetime=100, clock=clock)
    replays.is_replay("a")

    clock.advance(101)
    replays.is_replay("b")

    assert list(replays._first_seen) == ["b"]


def test_beyond_the_limit_the_oldest_signatures_are_dropped():
    replays = ReplayCache(lifetime=100, clock=Clock(), limit=3)

    for signature in "abcde":
        replays.is_replay(signature)

    assert list(replays._first_seen) == ["c", "d", "e"]
