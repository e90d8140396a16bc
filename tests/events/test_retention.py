"""Cleaning: what is old goes, when an administrator says so, and the outcome is kept."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from deploylog.errors import CleanupNotFound, Forbidden, StoreUnavailable
from deploylog.events.access import ANONYMOUS, Grant, Principal
from deploylog.events.retention import Cleanup, Retention
from deploylog.events.scope import parse_scope
from deploylog.events.store import IdempotencyKey
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from support.factories import changeset, new_events, now
from support.waiting import until

DAY = 86_400 * SECOND


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = now()

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cleaning_of(store: Store, clock: Clock, *, days: float = 7) -> Retention:
    return Retention(
        store.cleanups,
        delete={
            "events": lambda before: store.log.prune(before),
            "changesets": lambda before: store.changesets.delete_before(before),
        },
        days={"events": days, "changesets": days},
        clock=clock,
    )


@pytest.fixture
async def cleaning(store: Store, clock: Clock) -> AsyncIterator[Retention]:
    cleaning = cleaning_of(store, clock)
    async with cleaning.working():
        yield cleaning


async def ended(cleaning: Retention, begun: Cleanup) -> Cleanup:
    async def look() -> Cleanup | None:
        found = await cleaning.get(ANONYMOUS, begun.kind, begun.id)
        return found if found.status != "running" else None

    return await until(look)  # type: ignore[no-any-return]


async def test_old_events_are_forgotten(store: Store, clock: Clock, cleaning: Retention):
    await store.log.append(new_events(3))
    clock.now += 8 * DAY

    begun = await cleaning.start(ANONYMOUS, "events")
    done = await ended(cleaning, begun)

    assert (begun.status, begun.threshold) == ("running", clock.now - 7 * DAY)
    assert (done.status, done.forgotten, done.ended) == ("completed", 3, clock.now)
    assert await store.log.floor() == 3


async def test_young_events_stay(store: Store, clock: Clock, cleaning: Retention):
    await store.log.append(new_events(3))
    clock.now += 6 * DAY

    done = await ended(cleaning, await cleaning.start(ANONYMOUS, "events"))

    assert (done.status, done.forgotten) == ("completed", 0)


async def test_what_is_retained_for_ever_is_not_forgotten(store: Store, clock: Clock):
    await store.log.append(new_events(3))
    clock.now += 10_000 * DAY
    cleaning = cleaning_of(store, clock, days=0)

    async with cleaning.working():
        done = await ended(cleaning, await cleaning.start(ANONYMOUS, "events"))

    assert (done.threshold, done.forgotten) == (0, 0)
    assert await store.log.floor() == 0


async def test_old_change_sets_are_forgotten_once_they_have_ended(
    store: Store, clock: Clock, cleaning: Retention
):
    for status in ("staged", "staging"):
        old = msgspec.structs.replace(changeset(), status=status, created=clock.now)
        await store.changesets.add(
            old, b"{}", request=IdempotencyKey(key=status, fingerprint=b""), since=0
        )
    clock.now += 8 * DAY

    done = await ended(cleaning, await cleaning.start(ANONYMOUS, "changesets"))

    assert done.forgotten == 1
    assert [c.status for c in await store.changesets.list(ANONYMOUS.visibility)] == ["staging"]


@pytest.mark.parametrize("kind", ["validations", "reconciliation_results"])
async def test_of_other_kinds_nothing_is_kept(cleaning: Retention, kind: str):
    done = await ended(cleaning, await cleaning.start(ANONYMOUS, kind))

    assert (done.kind, done.status, done.forgotten) == (kind, "completed", 0)


async def test_only_an_administrator_of_everything_may(cleaning: Retention):
    for grant in (Grant("write", parse_scope("")), Grant("admin", parse_scope("project/acme"))):
        somebody = Principal(name="ann", grants=(grant,))

        with pytest.raises(Forbidden):
            await cleaning.start(somebody, "events")
        with pytest.raises(Forbidden):
            await cleaning.get(somebody, "events", "any")


async def test_a_cleanup_is_found_under_its_own_kind(cleaning: Retention):
    begun = await cleaning.start(ANONYMOUS, "events")

    assert (await cleaning.get(ANONYMOUS, "events", begun.id.upper())).id == begun.id
    with pytest.raises(CleanupNotFound):
        await cleaning.get(ANONYMOUS, "validations", begun.id)


async def test_a_cleanup_that_the_store_refuses_has_failed(
    store: Store, cleaning: Retention, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(recorded_before: int) -> int:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(store.log, "prune", refuse)

    done = await ended(cleaning, await cleaning.start(ANONYMOUS, "events"))

    assert (done.status, done.error) == ("failed", "the disk is full")


async def test_a_cleanup_that_a_crash_ended_has_failed(store: Store, clock: Clock):
    left = Cleanup(id="c1", kind="events", status="running", started=clock.now, threshold=0)
    await store.cleanups.put(left)

    async with cleaning_of(store, clock).working():
        found = await store.cleanups.get("events", "c1")

    assert (found.status, found.ended) == ("failed", clock.now)
    assert found.error == "the service ended before the cleanup did"
