"""``deploylog verify``: whatever is wrong in a store has its line, and what is right has none."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.store import verify_store
from deploylog.store.contract import Finding, Store, Verified
from support.cli import Result, deploylog
from support.factories import (
    OpenStoreAgain,
    deployment_event,
    new_event,
    new_events,
    stack_created,
    unique,
)
from support.servers import Local, running

SCOPE = "project/acme/stack/stack-1/deployment/deployment-1"


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


async def fill(store: Store) -> None:
    """A stack with a deployment, resources, releases for groups, and events with ids."""
    await store.log.append([stack_created()])
    await store.log.append([deployment_event("deployment.started")])
    await store.log.append(
        new_events(20, type="resource.create.completed", scopes=(SCOPE,), resource="web")
    )
    await store.log.append([deployment_event("deployment.completed", message="done")])
    await store.log.append(new_events(5, scopes=("inventory/ip/ia",), groups=("a", "b")))
    await store.log.append([new_event(scopes=("project/acme", "image/base"))])


def execute(file: Path, *statements: str) -> None:
    connection = apsw.Connection(str(file))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def verified(file: Path) -> tuple[list[str], Verified]:
    findings: list[Finding] = []
    result = verify_store(f"sqlite:///{file}", found=findings.append, progress=lambda *_: None)
    return [f"{each.part} {each.where}" for each in findings], result


def found_in(file: Path) -> list[Finding]:
    findings: list[Finding] = []
    verify_store(f"sqlite:///{file}", found=findings.append, progress=lambda *_: None)
    return findings


async def test_a_store_in_use_is_in_order(server: Local, store: Store, file: Path):
    await fill(store)

    findings, result = verified(file)

    assert findings == []
    assert (result.events, result.unchecked, result.compared) == (29, 0, 2)


WRONG = {
    "content": ("UPDATE event_rows SET message = 'x' WHERE position = 4", "event 4"),
    "encoding": (
        "UPDATE event_rows SET message = CAST(x'ff' AS TEXT) WHERE position = 4",
        "event 4",
    ),
    "no checksum": ("UPDATE event_rows SET checksum = NULL WHERE position = 4", "event 4"),
    "a count": ("UPDATE deployments SET added = 7", "deployment deployment-1"),
    "a status": ("UPDATE deployments SET status = 'failed'", "deployment deployment-1"),
    "a deployment gone": ("DELETE FROM deployments", "deployment deployment-1"),
    "a stack's name": ("UPDATE stacks SET name = 'other'", "stack stack-1"),
    "a stack of nothing": (
        "INSERT INTO stacks VALUES ('s', 'acme', 's', 1, NULL, '[]', '[]')",
        "stack s",
    ),
    "an entry of no event": (
        "INSERT INTO event_contexts VALUES (9, 's', '[]', NULL, 'alice');"
        " UPDATE log SET head = head + 16384",
        "dictionary event_contexts 9",
    ),
    "a head too low": ("UPDATE log SET head = 20", "log 29"),
    "a floor too high": ("UPDATE log SET floor = 3", "log 1"),
    "a request's positions": ("INSERT INTO requests VALUES ('k', x'00', '[', 1)", "request k"),
    "an index": (
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql,"
        " '(stack_id, environment, number)', '(stack_id, number)') WHERE name ="
        " 'deployments_place';"
        " PRAGMA writable_schema = RESET",
        "file integrity_check",
    ),
}


@pytest.mark.parametrize(("statement", "expected"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_named(store: Store, file: Path, statement: str, expected: str):
    await fill(store)
    execute(file, statement)

    findings, result = verified(file)

    assert expected in findings
    assert result.findings == len(findings)


#: What is wrong with a sealed segment, and what a finding says of it.
WRONG_INDEX = {
    "a term gone": (
        "DELETE FROM segment_terms WHERE term = 'scope:project/acme'",
        "term 'scope:project/acme' is wrong for position 65477",
    ),
    "a term of nothing": (
        "INSERT INTO segment_terms SELECT 0, 'type:x', positions FROM segment_terms LIMIT 1",
        "term 'type:x' is wrong for position",
    ),
    "positions of another term": (
        "UPDATE segment_terms SET positions = (SELECT positions FROM segment_terms"
        " WHERE term = 'group:a') WHERE term = 'public:'",
        "term 'public:' is wrong for position",
    ),
    "a bucket gone": ("DELETE FROM segment_buckets", "is wrong for position"),
    "a page gone": ("DELETE FROM segment_pages", "the page of terms from"),
    "identities gone": ("DELETE FROM segment_identities", "the identity of position"),
    "times": (
        "UPDATE segments SET times = zeroblob(1024)",
        "'times' is damaged (checksum mismatch)",
    ),
    "a flipped bit": (
        "UPDATE segment_terms SET positions = x'ff' || substr(positions, 2) WHERE term = 'public:'",
        "term 'public:' is damaged (checksum mismatch)",
    ),
}


@pytest.mark.parametrize(("statement", "expected"), WRONG_INDEX.values(), ids=WRONG_INDEX)
async def test_what_is_wrong_in_the_index_is_named(
    open_again: OpenStoreAgain, file: Path, statement: str, expected: str
):
    async with open_again():
        pass
    # The segment that ends at position 65,535 is full a little later.
    execute(file, f"UPDATE log SET head = {SEGMENT_SIZE - 60}")
    async with open_again() as store:
        await fill(store)
    execute(file, f"UPDATE log SET head = {SEGMENT_SIZE}")
    async with open_again():
        pass
    assert verified(file)[0] == []
    execute(file, statement)

    findings = found_in(file)

    assert [each.what for each in findings if expected in each.what], findings


#: Changes to a segment of which some events are pruned, and what a finding says of each.
WRONG_AND_PRUNED = {
    "nothing": ("SELECT 1", None),
    "its terms gone": ("DELETE FROM segment_pages", "is in no page"),
    "its terms damaged": ("UPDATE segment_pages SET terms = x'00'", "is damaged"),
    "its times damaged": ("UPDATE segments SET times = x'00'", "is damaged"),
}


@pytest.mark.parametrize(("statement", "expected"), WRONG_AND_PRUNED.values(), ids=WRONG_AND_PRUNED)
async def test_a_segment_is_verified_when_some_of_its_events_are_pruned(
    open_again: OpenStoreAgain, file: Path, statement: str, expected: str | None
):
    async with open_again():
        pass
    execute(file, f"UPDATE log SET head = {SEGMENT_SIZE - 2_050}")
    async with open_again() as store:
        await store.log.append([new_event(message=unique("rare")) for _ in range(1_500)])
        await store.log.append([new_event(message=unique("rare")) for _ in range(600)])
    async with open_again() as store:
        await store.log.prune((await store.log.get(SEGMENT_SIZE - 400)).recorded)
    execute(file, statement)

    findings = found_in(file)

    assert bool(findings) == (expected is not None)
    assert all(expected is not None and expected in each.what for each in findings), findings


async def test_an_event_that_is_recorded_twice_is_named(store: Store, file: Path):
    await store.log.append(new_events(2))
    execute(
        file,
        "UPDATE event_rows SET producer_id = 'twice', checksum = NULL",
        "UPDATE log SET unchecked = head",
    )

    findings, _ = verified(file)

    assert "identity 2" in findings


async def test_what_is_no_longer_retained_is_not_compared(store: Store, file: Path):
    await fill(store)
    await store.log.prune(2**62)
    await store.log.append([stack_created("later", id="stack-2")])

    findings, result = verified(file)

    assert findings == []
    assert (result.events, result.compared, result.not_compared) == (1, 1, 2)


async def test_events_of_old_are_named_as_unchecked_and_not_as_wrong(store: Store, file: Path):
    await fill(store)
    execute(file, "UPDATE event_rows SET checksum = NULL", "UPDATE log SET unchecked = head")

    findings, result = verified(file)

    assert findings == []
    assert result.unchecked == 29


def lose_page(file: Path) -> None:
    """Overwrite one that holds events."""
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sql = "SELECT pageno FROM dbstat WHERE name = 'event_rows' AND pagetype = 'leaf'"
    page = int(str(connection.execute(sql).fetchall()[3][0]))
    connection.close()
    content = bytearray(file.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    file.write_bytes(content)


async def test_a_page_of_the_file_that_is_lost_is_named(open_again: OpenStoreAgain, file: Path):
    async with open_again() as store:
        await store.log.append(new_events(200, message="x" * 500))
    lose_page(file)

    findings, result = verified(file)

    assert {"file integrity_check", "file content"} <= set(findings)
    assert result.findings == len(findings)


async def run(file: Path, *options: str) -> Result:
    return await deploylog("verify", "--store", f"sqlite:///{file}", *options)


async def test_the_command_prints_a_line_for_each_finding_and_fails(store: Store, file: Path):
    await fill(store)
    right = await run(file)
    execute(file, "UPDATE event_rows SET message = 'x' WHERE position = 4")

    wrong, as_json = await run(file), await run(file, "--json")

    assert (right.code, right.out) == (
        0,
        "29 events verified; 2 stacks and deployments compared with their events; 0 findings\n",
    )
    assert wrong.code == as_json.code == 1
    assert wrong.out.splitlines()[0] == (
        "event 4: the content differs from what was recorded (checksum mismatch)"
    )
    assert json.loads(as_json.out.splitlines()[0])["where"] == "4"


async def test_a_store_that_no_process_has_open_is_verified(open_again: OpenStoreAgain, file: Path):
    async with open_again() as store:
        await fill(store)

    findings, result = verified(file)

    assert (findings, result.events) == ([], 29)


async def test_a_missing_store_is_not_created(file: Path):
    answer = await run(file)

    assert answer.code == 2
    assert not await asyncio.to_thread(file.exists)
