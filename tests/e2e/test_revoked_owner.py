"""Revocation: what a key had delivered ends with the key, and the log says so."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploylog.store.contract import Store
from support.factories import now
from support.receivers import Receiver, receiving
from support.servers import EVENTS, Spawned, line, spawned
from support.subscribers import (
    LOOPBACK,
    SUBSCRIPTIONS,
    Headers,
    add_key,
    caught_up,
    document,
    encryption_key_file,
    standing,
    subscribe,
)
from support.waiting import PATIENCE, until

#: Seconds within which deliveries end, and what a busy machine may add.
SOON = 1.0
BUSY = 2.0


class World(msgspec.Struct):
    """Ann, whose key is to be revoked, an operator, and the service."""

    service: Spawned
    store: Store
    ann: str
    anns: Headers
    operators: Headers

    async def record(self, subject: str) -> None:
        body = msgspec.json.encode(line(subject=subject))
        answer = await self.service.post(body, headers=self.operators)
        assert answer.status == 201, answer.body

    async def subscribe(self, receiver: Receiver, headers: Headers) -> str:
        made = await subscribe(
            self.service, receiver.url, headers=headers, source="terraform", scopes=["project/acme"]
        )
        return str(made["id"])

    async def state(self, id: str) -> tuple[str, str | None]:
        shown = await standing(self.service, id, headers=self.operators)
        return shown["state"], shown["reason"]

    async def told(self) -> list[Any]:
        """What the service itself did to subscriptions: not what people asked for."""
        asked_for = "type!=subscription.created&type!=subscription.reactivated"
        path = f"{EVENTS}?type=subscription.*&{asked_for}&order=oldest"
        page = await self.service.get(path, headers=self.operators)
        return list(page.json["events"])


@pytest.fixture
async def world(store: Store, store_url: str, tmp_path: Path) -> AsyncIterator[World]:
    ann, anns = await add_key(store, "read:project/acme", name="ann")
    _, operators = await add_key(store, "admin:/", name="operator")
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
    }
    async with spawned(store_url, **options) as service:
        yield World(service, store, ann.id, anns, operators)


def subjects(receiver: Receiver) -> list[str]:
    return [document(body)["subject"] for _, body in receiver.requests]


async def test_deliveries_end_soon_after_the_owners_key(world: World):
    async with receiving() as anns, receiving() as operators:
        hers = await world.subscribe(anns, world.anns)
        kept = await world.subscribe(operators, world.operators)
        await world.record("before")
        await caught_up(world.service, hers, headers=world.operators)

        await world.store.credentials.revoke(world.ann, now())
        revoked = time.monotonic()
        await until(lambda: _is_disabled(world, hers))
        took = time.monotonic() - revoked
        await world.record("after")
        await caught_up(world.service, kept, headers=world.operators)
        told = await world.told()
        # Stops its workers, so that no request is in flight.
        await world.service.end()

    assert took < SOON + BUSY
    assert subjects(anns) == ["before"]
    assert subjects(operators) == ["before", "after"]
    [notice] = told
    assert notice["type"] == "subscription.disabled"
    assert notice["subject"].startswith("ops-")
    assert notice["data"]["subscription"] == hers
    assert notice["data"]["reason"] == 'owner "ann" no longer has read access'
    assert "project/acme" in notice["scopes"]


async def test_what_is_recorded_a_second_after_the_revocation_is_not_delivered(world: World):
    async with receiving() as anns:
        hers = await world.subscribe(anns, world.anns)
        await world.store.credentials.revoke(world.ann, now())
        revoked = time.monotonic()

        recorded: list[Any] = []
        async with asyncio.timeout(PATIENCE):
            while not await _is_disabled(world, hers):
                recorded.append((time.monotonic() - revoked, f"event-{len(recorded)}"))
                await world.record(recorded[-1][1])
        await world.service.end()

    allowed = [subject for moment, subject in recorded if moment < SOON + BUSY]
    assert len(recorded) > 1
    assert subjects(anns) == allowed[: len(anns.requests)]


async def test_nobody_but_the_owner_can_let_it_continue_and_an_operator_can_delete_it(world: World):
    async with receiving() as anns:
        hers = await world.subscribe(anns, world.anns)
        path = f"{SUBSCRIPTIONS}/{hers}"
        await world.store.credentials.revoke(world.ann, now())
        await until(lambda: _is_disabled(world, hers))

        await world.record("after")
        by_owner = await world.service.post(b"", path=f"{path}/resume", headers=world.anns)
        resumed = await world.service.post(b"", path=f"{path}/resume", headers=world.operators)
        await until(lambda: _is_disabled(world, hers))
        told = await world.told()
        deleted = await world.service.ask("DELETE", path, headers=world.operators)
        gone = await world.service.get(path, headers=world.operators)
        await world.service.end()

    assert by_owner.status == 401
    assert (resumed.status, resumed.json["state"]) == (200, "active")
    assert anns.requests == []
    assert [event["type"] for event in told] == ["subscription.disabled"] * 2
    assert (deleted.status, gone.status) == (204, 404)


async def _is_disabled(world: World, id: str) -> bool:
    return (await world.state(id))[0] == "disabled"
