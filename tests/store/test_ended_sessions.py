"""What every store must do with ended sessions: ``EndedSessions``, sentence by sentence."""

from deploylog.store.contract import Store
from support.factories import OpenStoreAgain


async def test_an_ended_session_has_ended_at_every_process(
    store: Store, open_again: OpenStoreAgain
):
    async with open_again() as other:
        await store.ended_sessions.end("a", now=10, until=100)

        assert await other.ended_sessions.ended(["a", "b"]) == {"a"}


async def test_a_session_may_be_ended_again(store: Store):
    await store.ended_sessions.end("a", now=10, until=100)
    await store.ended_sessions.end("a", now=11, until=100)

    assert await store.ended_sessions.ended({"a"}) == {"a"}


async def test_a_session_that_is_over_anyway_is_forgotten(store: Store):
    await store.ended_sessions.end("a", now=10, until=100)
    await store.ended_sessions.end("b", now=100, until=200)

    assert await store.ended_sessions.ended(["a", "b"]) == {"b"}


async def test_of_no_sessions_none_has_ended(store: Store):
    assert await store.ended_sessions.ended([]) == set()
