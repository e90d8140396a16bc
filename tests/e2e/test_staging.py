"""Staging across processes: killed in the middle, and followed by many at once."""

import asyncio
import random
from pathlib import Path

import aiohttp

from deploylog.store.contract import Store
from support.backends import store_url_at
from support.factories import plan_document, unique
from support.servers import Running, parse_frame, running, spawned
from support.waiting import PATIENCE, until

CHANGESETS = "/log/v1/changesets"
STAGED = "/v1/deployments/changes"

ENDS = ("changeStagingComplete", "driftDetected", "error")

#: Large enough for a kill to meet it in the middle.
RESOURCES = 1_500

ROUNDS = 4

CLIENTS = 200
CUT = 50


async def stage(service: Running, number: int) -> str:
    """Stage a plan of so many resources; the change set's id."""
    plan = plan_document(number, timestamp=unique())
    answer = await service.post(plan, "application/json", f"{CHANGESETS}?project=acme")
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


async def follow(
    service: Running, id: str, *, last_id: str = "", most: int | None = None
) -> list[bytes]:
    """The frames of a change set, from after ``last_id``, to the end or ``most`` of them."""
    frames: list[bytes] = []
    headers = {"Last-Event-ID": last_id} if last_id else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=PATIENCE)
    async with service.http.get(f"{STAGED}/{id}/stream", headers=headers, timeout=timeout) as got:
        assert got.status == 200, await got.read()
        raw = b""
        while most is None or len(frames) < most:
            line = await got.content.readline()
            if not line:
                break
            raw += line
            if raw.endswith(b"\n\n"):
                frames.append(raw)
                raw = b""
            elif raw == b":\n":
                raw = b""
    return frames


def field(frame: bytes, name: bytes) -> str:
    """One field of a frame, without looking at its data."""
    return (
        frame.split(b"\n%b: " % name, 1)[-1].removeprefix(b"%b: " % name).split(b"\n")[0].decode()
    )


async def test_a_change_set_that_a_kill_met_ends_after_the_restart(tmp_path: Path):
    store_url = store_url_at(tmp_path / "log.db")
    chance = random.Random(7)
    staged: list[str] = []

    for _ in range(ROUNDS):
        async with spawned(store_url) as service:
            id = await stage(service, RESOURCES)
            staged.append(id)
            await follow(service, id, most=chance.randrange(1, RESOURCES // 2))
            service.process.kill()
            await service.process.wait()

    async with spawned(store_url) as service:
        for id in staged:
            async with asyncio.timeout(PATIENCE):
                told = await follow(service, id, last_id="everything")
            frames = [parse_frame(raw) for raw in told]
            resources = [f.data["resourceName"] for f in frames if f.event == "resourceChanges"]
            assert resources == [f"terraform_data.many[{n}]" for n in range(RESOURCES)]
            assert [f.event for f in frames[RESOURCES:]] == ["changeStagingComplete"]
            seen = await service.get(f"{STAGED}/{id}")
            assert seen.json["status"] == "CHANGES_STAGED"


async def test_a_kill_between_two_events_leaves_it_staging_until_it_is_resumed(tmp_path: Path):
    store_url = store_url_at(tmp_path / "log.db")

    async with spawned(store_url) as service:
        id = await stage(service, 4_000)
        service.process.kill()
        await service.process.wait()
    async with spawned(store_url) as service:

        async def ended() -> bool:
            return (await service.get(f"{CHANGESETS}/{id}")).json["status"] == "staged"

        status = (await service.get(f"{CHANGESETS}/{id}")).json["status"]
        await until(ended, seconds=60)

    assert status == "staging"


async def test_two_hundred_clients_of_whom_fifty_are_cut_see_the_same(store: Store):
    chance = random.Random(11)

    async def cut(service: Running, id: str) -> list[bytes]:
        """Cut after some frames, time and again, and resumed after the last one."""
        frames: list[bytes] = []
        while not frames or field(frames[-1], b"event") not in ENDS:
            last_id = field(frames[-1], b"id") if frames else ""
            most = chance.randrange(1, 60)
            frames += await follow(service, id, last_id=last_id, most=most)
        return frames

    async with running(store) as service:
        id = await stage(service, 400)
        async with asyncio.timeout(3 * PATIENCE):
            sequences = await asyncio.gather(
                *(follow(service, id) for _ in range(CLIENTS - CUT)),
                *(cut(service, id) for _ in range(CUT)),
            )

    first = sequences[0]
    assert len(first) == 401
    assert all(sequence == first for sequence in sequences)
    assert len(parse_frame(first[-1]).data["changes"]["newResources"]) == 400
