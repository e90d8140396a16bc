"""What is kept of credentials."""

from typing import Literal, Protocol

import msgspec

from deploylog.events.access import Grant

#: An API key, or an access key of the vendor whose way of signing it is used with.
AccessKeyKind = Literal["bluelink", "huawei", "aws"]


CredentialKind = Literal["key", "bluelink", "huawei", "aws"]


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """An API key or an access key, as it is kept. Times in ns since 1970 (UTC)."""

    kind: CredentialKind
    #: What a request names. No two credentials share one, whatever their kinds.
    id: str
    name: str
    #: Of an API key, the SHA-256 of its secret, which is random and 256 bits long. Of an access
    #: key, its secret encrypted: verifying a signature needs it back.
    secret: bytes
    groups: tuple[str, ...]
    grants: tuple[Grant, ...]
    created: int
    revoked: int | None = None


class Credentials(Protocol):
    """API keys and access keys."""

    async def add(self, credential: Credential) -> None:
        """Keep a new one; raises Conflict when its id is taken, by whatever kind."""
        ...

    async def list(self) -> list[Credential]:
        """Every one, oldest first, including revoked ones."""
        ...

    async def get(self, kind: CredentialKind, id: str) -> Credential:
        """The credential of this kind; raises KeyNotFound."""
        ...

    async def revoke(self, id: str, time: int) -> None:
        """Revoke it, at ``time`` unless it is revoked already; raises KeyNotFound."""
        ...

    async def replace_secret(self, id: str, secret: bytes) -> None:
        """Keep the same secret, encrypted with another key; raises KeyNotFound."""
        ...
