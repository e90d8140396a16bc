"""Subscribers: their keys, their subscriptions over HTTP, and the progress of deliveries."""

import json
from pathlib import Path
from typing import Any

from deploylog.auth.api_keys import make_key
from deploylog.auth.encryption import make_encryption_key
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from deploylog.subscriptions.subscription import Owner
from support.factories import now, unique
from support.servers import Running
from support.waiting import until

SUBSCRIPTIONS = "/log/v1/subscriptions"

#: The network of receivers in tests.
LOOPBACK = "127.0.0.1/32"

Headers = dict[str, str]


def encryption_key_file(directory: Path) -> str:
    """A file with a new encryption key."""
    file = directory / "encryption.key"
    file.write_text(make_encryption_key())
    file.chmod(0o600)
    return str(file)


async def add_key(
    store: Store, *grants: str, groups: tuple[str, ...] = (), name: str = "ann"
) -> tuple[Owner, Headers]:
    """Add an API key; returns its owner, and the headers that present it."""
    granted = [parse_grant(grant) for grant in grants]
    key, secret = make_key(name=name, groups=groups, grants=granted, now=now())
    await store.credentials.add(key)
    return Owner(kind="key", id=key.id, name=name), {"Authorization": f"Bearer {secret}"}


async def subscribe(
    service: Running, url: str = "", *, headers: Headers | None = None, **fields: Any
) -> Any:
    """Create a subscription; ``source`` is a filter."""
    body: dict[str, object] = {"name": unique("ops"), "kind": "webhook", "from": "start", **fields}
    if url:
        body["url"] = url
    if source := body.pop("source", None):
        body["filter"] = {"source": [source], **fields.get("filter", {})}
    answer = await service.post(body, "application/json", SUBSCRIPTIONS, headers=headers or {})
    assert answer.status == 201, answer.body
    return answer.json


async def standing(service: Running, id: str, *, headers: Headers | None = None) -> Any:
    """The current state of the subscription."""
    answer = await service.get(f"{SUBSCRIPTIONS}/{id}", headers=headers or {})
    assert answer.status == 200, answer.body
    return answer.json


async def caught_up(
    service: Running, id: str, *, headers: Headers | None = None, seconds: float = 20
) -> None:
    """Wait until all deliveries are recorded."""

    async def is_there() -> bool:
        now = await standing(service, id, headers=headers)
        return (now["lag"], now["pending"]) == (0, 0)

    await until(is_there, seconds=seconds)


def headers_of(head: bytes) -> Headers:
    """The headers of a request, by lower-case name."""
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    pairs = (line.partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}


def document(body: bytes) -> Any:
    """The JSON of a request body."""
    return json.loads(body)
