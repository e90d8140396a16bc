"""Verification names what contradicts the events."""

from pathlib import Path

import pytest

from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.store import open_store, verify_store
from deploylog.store.contract import Finding, Verified
from support import postgres
from support.factories import Commits, new_event, new_events, stack_created
from support.waiting import until


def verify(url: str) -> tuple[Verified, list[Finding]]:
    found: list[Finding] = []
    verified = verify_store(url, found=found.append, progress=lambda done, total: None)
    return verified, found


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """A store with a stack, a deployment, and events in a sealed segment and beyond it."""
    url = postgres.url_at(tmp_path / "log.db")
    async with open_store(url, observer=Commits()):
        pass
    postgres.run(url, "UPDATE log SET head = %s", SEGMENT_SIZE - 101)
    started = new_event("deployment.started", scopes=("project/acme/stack/stack-1/deployment/d",))
    async with open_store(url, observer=Commits()) as store:
        await store.log.append([stack_created("web"), started, *new_events(198, resource="vpc")])
        await until(lambda: bool(postgres.run(url, "SELECT 1 FROM segments")))
    return url


async def test_a_whole_store_has_no_findings(url: str):
    verified, found = verify(url)

    assert found == []
    assert (verified.events, verified.compared, verified.findings) == (200, 2, 0)


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ("UPDATE events SET message = 'other' WHERE position = 65500", "event"),
        ("DELETE FROM events WHERE position = 65500", "log"),
        ("UPDATE log SET head = head - 1", "log"),
        ("DELETE FROM identities WHERE position = 65500", "identity"),
        ("DELETE FROM segment_terms WHERE term = 'type:resource.create.started'", "segment"),
        ("UPDATE deployments SET status = 'completed'", "deployment"),
        ("UPDATE stacks SET name = 'other'", "stack"),
    ],
)
async def test_what_was_altered_is_found(url: str, sql: str, part: str):
    postgres.run(url, sql)

    verified, found = verify(url)

    assert part in {each.part for each in found}
    assert verified.findings == len(found)
