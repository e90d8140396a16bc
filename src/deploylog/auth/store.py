"""The contract for credentials."""

from collections.abc import Collection
from typing import Literal, Protocol

import msgspec

from deploylog.events.access import Grant

#: The vendor whose request signatures an access key makes.
AccessKeyKind = Literal["bluelink", "huawei", "aws"]


#: The system whose webhooks a secret verifies.
SourceKind = Literal["github", "gitlab", "hcp-terraform", "flux", "atlantis", "pulumi"]

CredentialKind = Literal["key"] | AccessKeyKind | SourceKind


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A stored API key, access key or secret of a source. Times in ns since 1970 (UTC)."""

    kind: CredentialKind
    #: What a request names. No two credentials share an id, whatever their kinds.
    id: str
    name: str
    #: Of an API key, the SHA-256 of its secret, which is random and 256 bits long. Of any other,
    #: its secret encrypted: verifying a signature needs it back.
    secret: bytes
    groups: tuple[str, ...]
    grants: tuple[Grant, ...]
    created: int
    revoked: int | None = None


class Signatures(Protocol):
    """Signatures of requests, so that each acts once whichever process gets it."""

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:
        """Remember a signature from ``now`` until ``until`` (ns), durably.

        Return when it was first seen, which may have been by another process.
        """
        ...


class EndedSessions(Protocol):
    """Sessions of the pages that people have ended before their time, by sign-out."""

    async def end(self, id: str, *, now: int, until: int) -> None:
        """Remember from ``now`` until ``until`` (ns), durably, that the session has ended."""
        ...

    async def ended(self, ids: Collection[str]) -> set[str]:
        """Those of the sessions that have ended, whichever process ended them."""
        ...


class Credentials(Protocol):
    """API keys, access keys and secrets of sources."""

    async def add(self, credential: Credential) -> None:
        """Store a new credential. Raises Conflict when a credential of any kind has its id."""
        ...

    async def list(self) -> list[Credential]:
        """All credentials, oldest first, revoked ones included."""
        ...

    async def get(self, kind: CredentialKind, id: str) -> Credential:
        """The credential of this kind with this id. Raises KeyNotFound."""
        ...

    async def revoke(self, id: str, time: int) -> None:
        """Revoke a credential at ``time``; an earlier revocation stands. Raises KeyNotFound."""
        ...

    async def replace_secret(self, id: str, secret: bytes) -> None:
        """Store the same secret, encrypted with another key. Raises KeyNotFound."""
        ...
