"""Migrations of a SQLite file: what was recorded stays, and a newer file is left as it is."""

from pathlib import Path

import apsw
import pytest

from deploylog.errors import InvalidSettings, SchemaTooNew, StoreUnavailable
from deploylog.events.access import ALL
from deploylog.events.event import Event, NewEvent, recorded_event
from deploylog.events.ids import event_id
from deploylog.events.store import IdempotencyKey, Query
from deploylog.store import migrate_store, open_store
from deploylog.store.migrations import Migration, migrations
from deploylog.store.rows import COLUMNS, values_of
from support.factories import Commits, changeset, new_event, stack_created

REQUEST = IdempotencyKey(key="k", fingerprint=b"f")


def record_at_first_schema(file: Path, events: list[NewEvent]) -> list[Event]:
    """What a program of that time left, as far as it is read below."""
    connection = apsw.Connection(str(file))
    epoch = int(str(connection.execute("SELECT epoch FROM log").get))
    for position, event in enumerate(events, 1):
        marks = ", ".join("?" * len(COLUMNS))
        row = (position, position, *values_of(event))
        connection.execute(f"INSERT INTO events VALUES ({marks})", row)
    connection.execute("UPDATE log SET head = ?, recorded = ?", (len(events), len(events)))
    connection.execute(
        "INSERT INTO stacks VALUES ('stack-1', 'acme', 'web', 1, NULL, ?, '[]')",
        ('["project/acme/stack/stack-1"]',),
    )
    connection.close()
    return [
        recorded_event(
            event,
            position=at,
            id=event_id(position=at, recorded=at, epoch=epoch),
            recorded=at,
        )
        for at, event in enumerate(events, 1)
    ]


async def test_a_store_of_the_first_schema_keeps_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    first, *later = migrations("sqlite")
    with monkeypatch.context() as patch:
        patch.setattr("deploylog.store.sqlite.migrations", lambda backend: [first])
        migrate_store(url)
    recorded = record_at_first_schema(tmp_path / "log.db", [new_event(), stack_created("web")])

    applied = migrate_store(url)

    assert applied == [step.name for step in later]
    async with open_store(url, observer=Commits()) as store:
        assert await store.log.read(Query(order="oldest")) == recorded
        assert (await store.catalog.stack("acme", "web")).name == "web"
        await store.changesets.add(changeset(), b"{}", request=REQUEST, since=0)
        assert len(await store.changesets.list(ALL)) == 1


_FORMER = """
INSERT INTO keys VALUES ('k1', 'ci', x'0102', '["ops"]', '[]', 1, NULL);
INSERT INTO signers VALUES ('aws', 'AKIA1', 'web', x'0304', '[]', '[]', 2, 7);
INSERT INTO subscriptions VALUES (
    1, 's1', 'ops', 'slack', 'cloudevents', '{}', 'per_deployment', 'active', NULL,
    '{"kind":"anybody","id":"","name":"anybody"}', x'00', 'slack #ops', '[]', 1, '', 1, 9, NULL,
    '', 0
);
INSERT INTO pending VALUES (1, 1, 4, 'project/acme', 3, 1, 2, 'gone');
INSERT INTO attempts VALUES (1, 1, 4, 'e4', 1, 2, 'dead_lettered', 500, 'gone', '', NULL);
"""


async def test_a_store_with_former_words_takes_the_words_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "log.db"
    former = [step for step in migrations("sqlite") if step.number <= 5]
    with monkeypatch.context() as patch:
        patch.setattr("deploylog.store.sqlite.migrations", lambda backend: former)
        migrate_store(f"sqlite:///{file}")
    connection = apsw.Connection(str(file))
    connection.execute(_FORMER)
    connection.close()

    async with open_store(f"sqlite:///{file}", observer=Commits()) as store:
        key, access_key = await store.credentials.list()
        [subscription] = await store.subscriptions.list()
        [dead] = await store.deliveries.dead_letters("s1")
        [attempt] = await store.deliveries.attempts("s1")

    assert (key.kind, key.id, key.secret, key.groups) == ("key", "k1", b"\1\2", ("ops",))
    assert (access_key.kind, access_key.secret, access_key.revoked) == ("aws", b"\3\4", 7)
    assert subscription.order == "per_deployment"
    assert (subscription.owner.kind, subscription.owner.name) == ("anonymous", "anonymous")
    assert (dead.position, dead.dead_lettered, dead.error) == (4, True, "gone")
    assert attempt.result == "dead_lettered"


def test_a_newer_file_is_refused_and_unchanged(tmp_path: Path):
    file = tmp_path / "log.db"
    migrate_store(f"sqlite:///{file}")
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA user_version = 99")

    with pytest.raises(SchemaTooNew):
        migrate_store(f"sqlite:///{file}")

    assert connection.execute("PRAGMA user_version").fetchall() == [(99,)]
    assert connection.execute("SELECT head FROM log").fetchall() == [(0,)]
    connection.close()


async def test_a_newer_file_is_not_opened(tmp_path: Path):
    file = tmp_path / "log.db"
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(SchemaTooNew):
        async with open_store(f"sqlite:///{file}", observer=Commits()):
            pass


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = migrations("sqlite")
    sql = "CREATE TABLE x (a); SELECT nonsense;"
    steps.append(Migration(number=len(steps) + 1, name="x", sql=sql))
    monkeypatch.setattr("deploylog.store.sqlite.migrations", lambda backend: steps)
    file = tmp_path / "log.db"

    with pytest.raises(StoreUnavailable):
        migrate_store(f"sqlite:///{file}")

    connection = apsw.Connection(str(file))
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert connection.execute("PRAGMA user_version").fetchall() == [(0,)]
    connection.close()


@pytest.mark.parametrize("url", ["sqlite:", "sqlite:///", "sqlite://x"])
def test_what_names_no_file_is_refused(url: str):
    with pytest.raises(InvalidSettings):
        migrate_store(url)


async def test_names_of_subscriptions_become_unique_for_an_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    steps = migrations("sqlite")
    before = [step for step in steps if step.number < 15]
    with monkeypatch.context() as patch:
        patch.setattr("deploylog.store.sqlite.migrations", lambda backend: before)
        migrate_store(url)
    connection = apsw.Connection(str(tmp_path / "log.db"))
    for id, owner, collection in (("a", "x", ""), ("b", "x", ""), ("c", "y", ""), ("d", "x", "g")):
        connection.execute(
            "INSERT INTO subscriptions (id, name, kind, format, filter, 'order', state, owner,"
            " target, shown, secrets, created, collection, version, checkpoint)"
            " VALUES (?, 'ops', 'webhook', 'cloudevents', '{}', 'strict', 'active', ?, x'', '',"
            " '[]', 0, ?, 1, 0)",
            (id, f'{{"kind": "key", "id": "{owner}", "name": "{owner}"}}', collection),
        )
    connection.close()

    migrate_store(url)

    async with open_store(url, observer=Commits()) as store:
        names = {each.id: each.name for each in await store.subscriptions.list()}
    assert names == {"a": "ops", "b": "ops 2", "c": "ops", "d": "ops"}
