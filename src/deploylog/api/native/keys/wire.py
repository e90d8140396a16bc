"""The JSON of keys; pure."""

from collections.abc import Sequence

import msgspec

from deploylog.auth.store import Credential, CredentialKind
from deploylog.deployments.details import decode_named
from deploylog.errors import InvalidInput
from deploylog.events.access import Grant, parse_grant
from deploylog.events.times import Time, render_time


class KeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secret."""

    id: str
    kind: CredentialKind
    #: Name of the principal that uses it.
    name: str
    #: Each a right and a scope, such as ``read:project/acme``.
    grants: list[str]
    groups: tuple[str, ...]
    created: Time
    revoked: Time | None


class AddedKeyBody(KeyBody, frozen=True, kw_only=True):
    """A new key. Its secret is not shown again."""

    key: str


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Keys, oldest first."""

    keys: list[KeyBody]


class NewKeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to add."""

    #: Name of the principal that uses it.
    name: str
    #: Each a right and a scope, such as ``read:project/acme``; ``admin:/`` is everything.
    grants: tuple[str, ...]
    groups: tuple[str, ...] = ()


def parse_new_key(body: bytes) -> NewKeyBody:
    """Parse a key to add; raises InvalidInput, which names the field."""
    return decode_named(body, NewKeyBody)


def parse_grants(texts: Sequence[str]) -> list[Grant]:
    """Parse grants; raises InvalidInput, which names the first wrong one."""
    grants = []
    for number, text in enumerate(texts):
        try:
            grants.append(parse_grant(text))
        except InvalidInput as error:
            raise InvalidInput(error.message, field=f"grants.{number}") from error
    return grants


def render_key(key: Credential) -> KeyBody:
    """Render a key."""
    return KeyBody(
        id=key.id,
        kind=key.kind,
        name=key.name,
        grants=[grant.text for grant in key.grants],
        groups=key.groups,
        created=render_time(key.created),
        revoked=render_time(key.revoked) if key.revoked is not None else None,
    )


def render_added(key: Credential, secret: str) -> AddedKeyBody:
    """Render a new key with its secret."""
    return AddedKeyBody(**msgspec.structs.asdict(render_key(key)), key=secret)
