"""A store moves to the other backend by a copy that is killed, and readers go on after it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import postgres
from support.backends import BACKENDS
from support.forked import Forked, fork
from support.receivers import Receiver, receiving, say
from support.servers import EVENTS, Running, line, spawned
from support.subscribers import LOOPBACK, caught_up, encryption_key_file, headers_of, subscribe
from support.waiting import until

#: Events of the store, enough for a copy to be killed in the middle.
REQUESTS, EVENTS_EACH = 12, 1_000

REFUSED = b"HTTP/1.1 503 Not now\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(*[say(REFUSED)] * 10_000) as receiver:
        yield receiver


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
    }


async def start_copy(source: str, target: str) -> Forked:
    return await fork("copy", source, target)


async def kill_in_the_middle(source: str, target: str) -> int:
    """Kill a copy while it copies events; return how many arrived."""
    copying = await start_copy(source, target)

    def copied() -> int:
        there = postgres.run(target, "SELECT to_regclass('events') IS NOT NULL")[0][0]
        return int(postgres.run(target, "SELECT count(*) FROM events")[0][0]) if there else 0

    await until(lambda: copied() > 0)
    copying.kill()
    await copying.wait()
    return copied()


async def page(service: Running, cursor: str | None = None) -> Any:
    after = f"&after={cursor}" if cursor else ""
    answer = await service.get(f"{EVENTS}?order=oldest&source=copied&limit=100{after}")
    assert answer.status == 200, answer.body
    return answer.json


async def test_readers_and_a_subscription_go_on_after_a_copy_that_was_killed(
    tmp_path: Path, receiver: Receiver, options: dict[str, Any]
):
    source = BACKENDS["sqlite"].url_at(tmp_path / "log.db")
    target = postgres.empty_url_at(tmp_path / "copy")
    async with spawned(source, **options) as before:
        for _ in range(REQUESTS):
            await before.append([line(source="bulk")] * EVENTS_EACH)
        sent = [line(source="copied", subject=str(number)) for number in range(300)]
        ids = await before.append(sent)
        first = await page(before)
        hooked = await subscribe(before, receiver.url, source="copied")
        await until(lambda: receiver.requests)
        await before.end()
    tried = len(receiver.requests)

    had = await kill_in_the_middle(source, target)
    copying = await start_copy(source, target)
    said, _ = await copying.communicate()

    assert 0 < had < REQUESTS * EVENTS_EACH
    assert copying.returncode == 0, said
    receiver.steps.clear()
    async with spawned(target, **options) as after:
        async with after.stream("source=copied", headers={"Last-Event-ID": ids[149]}) as stream:
            assert await stream.take(150) == ids[150:]
        second = await page(after, first["next"])
        assert [each["id"] for each in second["events"]] == ids[100:200]
        await caught_up(after, hooked["id"])
    delivered = [headers_of(head)["webhook-id"] for head, _ in receiver.requests[tried:]]
    assert delivered == ids
