"""Keys, for principals that administer what the keys may do; each change is an event."""

from collections.abc import Callable, Sequence

import msgspec

from deploylog.auth.api_keys import make_key
from deploylog.auth.store import Credential, Credentials
from deploylog.errors import Forbidden, InvalidInput, KeyNotFound
from deploylog.events.access import Grant, Principal
from deploylog.events.event import SOURCE, NewEvent
from deploylog.events.scope import ROOT, scope
from deploylog.events.store import EventLog

#: Characters of the name of a key or a group, and how many grants and groups a key may have.
MAX_NAME_LENGTH = 256
MAX_GRANTS = 100
MAX_GROUPS = 100


class KeyService:
    """Lists, adds and revokes keys."""

    def __init__(
        self, credentials: Credentials, log: EventLog, *, clock: Callable[[], int]
    ) -> None:
        """``clock`` returns ns since 1970."""
        self._credentials = credentials
        self._log = log
        self._clock = clock

    async def keys(self, principal: Principal) -> list[Credential]:
        """The keys whose every grant the principal administers, oldest first; raises Forbidden."""
        principal.require_anywhere("admin")
        return [key for key in await self._credentials.list() if _administers(principal, key)]

    async def add(
        self, principal: Principal, *, name: str, grants: Sequence[Grant], groups: Sequence[str]
    ) -> tuple[Credential, str]:
        """Add an API key; return it with its secret, which is not stored.

        Raises Forbidden for a grant or a group that the principal could not use itself, and
        InvalidInput.
        """
        principal.require_anywhere("admin")
        _check(name, grants, groups)
        for grant in grants:
            principal.require("admin", grant.scope)
        if principal.groups is not None and (foreign := set(groups) - principal.groups):
            raise Forbidden(f"{principal.name} is not in the group {min(foreign)!r}")
        key, secret = make_key(name=name, groups=groups, grants=grants, now=self._clock())
        # First the event: a key that is not in the log must never exist.
        await self._record("key.created", principal, key)
        await self._credentials.add(key)
        return key, secret

    async def revoke(self, principal: Principal, id: str) -> None:
        """Revoke a key of any kind; raises Forbidden or KeyNotFound."""
        for key in await self.keys(principal):
            if key.id == id:
                await self._credentials.revoke(id, self._clock())
                # A retry after a failure here records the event.
                await self._record("key.revoked", principal, key)
                return
        raise KeyNotFound(f"there is no key {id[:64]!r}")

    async def _record(self, type: str, principal: Principal, key: Credential) -> None:
        verb = type.removeprefix("key.")
        await self._log.append(
            [
                NewEvent(
                    type=type,
                    source=SOURCE,
                    scopes=(scope("key", key.id),),
                    time=self._clock(),
                    producer_id=f"{key.id}/{verb}",
                    subject=key.name,
                    actor=principal.name,
                    message=f"Key {key.id} of {key.name} {verb}",
                    data=msgspec.Raw(msgspec.json.encode(_data(key))),
                )
            ]
        )


def _administers(principal: Principal, key: Credential) -> bool:
    if not key.grants:
        return principal.may("admin", ROOT)
    return all(principal.may("admin", grant.scope) for grant in key.grants)


def _data(key: Credential) -> dict[str, object]:
    grants = [grant.text for grant in key.grants]
    return {
        "id": key.id,
        "kind": key.kind,
        "name": key.name,
        "grants": grants,
        "groups": key.groups,
    }


def _check(name: str, grants: Sequence[Grant], groups: Sequence[str]) -> None:
    _check_name("name", name)
    if not 1 <= len(grants) <= MAX_GRANTS:
        raise InvalidInput(f"grants must have 1 to {MAX_GRANTS} items", field="grants")
    if len(groups) > MAX_GROUPS:
        raise InvalidInput(f"groups must have at most {MAX_GROUPS} items", field="groups")
    for number, group in enumerate(groups):
        _check_name(f"groups.{number}", group)


def _check_name(field: str, text: str) -> None:
    if not 1 <= len(text) <= MAX_NAME_LENGTH or not text.isprintable() or text != text.strip():
        raise InvalidInput(
            f"{field} must have 1 to {MAX_NAME_LENGTH} characters, without control characters, and"
            " without spaces at its ends",
            field=field,
        )
