"""Partitions of events: created when positions reach them, dropped when nothing is retained."""

from pathlib import Path

from deploylog.events.store import Query
from deploylog.store import open_store
from deploylog.store.postgres.partitions import SIZE
from support import postgres
from support.factories import Commits, new_event, new_events, now


def partitions(url: str) -> list[str]:
    sql = """
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = 'events'::regclass ORDER BY 1
    """
    return [row[0] for row in postgres.run(url, sql)]


async def test_a_batch_may_lie_in_two_partitions_and_the_first_is_dropped(tmp_path: Path):
    url = postgres.url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()):
        pass
    postgres.run(url, "UPDATE log SET head = %s", SIZE - 3)

    async with open_store(url, observer=Commits()) as store:
        recorded = await store.log.append(new_events(5))
        assert partitions(url) == ["events_0", "events_1"]
        assert await store.log.read(Query(order="oldest")) == recorded

        await store.log.prune(now())
        [event] = await store.log.append([new_event()])

        assert event.position == recorded[-1].position + 1
        assert partitions(url) == ["events_1"]
        assert await store.log.read(Query()) == [event]


async def test_a_retry_whose_event_was_pruned_is_recorded_again(tmp_path: Path):
    url = postgres.url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()) as store:
        events = new_events(3)
        await store.log.append(events)
        await store.log.prune(now())

        again = await store.log.append(events)

        assert [event.position for event in again] == [4, 5, 6]
    assert postgres.run(url, "SELECT count(*) FROM identities") == [(3,)]
