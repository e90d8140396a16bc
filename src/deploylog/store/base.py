"""What a store is: the log, the catalogue and the change sets kept with it, the subscriptions, and
the credentials.

These docstrings are the contract; ``tests/store/test_conformance.py`` is its proof. A backend
is done when it passes.
"""

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

from deploylog.catalogue import Deployment, Stack
from deploylog.changes import Changeset
from deploylog.events import Event, NewEvent
from deploylog.filters import EVERYTHING, Filter
from deploylog.principals import ALL, Grant, Visibility
from deploylog.scope import ROOT, Scope
from deploylog.subscriptions import Attempt, Delivery, Message, Pending, Subscription

#: Bytes of events that one read returns, about; it returns at least one event.
PAGE_BYTES = 8 * 1024 * 1024

#: Seconds that a query may run, where nothing else is set.
QUERY_SECONDS = 10.0

#: What a read is for. Others wait for a ``lookup``, which is cheap by its nature: a credential,
#: what an append needs, the live tail. A ``query`` is a request's own, with a deadline. What
#: streams and deliveries catch up with is in the ``background``, and may take its time.
Purpose = Literal["lookup", "query", "background"]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which events, in which order."""

    scope: Scope = ROOT
    filter: Filter = EVERYTHING
    visibility: Visibility = ALL
    #: Positions, both exclusive.
    after: int | None = None
    before: int | None = None
    order: Literal["newest", "oldest"] = "newest"
    limit: int = 100
    #: Bytes of events, about; the first event is returned whatever its size.
    bytes: int = PAGE_BYTES
    purpose: Purpose = "query"
    #: Whose share of the readers it takes, ``Principal.identity``; empty for the service's own.
    caller: str = ""


#: Damaged events that one read names.
MAX_DAMAGED = 1_000


class Damaged(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is in the log, and cannot be read as it was recorded."""

    position: int
    #: Its id, unless the time in it is damaged too; good as a cursor in any case.
    id: str
    #: ``checksum``: the content is not the one that was recorded. ``unreadable``: the content is
    #: not UTF-8 or JSON, or SQLite cannot read it.
    reason: Literal["checksum", "unreadable"]


class Page(list[Event]):
    """The events of one read, in the order of its query, and where the read ended."""

    def __init__(
        self,
        events: Iterable[Event] = (),
        *,
        next: int | None = None,
        damaged: Sequence[Damaged] = (),
        size: int = 0,
    ) -> None:
        """``next`` and ``damaged`` are what a reader must not infer from the events."""
        super().__init__(events)
        #: The position to go on from, as the next query's ``after`` or ``before``. ``None`` when
        #: nothing is left. A page with fewer events than its limit, or none, may have a ``next``;
        #: and nothing may come after a full one.
        self.next = next
        #: The damaged events among them, in the same order. They do not count for the limit.
        self.damaged = tuple(damaged)
        #: Bytes that the events take, about.
        self.size = size


def following(query: Query, position: int) -> Query:
    """``query`` for what comes after ``position`` in its order."""
    if query.order == "oldest":
        return msgspec.structs.replace(query, after=position)
    return msgspec.structs.replace(query, before=position)


class RequestKey(msgspec.Struct, frozen=True, kw_only=True):
    """Names one request, so that its retry is not recorded again."""

    key: str
    #: A digest of what was asked, to tell a retry from another request under the same key.
    fingerprint: bytes


class EventLog(Protocol):
    """One totally ordered log of events."""

    @property
    def epoch(self) -> int:
        """Drawn when the log was made; part of every id."""
        ...

    async def append(
        self, events: Sequence[NewEvent], *, request: RequestKey | None = None
    ) -> list[Event]:
        """Record all of ``events`` or none, durably, and return them with positions.

        An event whose ``source`` and ``producer_id`` are in the log already, in the same scopes,
        is not recorded again: the event first recorded under them comes back instead, for as
        long as it is retained. So does everything that ``request`` recorded when it came
        before; with another fingerprint it raises RequestReused.

        Once a reader has seen position N, no event appears at or below N. Raises StackExists
        when a ``stack.created`` takes the name of a stack that exists, InvalidEvent when a
        deployment starts in an unknown stack.

        A deployment that ends records one event more, in the same commit and not in the
        answer: what it did to its state, see ``catalogue.state_event``.
        """
        ...

    async def read(self, query: Query) -> Page:
        """The first events that ``query`` asks for: ``limit`` of them at most, and fewer when
        they would take more than ``Query.bytes``.

        Only ``Page.next`` tells whether there are more. A damaged event is named in
        ``Page.damaged`` and the others come all the same.
        """
        ...

    async def get(self, position: int) -> Event:
        """The event at ``position``; raises EventNotFound, or EventDamaged."""
        ...

    async def head(self) -> int:
        """The newest position; 0 when nothing was ever recorded."""
        ...

    async def floor(self) -> int:
        """Everything at or below this position is no longer retained; 0 at first."""
        ...

    async def token_key(self) -> bytes:
        """Drawn once and never shown: what page tokens are signed with, so that every process of
        this log, and the next one, knows them.
        """
        ...

    async def position_before(self, recorded: int) -> int:
        """The newest position recorded before this time (ns), or the floor."""
        ...

    async def prune(self, recorded_before: int) -> int:
        """Forget the events recorded before this time (ns); return how many.

        Stacks and deployments stay in the catalogue.
        """
        ...

    async def add_checksums(self) -> bool:
        """Give some of the events without a checksum theirs, and return whether some are left.

        Events have none that were recorded before there were any.
        """
        ...

    def changes(self) -> AsyncIterator[int]:
        """Yield the head now, and again whenever it has moved, whichever process moved it."""
        ...


class Catalogue(Protocol):
    """Stacks and deployments, as the recorded events tell of them.

    Lists are queries as ``EventLog.read`` has them, ``caller`` is ``Query.caller``.
    """

    async def projects(self, visibility: Visibility, *, caller: str = "") -> list[str]:
        """The names of the projects that have a visible stack, in order."""
        ...

    async def stacks(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        name: str | None = None,
        deleted: bool = False,
        caller: str = "",
    ) -> list[Stack]:
        """The visible stacks that exist, or with ``deleted`` all that ever did, newest first."""
        ...

    async def stack(self, project: str, name: str) -> Stack:
        """The stack that now has this name; raises StackNotFound."""
        ...

    async def deployments(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        stack_id: str | None = None,
        before: str | None = None,
        limit: int = 100,
        caller: str = "",
    ) -> list[Deployment]:
        """The visible deployments, last started first, those started before ``before``."""
        ...

    async def deployment(self, id: str) -> Deployment:
        """The deployment; raises DeploymentNotFound."""
        ...


class Changesets(Protocol):
    """Change sets, and their changes.

    Here they begin. The event that ends one ends it here, too, in the same transaction: see
    ``catalogue.ChangesetEnded``.
    """

    async def add(
        self, changeset: Changeset, changes: bytes, *, request: RequestKey, since: int
    ) -> Changeset:
        """Keep a new change set with its ``changes``, durably, and return it.

        When the same ``request`` added one at ``since`` (ns) or later, that one comes back
        instead and nothing is added; with another fingerprint it raises RequestReused. Raises
        Conflict when another request has used the id.
        """
        ...

    async def get(self, id: str) -> Changeset:
        """The change set; raises ChangesetNotFound."""
        ...

    async def changes(self, id: str) -> bytes:
        """Its changes, as they were added; raises ChangesetNotFound."""
        ...

    async def unfinished(self) -> list[Changeset]:
        """Those that are still staging, oldest first."""
        ...

    async def list(
        self,
        visibility: Visibility,
        *,
        project: str | None = None,
        stack: str | None = None,
        before: str | None = None,
        limit: int = 100,
        caller: str = "",
    ) -> list[Changeset]:
        """The visible change sets, last added first, those added before ``before``.

        ``stack`` is the name of the stack that they are for, whether there is one or not.
        """
        ...

    async def forget(self, created_before: int) -> int:
        """Forget finished ones that were created before this time (ns); return how many.

        Their events stay as long as others do.
        """
        ...


CleanupKind = Literal["events", "changesets", "reconciliation_results", "validations"]


class Cleanup(msgspec.Struct, frozen=True, kw_only=True):
    """One time that old things were, or are being, forgotten. Times in ns since 1970 (UTC)."""

    #: UUID.
    id: str
    kind: CleanupKind
    status: Literal["running", "completed", "failed"]
    started: int
    ended: int | None = None
    #: What is older than this is forgotten.
    threshold: int
    forgotten: int = 0
    error: str | None = None


class Cleanups(Protocol):
    """The newest cleanups of each kind."""

    async def put(self, cleanup: Cleanup) -> None:
        """Keep it, instead of what was kept under its id. Only the newest 50 of a kind stay."""
        ...

    async def get(self, kind: CleanupKind, id: str) -> Cleanup:
        """The cleanup; raises CleanupNotFound."""
        ...

    async def running(self) -> list[Cleanup]:
        """Those that have not ended."""
        ...


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


class Subscriptions(Protocol):
    """The subscriptions."""

    async def add(self, subscription: Subscription) -> None:
        """Keep a new one; raises Conflict when there is one of this id."""
        ...

    async def get(self, id: str) -> Subscription:
        """The subscription; raises SubscriptionNotFound."""
        ...

    async def list(self) -> list[Subscription]:
        """Every one, oldest first."""
        ...

    async def change(self, subscription: Subscription) -> Subscription:
        """Keep it instead of what is kept under its id, and return it with its new ``version``.

        Checkpoint and what is pending stay as they are. Raises SubscriptionNotFound, or Conflict
        when somebody else has changed it since this version.
        """
        ...

    async def replace(self, collection: str, subscriptions: Sequence[Subscription]) -> None:
        """Let these be all that the collection holds: others of it go, new ones are added.

        One that is there already under its id is changed as ``change`` does it, if it differs.
        Raises Conflict when an id is used outside the collection.
        """
        ...

    async def delete(self, id: str) -> None:
        """Forget it, and all that is kept of its deliveries; raises SubscriptionNotFound."""
        ...


class RecordedAttempt(Attempt, frozen=True, kw_only=True):
    """An attempt with its place among all."""

    number: int


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """How a subscription's deliveries are going."""

    #: Events that are tried again, and those that were given up.
    pending: int = 0
    dead_lettered: int = 0
    #: When the next of them is tried, in ns since 1970.
    due: int | None = None


class Deliveries(Protocol):
    """What became of the events that subscriptions ask for.

    Of all the processes that deliver from a store, one at a time *holds* a subscription.
    """

    async def claim(self, holder: str, *, now: int, until: int) -> list[Subscription]:
        """The subscriptions that ``holder`` holds ``until`` then (ns): those that it held, and
        those that nobody holds at ``now``.
        """
        ...

    async def release(self, holder: str) -> None:
        """Let others hold what ``holder`` did."""
        ...

    async def record(
        self, holder: str, deliveries: Sequence[Delivery], *, now: int
    ) -> frozenset[str]:
        """Record what became of requests, durably, with the checkpoints, and return the ids of
        those subscriptions that ``holder`` does not hold at ``now``: nothing of theirs is recorded.
        """
        ...

    async def pending(self, subscription: str) -> list[Pending]:
        """What is to be tried again, in the order of the log."""
        ...

    async def dead_letters(
        self, subscription: str, *, after: int = 0, limit: int = 100
    ) -> list[Pending]:
        """What was given up, in the order of the log, after a position."""
        ...

    async def attempts(
        self, subscription: str, *, before: int | None = None, limit: int = 100
    ) -> list[RecordedAttempt]:
        """The attempts, newest first, those numbered below ``before``."""
        ...

    async def redeliver(self, subscription: str, position: int) -> None:
        """Let one event be sent again, at once."""
        ...

    async def redeliver_dead_lettered(self, subscription: str, since: int) -> int:
        """Let those be sent again, in their order, that were given up and first tried at this time
        (ns) or later; return how many.
        """
        ...

    async def message(self, subscription: str, deployment: Scope) -> Message | None:
        """The Slack message that stands for a deployment, if one was posted."""
        ...

    async def backlog(self, subscription: str) -> Backlog:
        """How its deliveries are going."""
        ...

    async def dead_letter_counts(self) -> dict[str, int]:
        """How many events were given up, by subscription; those without are left out."""
        ...

    async def forget(self, started_before: int) -> int:
        """Forget the attempts that were made before this time (ns); return how many."""
        ...


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
    def catalogue(self) -> Catalogue:
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
