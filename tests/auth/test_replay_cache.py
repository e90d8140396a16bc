"""The replay cache knows a signature until it expires, whichever process saw it first."""

from deploylog.auth.replay_cache import GRACE_SECONDS, ReplayCache
from deploylog.errors import StoreUnavailable
from deploylog.store.contract import Store
from support.clocks import WallClock
from support.factories import OpenStoreAgain


class Unshared:
    """``Signatures`` that every process sees for the first time."""

    def __init__(self) -> None:
        self.asked = 0

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:
        self.asked += 1
        return now


class Gone:
    """Those of a store that does not answer."""

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:
        raise StoreUnavailable("the disk is full")


async def test_a_signature_repeated_within_the_grace_period_is_no_replay(clock: WallClock):
    replays = ReplayCache(Unshared(), lifetime=100, clock=clock)

    first = await replays.is_replay("a")
    clock.advance(GRACE_SECONDS)

    assert (first, await replays.is_replay("a")) == (False, False)


async def test_a_signature_repeated_later_is_a_replay_every_time(clock: WallClock):
    replays = ReplayCache(Unshared(), lifetime=100, clock=clock)
    await replays.is_replay("a")

    seen = []
    for _ in range(2):
        clock.advance(GRACE_SECONDS + 1)
        seen.append(await replays.is_replay("a"))

    assert seen == [True, True]
    assert not await replays.is_replay("b")


async def test_a_signature_that_another_process_saw_is_a_replay(
    store: Store, open_again: OpenStoreAgain, clock: WallClock
):
    here = ReplayCache(store.signatures, lifetime=100, clock=clock)
    await here.is_replay("a")
    clock.advance(GRACE_SECONDS + 1)

    async with open_again() as other:
        there = ReplayCache(other.signatures, lifetime=100, clock=clock)

        assert await there.is_replay("a")
        assert not await there.is_replay("b")


async def test_a_signature_repeated_within_the_grace_period_does_not_ask_the_store_again(
    clock: WallClock,
):
    shared = Unshared()
    replays = ReplayCache(shared, lifetime=100, clock=clock)

    for _ in range(3):
        await replays.is_replay("a")

    assert shared.asked == 1


async def test_without_the_store_a_process_goes_by_what_it_saw_itself(clock: WallClock):
    replays = ReplayCache(Gone(), lifetime=100, clock=clock)

    first = await replays.is_replay("a")
    clock.advance(GRACE_SECONDS + 1)

    assert (first, await replays.is_replay("a")) == (False, True)


async def test_an_expired_signature_is_dropped(clock: WallClock):
    replays = ReplayCache(Unshared(), lifetime=100, clock=clock)
    await replays.is_replay("a")

    clock.advance(101)
    await replays.is_replay("b")

    assert list(replays._first_seen) == ["b"]


async def test_beyond_the_limit_the_oldest_signatures_are_dropped(clock: WallClock):
    replays = ReplayCache(Unshared(), lifetime=100, clock=clock, limit=3)

    for signature in "abcde":
        await replays.is_replay(signature)

    assert list(replays._first_seen) == ["c", "d", "e"]
