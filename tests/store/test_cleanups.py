"""What every store must do with cleanups: ``Cleanups``, sentence by sentence."""

from uuid import uuid4

import msgspec
import pytest

from deploylog.errors import (
    CleanupNotFound,
)
from deploylog.events.retention import Cleanup
from deploylog.store.contract import Store
from support.factories import (
    OpenStoreAgain,
    now,
)


def _cleanup(**fields: object) -> Cleanup:
    begun = {"id": str(uuid4()), "kind": "events", "status": "running", "started": now()}
    return Cleanup(**({"threshold": 7} | begun | fields))  # type: ignore[arg-type]


async def test_a_cleanup_is_there_after_reopening(open_again: OpenStoreAgain):
    begun = _cleanup()
    async with open_again() as store:
        await store.cleanups.put(begun)
    async with open_again() as store:
        assert await store.cleanups.get("events", begun.id) == begun
        assert await store.cleanups.get("events", begun.id.upper()) == begun
        assert await store.cleanups.running() == [begun]


async def test_a_cleanup_is_kept_instead_of_what_was_under_its_id(store: Store):
    begun, other = _cleanup(), _cleanup(kind="changesets")
    await store.cleanups.put(begun)
    await store.cleanups.put(other)
    ended = msgspec.structs.replace(
        begun, status="failed", ended=begun.started + 1, forgotten=3, error="ünï"
    )

    await store.cleanups.put(ended)

    assert await store.cleanups.get("events", begun.id) == ended
    assert await store.cleanups.running() == [other]


async def test_only_the_newest_cleanups_of_a_kind_stay(store: Store):
    first, last = _cleanup(kind="changesets"), _cleanup(kind="changesets")
    cleanups = [_cleanup(started=started) for started in range(53)]
    for cleanup in (first, *cleanups, last, cleanups[-1]):
        await store.cleanups.put(cleanup)

    assert await store.cleanups.running() == [first, *cleanups[3:], last]
    for forgotten in cleanups[:3]:
        with pytest.raises(CleanupNotFound):
            await store.cleanups.get("events", forgotten.id)


async def test_a_cleanup_is_of_its_kind(store: Store):
    cleanup = _cleanup()
    await store.cleanups.put(cleanup)

    with pytest.raises(CleanupNotFound):
        await store.cleanups.get("validations", cleanup.id)
