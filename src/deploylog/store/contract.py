"""The contract of a store: those of each room's ``store.py``, and the operation of stores.

The docstrings are binding, and ``tests/store/`` is the proof: a backend is done when it passes.
"""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from deploylog.auth.store import Credentials, EndedSessions, Signatures
from deploylog.deployments.store import Catalog, Changesets
from deploylog.events.retention import Cleanups
from deploylog.events.store import EventLog
from deploylog.store.copying import CopySource, CopyTarget
from deploylog.subscriptions.store import Deliveries, Subscriptions

#: What page tokens are signed with.
SecretName = Literal["page-token"]

#: Default limit on the seconds that a query may run.
QUERY_SECONDS = 10.0


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a store or of a backup."""

    events: int
    #: The newest position.
    head: int
    #: The version of its schema.
    schema: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """The result of restoring a store."""

    contents: Contents
    #: Where the previous store is now; ``None`` when there was none.
    previous: str | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A contradiction between a store and what was recorded."""

    #: ``event``, ``posting``, ``deployment``, …
    part: str
    #: A position, an id or another name.
    where: str
    what: str
    #: Whether it was made right, once the verification has ended.
    mended: bool = False


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verification, in counts."""

    events: int
    #: Events without a checksum: they are readable, and could be altered.
    unchecked: int
    #: Stacks and deployments that were compared with their events, and those that were not because
    #: their first event is no longer retained.
    compared: int
    not_compared: int
    findings: int
    #: Those of them that were made right.
    mended: int = 0


class CommitObserver(Protocol):
    """Observes the health of a store; called in any thread."""

    def committed(self, seconds: float, events: int) -> None:
        """A transaction that recorded ``events`` new events took ``seconds``."""
        ...

    def damaged(self, reason: str) -> None:
        """A read found a damaged event for the first time."""
        ...

    def rows_read(self, rows: int, *, in_vain: int) -> None:
        """A query read this many rows of events; those ``in_vain`` did not match."""
        ...


class Store(Protocol):
    """The contracts of one store."""

    @property
    def log(self) -> EventLog: ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def changesets(self) -> Changesets: ...

    @property
    def cleanups(self) -> Cleanups: ...

    @property
    def subscriptions(self) -> Subscriptions: ...

    @property
    def deliveries(self) -> Deliveries: ...

    @property
    def credentials(self) -> Credentials: ...

    @property
    def signatures(self) -> Signatures: ...

    @property
    def ended_sessions(self) -> EndedSessions: ...

    async def secret(self, name: SecretName) -> bytes:
        """Drawn once with the store and never shown, so that each process of this store has the
        same.
        """
        ...

    async def ready(self) -> None:
        """Raise StoreUnavailable unless the store can read and record.

        Both are tried, unless the store has recorded something within seconds.
        """
        ...

    def owns(self, file: os.stat_result) -> bool:
        """Whether this is a file of the store, which no other code in this process may open."""
        ...


OpenStore = AbstractAsyncContextManager[Store, bool | None]


class Backend(Protocol):
    """Where stores can be. ``deploylog.store`` documents what each method does."""

    def open(self, url: str, *, observer: CommitObserver, query_seconds: float) -> OpenStore: ...

    def exists(self, url: str) -> bool: ...

    def key_file(self, url: str) -> Path | None: ...

    def migrate(self, url: str) -> list[str]: ...

    def backup(self, url: str, file: Path, *, force: bool) -> Contents: ...

    def restore(self, url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored: ...

    def verify(
        self,
        url: str,
        *,
        found: Callable[[Finding], None],
        progress: Callable[[int, int], None],
        mend: bool,
    ) -> Verified: ...

    def reading_copy(self, url: str) -> AbstractContextManager[CopySource]: ...

    def writing_copy(self, url: str) -> AbstractContextManager[CopyTarget]: ...
