"""What is derived from events, and damaged: never a wrong answer, and made right again."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from deploylog.events.filters import Filter, any_of
from deploylog.events.index.segments import SEGMENT_SIZE
from deploylog.events.store import Query
from deploylog.store import open_store, verify_store
from deploylog.store.contract import Finding, Verified
from support.backends import Backend
from support.factories import Commits, deployment_event, new_events, stack_created
from support.waiting import until

CI = Query(filter=Filter(all_of=(any_of("actor", ("ci",)),)), limit=2_000)


class Damages(Commits):
    """Remembers what was reported as damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    def damaged(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
async def path(backend: Backend, store_url: str, tmp_path: Path) -> Path:
    """Where a store is with a sealed segment of 200 events, a stack and a deployment."""
    async with open_store(store_url, observer=Commits()):
        pass
    path = tmp_path / "log.db"
    backend.move_head(path, SEGMENT_SIZE - 201)
    async with open_store(store_url, observer=Commits()) as store:
        await store.log.append([stack_created()])
        await store.log.append([deployment_event("deployment.started")])
        await store.log.append(new_events(400, actor="ci"))
        await until(lambda: backend.sealed(path) == [0])
    return path


BLOBS = [
    ("segment_terms", "positions"),
    ("segment_buckets", "entries"),
    ("segment_pages", "terms"),
    ("segments", "times"),
]


@pytest.mark.parametrize(("table", "column"), BLOBS)
async def test_a_query_never_answers_from_a_damaged_blob(
    backend: Backend, store_url: str, path: Path, table: str, column: str
):
    prefix = Filter(all_of=(any_of("actor", ("ci",)), any_of("source", ("ter*",))), since=0)
    asked = [CI, Query(filter=prefix, limit=2_000)]
    async with open_store(store_url, observer=Commits()) as store:
        right = [await store.log.read(each) for each in asked]
    backend.flip(path, table, column)

    async with open_store(store_url, observer=(seen := Damages())) as store:
        found = [await store.log.read(each) for each in asked]

    assert found == right
    assert set(seen.reasons) <= {"index"}


async def test_damage_of_the_index_is_reported_and_mended_once(
    backend: Backend, store_url: str, path: Path
):
    backend.flip(path, "segment_terms", "positions")

    async with open_store(store_url, observer=(seen := Damages())) as store:
        counts = [await store.log.count(CI) for _ in range(3)]

    assert counts == [400, 400, 400]
    assert seen.reasons == ["index"]
    assert verified(store_url)[0] == []


WRONG = {
    "an index blob": "UPDATE segments SET times = '\\x00'",
    "a term gone": "DELETE FROM segment_terms WHERE term = 'actor:ci'",
    "a deployment": "UPDATE deployments SET status = 'failed', added = 7",
    "a stack": "UPDATE stacks SET name = 'other'",
    "a deployment gone": "DELETE FROM deployments",
}


@pytest.mark.parametrize("sql", WRONG.values(), ids=WRONG)
async def test_what_is_derived_is_mended(backend: Backend, store_url: str, path: Path, sql: str):
    backend.execute(path, sql)
    found, _ = verified(store_url)

    mended, result = verified(store_url, mend=True)

    assert found
    assert [each.where for each in mended] == [each.where for each in found]
    assert all(each.mended for each in mended)
    assert (result.findings, result.mended) == (len(mended), len(mended))
    assert verified(store_url)[0] == []


async def test_an_event_that_was_altered_is_found_and_not_mended(
    backend: Backend, store_url: str, path: Path
):
    backend.damage(path, [SEGMENT_SIZE - 5], "checksum")

    found, result = verified(store_url, mend=True)

    assert [(each.part, each.mended) for each in found] == [("event", False)]
    assert result.mended == 0


def verified(store_url: str, *, mend: bool = False) -> tuple[Sequence[Finding], Verified]:
    findings: list[Finding] = []
    result = verify_store(store_url, found=findings.append, progress=lambda *_: None, mend=mend)
    return findings, result
