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
    started = {"id": str(uuid4()), "kind": "events", "status": "running", "started": now()}
    return Cleanup(**({"threshold": 7} | started | fields))  # type: ignore[arg-type]


async def test_a_cleanup_survives_reopening(open_again: OpenStoreAgain):
    started = _cleanup()
    async with open_again() as store:
        await store.cleanups.put(started)
    async with open_again() as store:
        assert await store.cleanups.get("events", started.id) == started
        assert await store.cleanups.get("events", started.id.upper()) == started
        assert await store.cleanups.running() == [started]


async def test_a_cleanup_replaces_the_one_with_its_id(store: Store):
    started, other = _cleanup(), _cleanup(kind="changesets")
    await store.cleanups.put(started)
    await store.cleanups.put(other)
    ended = msgspec.structs.replace(
        started, status="failed", ended=started.started + 1, deleted=3, error="ünï"
    )

    await store.cleanups.put(ended)

    assert await store.cleanups.get("events", started.id) == ended
    assert await store.cleanups.running() == [other]


async def test_only_the_newest_cleanups_of_a_kind_stay(store: Store):
    first, last = _cleanup(kind="changesets"), _cleanup(kind="changesets")
    cleanups = [_cleanup(started=started) for started in range(53)]
    for cleanup in (first, *cleanups, last, cleanups[-1]):
        await store.cleanups.put(cleanup)

    assert await store.cleanups.running() == [first, *cleanups[3:], last]
    for old in cleanups[:3]:
        with pytest.raises(CleanupNotFound):
            await store.cleanups.get("events", old.id)


async def test_a_cleanup_is_of_its_kind(store: Store):
    cleanup = _cleanup()
    await store.cleanups.put(cleanup)

    with pytest.raises(CleanupNotFound):
        await store.cleanups.get("validations", cleanup.id)
