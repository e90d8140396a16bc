"""A copy has everything of a store, on whichever backend, and is verified."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploylog.auth.api_keys import make_key
from deploylog.errors import OperatorError
from deploylog.events.event import Event
from deploylog.events.retention import Cleanup
from deploylog.events.store import IdempotencyKey, Query
from deploylog.events.times import SECOND
from deploylog.store import _backend_of, copy_store, migrate_store, open_store
from deploylog.store.contract import Store
from deploylog.subscriptions.subscription import Message, Pending
from support.backends import BACKENDS, Backend
from support.factories import (
    Commits,
    attempt,
    changeset,
    delivery,
    deployment_event,
    new_event,
    new_events,
    now,
    stack_created,
    subscription,
)
from support.waiting import until

#: Seconds for which the holder of a subscription in these tests holds it.
LEASE = 10 * SECOND

REQUEST = IdempotencyKey(key="once", fingerprint=b"f")


@pytest.fixture
def source(backend: Backend, tmp_path: Path) -> str:
    return backend.url_at(tmp_path / "source.db")


@pytest.fixture
def target(backend: Backend, tmp_path: Path) -> str:
    """A store of the other backend."""
    [other] = [each for each in BACKENDS.values() if each is not backend]
    return other.empty_url_at(tmp_path / "target.db")


def ignore(copied: int, total: int) -> None:
    """No progress."""


def copy(source: str, target: str) -> Any:
    return copy_store(source, target, progress=ignore)


def open_(url: str) -> Any:
    return open_store(url, observer=Commits())


async def refusal(source: str, target: str) -> str:
    """Why nothing is copied to a store that was just closed. PostgreSQL may notice a moment later
    that a connection has ended which was cancelled while it was made.
    """

    async def said() -> str | None:
        with pytest.raises(OperatorError) as raised:
            copy(source, target)
        text = str(raised.value)
        return None if "is in use" in text else text

    return str(await until(said))


async def fill(store: Store) -> None:
    """Something of everything that a store keeps."""
    await store.log.append([new_event(producer_id="pruned")])
    await store.log.prune(now())
    await store.log.append([stack_created(), *new_events(3, groups=("ops",), data={"a": [1]})])
    await store.log.append([deployment_event("deployment.started", data={"version": "1.2"})])
    await store.log.append([new_event("state.deployment.created", scopes=("state/acme/prod/web",))])
    await store.log.append([new_event(producer_id="in-request")], request=REQUEST)
    added = IdempotencyKey(key="plan", fingerprint=b"p")
    await store.changesets.add(changeset(destroy=True), b"\0changes", request=added, since=0)
    await store.credentials.add(make_key(name="ops", groups=("ops",), grants=(), now=now())[0])
    cleanup = Cleanup(id="c", kind="events", status="running", started=now(), threshold=1)
    await store.cleanups.put(cleanup)
    await store.signatures.first_seen(b"signed", now=now(), until=now() + LEASE)
    await store.ended_sessions.end("session", now=now(), until=now() + LEASE)
    hooked = subscription(target=b"\0sealed")
    await store.subscriptions.add(hooked)
    await store.deliveries.claim("me", now=now(), until=now() + LEASE)
    tried = delivery(
        hooked,
        attempt(2),
        checkpoint=3,
        pending=(Pending(position=3, lane="", tries=1, due=9, dead_lettered=True, error="500"),),
        messages=(Message(deployment=deployment_event("x").scopes[0], channel="c", id="1.2"),),
    )
    await store.deliveries.record("me", [tried], now=now())


async def filled(url: str) -> None:
    async with open_(url) as store:
        await fill(store)


def contents(url: str) -> dict[str, list[Any]]:
    """The rows of every table that a copy takes."""
    with _backend_of(url).reading_copy(url) as store:
        return {name: list(store.rows(name, columns)) for name, columns in store.tables().items()}


async def events(url: str) -> list[Event]:
    async with open_(url) as store:
        return list(await store.log.read(Query(order="oldest", limit=1_000)))


def interrupting(after: int) -> Callable[[int, int], None]:
    """Progress that ends the copy, as Ctrl-C does."""

    def progress(copied: int, total: int) -> None:
        if copied >= after:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploylog.store.copying._BATCH_ROWS", 2)


async def test_every_table_of_a_store_is_copied(source: str, target: str):
    await filled(source)

    copied = copy(source, target)

    kept = contents(target)
    assert kept == contents(source)
    assert not [name for name, rows in kept.items() if not rows]
    assert copied.events == len(kept["events"])


async def test_the_events_of_a_copy_have_the_same_ids(source: str, target: str):
    await filled(source)

    copy(source, target)

    assert await events(target) == await events(source)


async def test_a_copy_knows_what_was_recorded_before(source: str, target: str):
    await filled(source)
    recorded = await events(source)
    copy(source, target)

    async with open_(target) as store:
        [again] = await store.log.append([new_event(producer_id="in-request")])
        [retried] = await store.log.append([new_event(producer_id="x")], request=REQUEST)

    assert again == retried == recorded[-1]


async def test_a_copy_goes_on_where_the_store_was(source: str, target: str):
    await filled(source)
    last = (await events(source))[-1].position
    copy(source, target)

    async with open_(target) as store:
        [new] = await store.log.append([new_event()])
        added = subscription()
        await store.subscriptions.add(added)

        assert new.position == last + 1
        assert [each.id for each in await store.subscriptions.list()][-1] == added.id


async def test_both_directions_keep_everything(source: str, target: str, tmp_path: Path):
    await filled(source)
    copy(source, target)
    back = BACKENDS[source.partition(":")[0]].empty_url_at(tmp_path / "back.db")

    copy(target, back)

    assert contents(back) == contents(source)


@pytest.mark.usefixtures("small_batches")
async def test_an_interrupted_copy_is_not_opened_and_goes_on(source: str, target: str):
    await filled(source)
    with pytest.raises(KeyboardInterrupt):
        copy_store(source, target, progress=interrupting(3))

    with pytest.raises(OperatorError, match="unfinished copy"):
        async with open_(target):
            pass
    seen: list[int] = []
    copy_store(source, target, progress=lambda copied, total: seen.append(copied))

    assert seen[0] > 2
    assert contents(target) == contents(source)


async def test_a_second_copy_takes_what_is_new(source: str, target: str):
    await filled(source)
    copy(source, target)
    async with open_(source) as store:
        await store.log.append([new_event(producer_id="later")])
        await store.log.prune(now())

    copy(source, target)

    assert contents(target) == contents(source)
    assert await events(target) == await events(source)


async def test_an_event_that_changed_between_two_copies_is_copied_again(
    source: str, target: str, backend: Backend, tmp_path: Path
):
    await filled(source)
    copy(source, target)
    backend.damage(tmp_path / "source.db", [3], "checksum")

    copy(source, target)

    assert contents(target) == contents(source)


async def test_a_store_that_has_something_is_no_target(source: str, target: str):
    await filled(source)
    async with open_(target) as store:
        await store.credentials.add(make_key(name="ops", groups=(), grants=(), now=now())[0])

    assert "is not empty" in await refusal(source, target)


async def test_a_copy_that_was_opened_is_a_store_of_its_own(source: str, target: str):
    await filled(source)
    copy(source, target)
    async with open_(target) as store:
        await store.log.append([new_event()])

    assert "is not empty" in await refusal(source, target)


async def test_a_copy_of_another_store_is_no_target(
    source: str, target: str, backend: Backend, tmp_path: Path
):
    await filled(source)
    other = backend.url_at(tmp_path / "other.db")
    await filled(other)
    copy(other, target)

    with pytest.raises(OperatorError, match="copy of another store"):
        copy(source, target)


async def test_a_target_that_is_open_is_refused(source: str, target: str):
    await filled(source)

    async with open_(target):
        with pytest.raises(OperatorError, match="in use"):
            copy(source, target)


async def test_the_source_may_be_open(source: str, target: str):
    async with open_(source) as store:
        await fill(store)

        copy(source, target)

    assert contents(target) == contents(source)


def test_an_empty_store_is_copied(source: str, target: str):
    migrate_store(source)

    copied = copy(source, target)

    assert (copied.events, copied.head) == (0, 0)
    assert contents(target) == contents(source)
