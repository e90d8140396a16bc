"""Retention: an administrator starts a cleanup, which deletes old records and is stored."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from deploylog.errors import CleanupNotFound, Forbidden, StoreUnavailable
from deploylog.events.access import ANONYMOUS, Grant, Principal
from deploylog.events.retention import HOLD_SECONDS, RENEW_SECONDS, Cleanup, Retention
from deploylog.events.scope import parse_scope
from deploylog.events.store import IdempotencyKey
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from support.clocks import WallClock
from support.factories import changeset, new_events
from support.waiting import until

#: Seconds.
DAY = 86_400


def retention_of(
    store: Store, clock: WallClock, *, days: float = 7, renew_seconds: float = RENEW_SECONDS
) -> Retention:
    return Retention(
        store.cleanups,
        delete={
            "events": lambda before: store.log.prune(before),
            "changesets": lambda before: store.changesets.delete_before(before),
        },
        days={"events": days, "changesets": days},
        clock=clock,
        renew_seconds=renew_seconds,
    )


@pytest.fixture
async def retention(store: Store, clock: WallClock) -> AsyncIterator[Retention]:
    retention = retention_of(store, clock)
    async with retention.running():
        yield retention


async def ended(retention: Retention, started: Cleanup) -> Cleanup:
    async def read() -> Cleanup | None:
        found = await retention.get(ANONYMOUS, started.kind, started.id)
        return found if found.status != "running" else None

    return await until(read)


async def test_old_events_are_deleted(store: Store, clock: WallClock, retention: Retention):
    await store.log.append(new_events(3))
    clock.advance(8 * DAY)

    started = await retention.start(ANONYMOUS, "events")
    done = await ended(retention, started)

    assert (started.status, started.threshold) == ("running", clock.ns - 7 * DAY * SECOND)
    assert (done.status, done.deleted, done.ended) == ("completed", 3, clock.ns)
    assert await store.log.floor() == 3


async def test_recent_events_are_retained(store: Store, clock: WallClock, retention: Retention):
    await store.log.append(new_events(3))
    clock.advance(6 * DAY)

    done = await ended(retention, await retention.start(ANONYMOUS, "events"))

    assert (done.status, done.deleted) == ("completed", 0)


async def test_a_kind_with_0_days_is_retained_indefinitely(store: Store, clock: WallClock):
    await store.log.append(new_events(3))
    clock.advance(10_000 * DAY)
    retention = retention_of(store, clock, days=0)

    async with retention.running():
        done = await ended(retention, await retention.start(ANONYMOUS, "events"))

    assert (done.threshold, done.deleted) == (0, 0)
    assert await store.log.floor() == 0


async def test_old_change_sets_are_deleted_once_they_have_ended(
    store: Store, clock: WallClock, retention: Retention
):
    for status in ("staged", "staging"):
        old = msgspec.structs.replace(changeset(), status=status, created=clock.ns)
        await store.changesets.add(
            old, b"{}", request=IdempotencyKey(key=status, fingerprint=b""), since=0
        )
    clock.advance(8 * DAY)

    done = await ended(retention, await retention.start(ANONYMOUS, "changesets"))

    assert done.deleted == 1
    assert [c.status for c in await store.changesets.list(ANONYMOUS.visibility)] == ["staging"]


@pytest.mark.parametrize("kind", ["validations", "reconciliation_results"])
async def test_a_kind_that_is_not_stored_has_nothing_to_delete(retention: Retention, kind: str):
    done = await ended(retention, await retention.start(ANONYMOUS, kind))

    assert (done.kind, done.status, done.deleted) == (kind, "completed", 0)


async def test_only_an_administrator_of_the_whole_log_may(retention: Retention):
    for grant in (Grant("write", parse_scope("")), Grant("admin", parse_scope("project/acme"))):
        other = Principal(name="ann", grants=(grant,))

        with pytest.raises(Forbidden):
            await retention.start(other, "events")
        with pytest.raises(Forbidden):
            await retention.get(other, "events", "any")


async def test_a_cleanup_is_found_under_its_own_kind(retention: Retention):
    started = await retention.start(ANONYMOUS, "events")

    assert (await retention.get(ANONYMOUS, "events", started.id.upper())).id == started.id
    with pytest.raises(CleanupNotFound):
        await retention.get(ANONYMOUS, "validations", started.id)


async def test_a_cleanup_that_the_store_refuses_has_failed(
    store: Store, retention: Retention, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(recorded_before: int) -> int:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(store.log, "prune", refuse)

    done = await ended(retention, await retention.start(ANONYMOUS, "events"))

    assert (done.status, done.error) == ("failed", "the disk is full")


async def test_a_cleanup_that_another_process_runs_goes_on_until_that_stops(
    store: Store, clock: WallClock
):
    running = Cleanup(
        id="c1",
        kind="events",
        status="running",
        started=clock.ns,
        threshold=0,
        held_until=clock.ns + HOLD_SECONDS * SECOND,
    )
    await store.cleanups.put(running)
    looks = retention_of(store, clock, renew_seconds=0.01)

    async with looks.running():
        await ended(looks, await looks.start(ANONYMOUS, "events"))
        assert await store.cleanups.get("events", "c1") == running
        clock.advance(HOLD_SECONDS)

        assert (await ended(looks, running)).status == "failed"


async def test_a_cleanup_is_held_for_as_long_as_it_runs(store: Store, clock: WallClock):
    let_go = asyncio.Event()

    async def delete(before: int) -> int:
        await let_go.wait()
        return 1

    runs = Retention(
        store.cleanups, delete={"slow": delete}, days={}, clock=clock, renew_seconds=0.01
    )
    async with runs.running():
        started = await runs.start(ANONYMOUS, "slow")
        clock.advance(10 * HOLD_SECONDS)

        async def is_held() -> bool:
            return (await store.cleanups.get("slow", started.id)).held_until > clock.ns

        await until(is_held)
        let_go.set()

        assert (await ended(runs, started)).status == "completed"


async def test_a_cleanup_interrupted_by_a_crash_has_failed(store: Store, clock: WallClock):
    abandoned = Cleanup(id="c1", kind="events", status="running", started=clock.ns, threshold=0)
    await store.cleanups.put(abandoned)

    async with retention_of(store, clock).running():
        found = await store.cleanups.get("events", "c1")

    assert (found.status, found.ended) == ("failed", clock.ns)
    assert found.error == "the service stopped before the cleanup finished"
