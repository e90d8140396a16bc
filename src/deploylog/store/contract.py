"""What a store is: the contracts of every room together, in one place.

Each room's ``store.py`` has its contract. Their docstrings are binding, and
``tests/store/`` is the proof: a backend is done when it passes.
"""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from deploylog.auth.store import Credentials
from deploylog.deployments.store import Catalog, Changesets
from deploylog.events.retention import Cleanups
from deploylog.events.store import EventLog
from deploylog.subscriptions.store import Deliveries, Subscriptions

#: Seconds that a query may run, where nothing else is set.
QUERY_SECONDS = 10.0


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a store or a backup of it holds."""

    events: int
    #: The newest position.
    head: int
    #: The version of its schema.
    schema: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """How a store was restored."""

    contents: Contents
    #: Where the store that was there is now; ``None`` when there was none.
    kept: str | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a store that contradicts what was recorded."""

    #: ``event``, ``posting``, ``deployment``, …
    part: str
    #: A position, an id, or whatever else names it.
    where: str
    what: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification looked at."""

    events: int
    #: Events without a checksum: that they can be read is all that is known of them.
    unchecked: int
    #: Stacks and deployments that were compared with their events, and those that were not, since
    #: their first event is no longer retained.
    compared: int
    not_compared: int
    findings: int


class CommitObserver(Protocol):
    """Is told how the store is doing."""

    def committed(self, seconds: float, events: int) -> None:
        """A transaction with so many events took so long; called in any thread."""
        ...

    def damaged(self, reason: str) -> None:
        """A read met a damaged event that none had met before; called in any thread."""
        ...


class Store(Protocol):
    """A log, its catalogue, its change sets and the credentials, in one place."""

    @property
    def log(self) -> EventLog:
        """The events."""
        ...

    @property
    def catalogue(self) -> Catalog:
        """What they tell of."""
        ...

    @property
    def changesets(self) -> Changesets:
        """What deployments would change."""
        ...

    @property
    def cleanups(self) -> Cleanups:
        """What was forgotten, and when."""
        ...

    @property
    def subscriptions(self) -> Subscriptions:
        """Who is told."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """How that goes."""
        ...

    @property
    def credentials(self) -> Credentials:
        """API keys and access keys."""
        ...

    async def ready(self) -> None:
        """Raise StoreUnavailable unless the store can answer and record.

        It tries both, unless something was recorded a moment ago.
        """
        ...

    def owns(self, file: os.stat_result) -> bool:
        """Whether this is a file of the store, which nothing else in this process may open."""
        ...


OpenStore = AbstractAsyncContextManager[Store, bool | None]


class Backend(Protocol):
    """Where stores can be. ``deploylog.store`` documents what each method does."""

    def open(self, url: str, *, observer: CommitObserver, query_seconds: float) -> OpenStore: ...

    def exists(self, url: str) -> bool: ...

    def key_file(self, url: str) -> Path: ...

    def migrate(self, url: str) -> list[str]: ...

    def backup(self, url: str, file: Path, *, force: bool) -> Contents: ...

    def restore(self, url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored: ...

    def verify(
        self, url: str, *, found: Callable[[Finding], None], progress: Callable[[int, int], None]
    ) -> Verified: ...
