"""Which sessions are open: asked of the store at most twice a second, and closed with streams."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import cast

from deploylog.errors import StoreUnavailable
from deploylog.events.hub import Reader
from deploylog.ui.open_sessions import OpenSessions
from support.waiting import until


class Store:
    """``EndedSessions`` in memory, which other processes may use, too."""

    def __init__(self) -> None:
        self.all: set[str] = set()
        self.asked = 0
        self.is_available = True

    async def end(self, id: str, *, now: int, until: int) -> None:
        self.all.add(id)

    async def ended(self, ids: Collection[str]) -> set[str]:
        self.asked += 1
        if not self.is_available:
            raise StoreUnavailable("no answer")
        return self.all & set(ids)


class Stream:
    """A reader that only knows whether it is closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    @contextmanager
    def follow(self) -> Iterator[Reader]:
        yield cast("Reader", self)


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def process_of(store: Store, monotonic: Seconds | None = None) -> OpenSessions:
    return OpenSessions(store, clock=lambda: 0, monotonic=monotonic or Seconds())


async def test_a_session_that_is_ended_is_over_at_once():
    sessions = process_of(Store())
    assert await sessions.is_open("a")

    await sessions.end("a", until=9)

    assert not await sessions.is_open("a")
    assert await sessions.is_open("b")


async def test_a_session_that_another_process_ends_is_over_within_a_second():
    store, seconds = Store(), Seconds()
    here, there = process_of(store), process_of(store, seconds)
    assert await there.is_open("a")
    await here.end("a", until=9)

    seconds.now += 1

    assert not await there.is_open("a")


async def test_many_requests_ask_the_store_once():
    store = Store()
    sessions = process_of(store)

    for _ in range(10):
        assert await sessions.is_open("a")

    assert store.asked == 1


async def test_the_store_does_not_learn_the_token():
    store = Store()

    await process_of(store).end("a-token", until=9)

    assert "a-token" not in str(store.all)


async def test_only_streams_of_the_session_are_closed():
    sessions, mine, other = process_of(Store()), Stream(), Stream()

    with sessions.ending(mine.follow(), "a"), sessions.ending(other.follow(), "b"):
        await sessions.end("a", until=9)

    assert (mine.is_closed, other.is_closed) == (True, False)


async def test_a_stream_ends_when_another_process_ends_its_session():
    store, stream = Store(), Stream()
    here, there = process_of(store), process_of(store)

    async with there.watching():
        with there.ending(stream.follow(), "a"):
            await here.end("a", until=9)

            await until(lambda: stream.is_closed)


async def test_the_watch_goes_on_when_the_store_is_back():
    store, stream = Store(), Stream()
    sessions = process_of(store)
    store.is_available = False

    async with sessions.watching():
        with sessions.ending(stream.follow(), "a"):
            await until(lambda: store.asked)
            store.is_available = True
            await process_of(store).end("a", until=9)

            await until(lambda: stream.is_closed)
