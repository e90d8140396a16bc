"""Subscriptions and their deliveries, from the other side."""

from datetime import datetime
from typing import Any

import aiohttp
import msgspec

from deploylog.client.connection import CONNECT_SECONDS, Connection, segment
from deploylog.client.models import Params

_ROOT = "/log/v1/subscriptions"
_JSON = {"Content-Type": "application/json"}

# A receiver may take its time to answer a test.
_TESTING = aiohttp.ClientTimeout(total=90, sock_connect=CONNECT_SECONDS)


class SecretState(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that signs, without its value."""

    created: datetime
    expires: datetime | None = None


class SubscriptionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subscription, as the server tells of it."""

    id: str
    name: str
    kind: str
    format: str
    target: str
    scopes: tuple[str, ...]
    filter: dict[str, tuple[str, ...]]
    order: str
    state: str
    reason: str | None
    owner: str
    created: datetime
    checkpoint: str
    lag: int
    failing_since: datetime | None
    pending: int
    dead_lettered: int
    next_try: datetime | None
    secrets: tuple[SecretState, ...]
    #: Told once, to who had it drawn.
    secret: str | None = None


class AttemptState(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver one event."""

    event: str
    position: str
    started: datetime
    latency_ms: int
    result: str
    status: int | None = None
    error: str | None = None
    response: str = ""
    next_try: datetime | None = None


class AttemptPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some attempts, newest first."""

    attempts: tuple[AttemptState, ...]
    #: Where the next page goes on from (``before=``), when there may be one.
    next: str | None = None


class DeadLetterState(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was given up."""

    event: str | None
    position: str
    tries: int
    first_try: datetime | None = None
    error: str | None = None


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events that were given up, in the order of the log."""

    dead_letters: tuple[DeadLetterState, ...]
    #: Where the next page goes on from (``after=``), when there may be one.
    next: str | None = None


class _Subscriptions(msgspec.Struct):
    subscriptions: tuple[SubscriptionState, ...]


class _Redelivered(msgspec.Struct):
    events: int


#: What a request says in its body; what is ``None`` is left out.
SubscriptionFields = dict[str, Any]


class SubscriptionCalls:
    """The calls about subscriptions. Each raises ServerUnreachable or ClientError."""

    def __init__(self, connection: Connection) -> None:
        """Use ``connection``, which carries the key."""
        self._call = connection.call

    async def list(self) -> tuple[SubscriptionState, ...]:
        """One's own, and those whose scopes one administers."""
        return (await self._call("GET", _ROOT, _Subscriptions)).subscriptions

    async def add(self, said: SubscriptionFields) -> SubscriptionState:
        """Subscribe."""
        return await self._call(
            "POST", _ROOT, SubscriptionState, body=_encoded(said), headers=_JSON
        )

    async def get(self, id: str) -> SubscriptionState:
        """One subscription."""
        return await self._call("GET", _one(id), SubscriptionState)

    async def change(self, id: str, said: SubscriptionFields) -> SubscriptionState:
        """Let it be different."""
        return await self._call(
            "PATCH", _one(id), SubscriptionState, body=_encoded(said), headers=_JSON
        )

    async def delete(self, id: str) -> None:
        """Forget it."""
        await self._call("DELETE", _one(id), msgspec.Raw)

    async def pause(self, id: str) -> SubscriptionState:
        """Let it wait."""
        return await self._call("POST", f"{_one(id)}/pause", SubscriptionState)

    async def resume(self, id: str) -> SubscriptionState:
        """Let it go on."""
        return await self._call("POST", f"{_one(id)}/resume", SubscriptionState)

    async def rotate_secret(self, id: str, said: SubscriptionFields) -> SubscriptionState:
        """Sign with another secret."""
        return await self._call(
            "POST", f"{_one(id)}/rotate-secret", SubscriptionState,
            body=_encoded(said), headers=_JSON,
        )  # fmt: skip

    async def test(self, id: str) -> AttemptState:
        """Deliver an event that is none, at once."""
        return await self._call("POST", f"{_one(id)}/test", AttemptState, timeout=_TESTING)

    async def redeliver(self, id: str, said: SubscriptionFields) -> int:
        """Send one ``event`` again, or those given up ``since`` a time; how many."""
        redelivered = await self._call(
            "POST", f"{_one(id)}/redeliver", _Redelivered, body=_encoded(said), headers=_JSON
        )
        return redelivered.events

    async def attempts(self, id: str, params: Params) -> AttemptPage:
        """One page of what became of its requests."""
        return await self._call("GET", f"{_one(id)}/attempts", AttemptPage, params=params)

    async def dead_letters(self, id: str, params: Params) -> DeadLetterPage:
        """One page of what was given up."""
        return await self._call("GET", f"{_one(id)}/dead-letters", DeadLetterPage, params=params)


def _one(id: str) -> str:
    return f"{_ROOT}/{segment(id)}"


def _encoded(said: SubscriptionFields) -> bytes:
    return msgspec.json.encode({name: value for name, value in said.items() if value is not None})
