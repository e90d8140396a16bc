"""The calls of the native API about subscriptions and deliveries."""

from datetime import datetime
from typing import Any

import msgspec

from deploylog.client.connection import Connection, segment
from deploylog.client.models import Params
from deploylog.client.transport import Timeouts

_ROOT = "/log/v1/subscriptions"
_JSON = {"Content-Type": "application/json"}

# A receiver may take a while to respond to a test event.
_TESTING = Timeouts(total=90)


class SecretState(msgspec.Struct, frozen=True, kw_only=True):
    """A signing secret, without its value."""

    created: datetime
    expires: datetime | None = None


class SubscriptionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subscription, as the server returns it."""

    id: str
    name: str
    kind: str
    format: str
    target: str
    scopes: tuple[str, ...]
    #: Instead of scopes.
    project: str | None
    stack: tuple[str, ...]
    environment: tuple[str, ...]
    version: tuple[str, ...] = ()
    commit: tuple[str, ...] = ()
    label: dict[str, str] = {}
    #: Values by field; a text in ``q``, and values by field in ``not``.
    filter: dict[str, tuple[str, ...] | str | dict[str, tuple[str, ...]]]
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
    #: The signing secret, only in the response that created it.
    secret: str | None = None


class AttemptState(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver one event."""

    event: str
    position: str
    started: datetime
    latency_ms: int
    result: str
    status: int | None = None
    error: str | None = None
    request: str = ""
    response: str = ""
    next_try: datetime | None = None


class AttemptPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of attempts, newest first."""

    attempts: tuple[AttemptState, ...]
    #: The ``before`` of the next page, if there may be one.
    next: str | None = None


class DeadLetterState(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose delivery was given up."""

    event: str | None
    position: str
    tries: int
    first_try: datetime | None = None
    error: str | None = None


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters, in log order."""

    dead_letters: tuple[DeadLetterState, ...]
    #: The ``after`` of the next page, if there may be one.
    next: str | None = None


class _Subscriptions(msgspec.Struct):
    subscriptions: tuple[SubscriptionState, ...]


class _Redelivered(msgspec.Struct):
    events: int


#: The body of a request; fields that are ``None`` are left out.
SubscriptionFields = dict[str, Any]


class SubscriptionCalls:
    """The calls about subscriptions. Each raises ServerUnreachable or ClientError."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call

    async def list(self) -> tuple[SubscriptionState, ...]:
        """Return the subscriptions that the key owns or administers."""
        return (await self._call("GET", _ROOT, _Subscriptions)).subscriptions

    async def add(self, fields: SubscriptionFields) -> SubscriptionState:
        return await self._call(
            "POST", _ROOT, SubscriptionState, body=_encode(fields), headers=_JSON
        )

    async def get(self, id: str) -> SubscriptionState:
        return await self._call("GET", _path(id), SubscriptionState)

    async def change(self, id: str, fields: SubscriptionFields) -> SubscriptionState:
        """Replace the fields that are given."""
        return await self._call(
            "PATCH", _path(id), SubscriptionState, body=_encode(fields), headers=_JSON
        )

    async def delete(self, id: str) -> None:
        await self._call("DELETE", _path(id), msgspec.Raw)

    async def pause(self, id: str) -> SubscriptionState:
        return await self._call("POST", f"{_path(id)}/pause", SubscriptionState)

    async def resume(self, id: str) -> SubscriptionState:
        return await self._call("POST", f"{_path(id)}/resume", SubscriptionState)

    async def rotate_secret(self, id: str, fields: SubscriptionFields) -> SubscriptionState:
        """Sign with a new ``secret``; the old one also signs for ``overlap`` seconds."""
        return await self._call(
            "POST", f"{_path(id)}/rotate-secret", SubscriptionState,
            body=_encode(fields), headers=_JSON,
        )  # fmt: skip

    async def test(self, id: str) -> AttemptState:
        """Send a test event now."""
        return await self._call("POST", f"{_path(id)}/test", AttemptState, timeouts=_TESTING)

    async def redeliver(self, id: str, fields: SubscriptionFields) -> int:
        """Redeliver one ``event``, or the dead letters ``since`` a time; return how many."""
        redelivered = await self._call(
            "POST", f"{_path(id)}/redeliver", _Redelivered, body=_encode(fields), headers=_JSON
        )
        return redelivered.events

    async def attempts(self, id: str, params: Params) -> AttemptPage:
        return await self._call("GET", f"{_path(id)}/attempts", AttemptPage, params=params)

    async def dead_letters(self, id: str, params: Params) -> DeadLetterPage:
        return await self._call("GET", f"{_path(id)}/dead-letters", DeadLetterPage, params=params)


def _path(id: str) -> str:
    return f"{_ROOT}/{segment(id)}"


def _encode(fields: SubscriptionFields) -> bytes:
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})
