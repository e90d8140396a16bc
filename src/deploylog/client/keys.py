"""The calls of the native API about keys."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from deploylog.client.connection import Connection, segment

_ROOT = "/log/v1/keys"
_JSON = {"Content-Type": "application/json"}


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """A key, as the server returns it."""

    id: str
    kind: str
    name: str
    grants: tuple[str, ...]
    groups: tuple[str, ...]
    created: datetime
    revoked: datetime | None
    #: The secret; only of a key that was just added.
    key: str = ""


class _Keys(msgspec.Struct):
    keys: tuple[KeyState, ...]


class KeyCalls:
    """Lists, adds and revokes keys. Each call raises ServerUnreachable or ClientError."""

    def __init__(self, connection: Connection) -> None:
        self._call = connection.call

    async def list(self) -> tuple[KeyState, ...]:
        """Return the keys that the caller administers, oldest first."""
        return (await self._call("GET", _ROOT, _Keys)).keys

    async def add(self, name: str, grants: Sequence[str], groups: Sequence[str]) -> KeyState:
        """Add an API key, and return it with its secret."""
        body = msgspec.json.encode({"name": name, "grants": grants, "groups": groups})
        return await self._call("POST", _ROOT, KeyState, body=body, headers=_JSON)

    async def revoke(self, id: str) -> None:
        await self._call("DELETE", f"{_ROOT}/{segment(id)}", msgspec.Raw)
