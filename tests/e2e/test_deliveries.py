"""Webhooks end to end: a real service, a real receiver that fails by a script in a process of its
own, and more than an hour of the retry schedule, by a clock that jumps.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from deploylog.auth.encryption import make_encryption_key
from deploylog.auth.standard_webhooks import make_secret
from deploylog.store.contract import Store
from support.paths import TESTS
from support.receivers import certified
from support.servers import Local, Running, running
from support.waiting import PATIENCE, until
from support.workers import JumpingClock

#: One step per request; then the receiver accepts every request.
SCRIPT = [
    *("ok", "500", "ok", "ok", "429", "ok", "cut", "ok", "reset", "reset", "ok", "hang", "ok"),
    *("refuse", "ok", "badcert", "ok", "redirect", "ok", "gone", "ok", "500", "cut", "hang", "429"),
    *("refuse", "ok", *["500"] * 9, "ok", "ok", "badcert", "gone", "ok", "reset", "ok"),
]

EVENTS = 120
DEPLOYMENTS = 4


class Arrival(msgspec.Struct, rename={"webhook_id": "webhook-id"}):
    """A request that the receiver accepted."""

    webhook_id: str
    id: str
    position: str
    previous: str | None
    scopes: str


class ScriptedReceiver:
    """A receiver in a process of its own, as its folder shows it."""

    def __init__(self, folder: Path, secret: str) -> None:
        self.folder = folder
        self.secret = secret

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{(self.folder / 'port').read_text()}/hook/deep?secret=1"

    @property
    def arrivals(self) -> list[Arrival]:
        file = self.folder / "arrivals"
        written = file.read_bytes() if file.exists() else b""
        # The last line may be incomplete.
        lines = written[: written.rfind(b"\n") + 1].splitlines()
        return [msgspec.json.decode(line, type=Arrival) for line in lines]

    @property
    def bad_signatures(self) -> str:
        file = self.folder / "bad_signatures"
        return file.read_text() if file.exists() else ""


def prepare(folder: Path) -> str:
    """Fill the receiver's folder, and return the secret."""
    folder.mkdir()
    for name in ("good", "bad"):
        (folder / name).mkdir()
        _, certificate = certified(folder / name)
        key = Path(certificate).with_suffix(".key").read_text()
        (folder / f"{name}.pem").write_text(Path(certificate).read_text() + key)
        (folder / f"{name}.crt").write_text(Path(certificate).read_text())
    secret = make_secret()
    (folder / "secret").write_text(secret)
    (folder / "script").write_text(" ".join(SCRIPT))
    return secret


@asynccontextmanager
async def receiver(folder: Path) -> AsyncIterator[ScriptedReceiver]:
    """Run the receiver, whose certificate is in ``good.crt``."""
    secret = prepare(folder)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(TESTS / "support" / "hooks.py"), str(folder)
    )
    try:
        await until((folder / "port").exists)
        yield ScriptedReceiver(folder, secret)
    finally:
        process.kill()
        await process.wait()


async def subscribe(service: Running, hook: ScriptedReceiver, order: str) -> str:
    body = {
        "name": "ops",
        "kind": "webhook",
        "url": hook.url,
        "secret": hook.secret,
        "order": order,
        "filter": {"type": ["resource.*"]},
        "from": "start",
    }
    answer = await service.post(body, "application/json", "/log/v1/subscriptions")
    assert answer.status == 201, answer.body
    id: str = answer.json["id"]
    return id


async def append(service: Running) -> list[str]:
    """Append events of several deployments in turn, and return their ids."""
    opened = [await service.open(f"stack-{number}") for number in range(DEPLOYMENTS)]
    ids = []
    for number in range(EVENTS):
        path = f"/log/v1/events?deployment={opened[number % DEPLOYMENTS]['id']}&source=test"
        ids += await service.append([{"type": "resource.create.started"}], path)
    return ids


async def keep_resuming(service: Running, id: str) -> None:
    """Resume the subscription after each 410, as a user who knows better."""
    while True:
        await until(lambda: _is_disabled(service, id), seconds=3 * PATIENCE)
        answer = await service.post(b"", "application/json", f"/log/v1/subscriptions/{id}/resume")
        assert answer.status == 200, answer.body


@asynccontextmanager
async def delivering(
    store: Store, tmp_path: Path, clock: JumpingClock
) -> AsyncIterator[tuple[Local, ScriptedReceiver]]:
    key_file = tmp_path / "encryption.key"
    key_file.write_text(make_encryption_key())
    async with receiver(tmp_path / "receiver") as hook:
        service = running(
            store,
            clock=clock.clock,
            secret_key_file=str(key_file),
            delivery_allowed_networks="127.0.0.0/8",
            delivery_ca_file=str(hook.folder / "good.crt"),
            delivery_seconds=0.5,
        )
        async with service as server:
            yield server, hook


@pytest.mark.parametrize("order", ["strict", "per_deployment"])
async def test_every_event_arrives_at_a_receiver_that_keeps_failing(
    store: Store, tmp_path: Path, order: str
):
    clock = JumpingClock()
    async with delivering(store, tmp_path, clock) as (service, hook):
        ids = await append(service)
        subscription = await subscribe(service, hook, order)
        resuming = asyncio.create_task(keep_resuming(service, subscription))
        async with asyncio.timeout(3 * PATIENCE):
            await until(
                lambda: len({each.id for each in hook.arrivals}) == EVENTS, seconds=3 * PATIENCE
            )
            await until(lambda: _is_done(service, subscription))
        resuming.cancel()
        attempts = await store.deliveries.attempts(subscription, limit=1000)

    arrived = hook.arrivals
    first = list({each.id: each for each in arrived}.values())
    assert hook.bad_signatures == ""
    assert clock.passed >= 1200
    assert all(each.webhook_id == each.id for each in arrived)
    assert {each.status for each in attempts} >= {200, 307, 410, 429, 500, None}
    assert {each.result for each in attempts} == {"delivered", "failed"}
    assert any("certificate" in (each.error or "") for each in attempts)
    assert {each.id for each in first} == set(ids)
    if order == "strict":
        assert [each.id for each in first] == ids
        assert [each.previous for each in first[1:]] == [each.position for each in first[:-1]]


async def _is_disabled(service: Running, id: str) -> bool:
    return (await service.get(f"/log/v1/subscriptions/{id}")).json["state"] == "disabled"


async def _is_done(service: Running, id: str) -> bool:
    standing = (await service.get(f"/log/v1/subscriptions/{id}")).json
    return standing["pending"] == 0 and standing["state"] == "active"


async def test_responses_about_a_failing_receiver_contain_no_secret(store: Store, tmp_path: Path):
    clock = JumpingClock()
    async with delivering(store, tmp_path, clock) as (service, hook):
        id = await subscribe(service, hook, "strict")
        await append(service)
        await until(lambda: hook.arrivals)
        bodies = [
            (await service.get(f"/log/v1/subscriptions{path}")).body
            for path in ("", f"/{id}", f"/{id}/attempts", f"/{id}/dead-letters")
        ]
        bodies.append(json.dumps((await service.get("/log/v1/events?limit=1000")).json).encode())

    for body in bodies:
        assert b"deep" not in body
        assert hook.secret.encode() not in body
