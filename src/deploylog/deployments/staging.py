"""Staging: a plan becomes a change set, recorded as one event per change.

The change set is stored before the request is answered, and its events are made from what is
stored. So the process that resumes it after a crash appends the same events, under ids that are not
recorded twice.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from uuid import uuid4

import msgspec

from deploylog.deployments.catalog import check_name, parse_uuid
from deploylog.deployments.changeset import (
    Changes,
    Changeset,
    ResourceChange,
    decode_changes,
    encode,
    encode_changes,
)
from deploylog.deployments.store import Catalog, Changesets
from deploylog.deployments.truncation import truncate_changes, truncate_resource
from deploylog.errors import (
    ChangesetNotFound,
    Conflict,
    Forbidden,
    InvalidCursor,
    InvalidInput,
    StackNotFound,
    Unavailable,
)
from deploylog.events.access import Principal
from deploylog.events.event import (
    MAX_DATA_BYTES,
    MAX_GROUPS,
    MAX_NAME_LENGTH,
    SOURCE,
    NewEvent,
    Resource,
)
from deploylog.events.scope import Scope, changeset_scope, scope
from deploylog.events.store import EventLog, IdempotencyKey, Query
from deploylog.events.times import SECOND

#: A plan that the same principal stages again within this time, in ns, is the retry of a request
#: whose response was lost: clients without ids of their own retry for a minute.
DEDUP_WINDOW = 120 * SECOND

#: Seconds between two scans for abandoned change sets, and the age in ns from which a change set
#: that is still staging counts as one: the process that started it has stopped.
SCAN_SECONDS = 30.0
ABANDONED_AFTER = 60 * SECOND

#: Seconds before a change set is tried again after the store failed.
RETRY_SECONDS = 1.0

#: Few enough for a stream to show a plan as it is staged, enough to stage a large plan quickly.
EVENTS_PER_COMMIT = 20

_LOGGER = logging.getLogger(__name__)

_WORDS = {
    "create": "will be created",
    "update": "will be updated in place",
    "replace": "must be replaced",
    "delete": "will be destroyed",
    "forget": "will no longer be managed",
    "none": "will not change",
}


class NewChangeset(msgspec.Struct, frozen=True, kw_only=True):
    """A request to stage a plan."""

    project: str
    #: Name of the stack that it is for; the stack need not exist yet.
    stack: str | None = None
    #: UUID.
    id: str | None = None
    location: str = ""
    #: Whether it destroys the stack's resources.
    destroy: bool = False
    #: Whether drift stops the change set, which ends as ``drifted``.
    check_drift: bool = False
    actor: str | None = None
    groups: tuple[str, ...] = ()


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """The stack that a change set is for, or its project when there is no such stack."""

    path: Scope
    stack_id: str | None = None
    groups: tuple[str, ...] = ()


class Staging:
    """Stages plans as change sets, and reads change sets."""

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        changesets: Changesets,
        *,
        clock: Callable[[], int],
        scan_seconds: float = SCAN_SECONDS,
        abandoned_after: int = ABANDONED_AFTER,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """``clock`` returns ns since 1970."""
        self._log = log
        self._catalog = catalog
        self._changesets = changesets
        self._clock = clock
        self._scan_seconds = scan_seconds
        self._abandoned_after = abandoned_after
        self._retry_seconds = retry_seconds
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Stage change sets while in the block, first those that an earlier process left."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            recovery = tasks.create_task(self._recover_abandoned())
            try:
                yield
            finally:
                self._tasks = None
                for task in (recovery, *self._running.values()):
                    task.cancel()

    async def check(self, principal: Principal, new: NewChangeset) -> None:
        """Raise Forbidden or InvalidInput unless the principal may stage the change set.

        Call it before parsing the plan, which may take a while.
        """
        await self._place(principal, new)

    async def stage(
        self,
        principal: Principal,
        new: NewChangeset,
        changes: Changes,
        *,
        request: IdempotencyKey | None = None,
    ) -> Changeset:
        """Store a change set, whose events follow; raises what ``check`` does.

        Without ``request``, the same principal staging the same again within ``DEDUP_WINDOW`` is a
        retry.
        """
        changeset = _new_changeset(
            new, changes, await self._place(principal, new), now=self._clock()
        )
        await self._require_unused(changeset)
        document = encode_changes(msgspec.structs.replace(changes, stops_on_drift=new.check_drift))
        since = 0
        if request is None:
            request, since = _own_key(principal, new, document), self._clock() - DEDUP_WINDOW
        stored = await self._changesets.add(changeset, document, request=request, since=since)
        self._start(stored)
        return stored if _shows(principal, stored) else _as_staged(new, stored)

    async def _require_unused(self, changeset: Changeset) -> None:
        """Raise Conflict if a change set of this id was deleted while its events remain."""
        try:
            await self._changesets.get(changeset.id)
        except ChangesetNotFound:
            query = Query(scope=changeset.scopes[0], limit=1, purpose="lookup")
            page = await self._log.read(query)
            if page or page.damaged:
                raise Conflict(f"the id {changeset.id} is already in use: choose another") from None

    async def changeset(self, principal: Principal, id: str) -> Changeset:
        """Get a change set; raises ChangesetNotFound unless it exists and the principal sees it."""
        with suppress(ChangesetNotFound):
            found = await self._changesets.get(id.lower())
            if _shows(principal, found):
                return found
        raise ChangesetNotFound(f"there is no change set {id[:64]!r}")

    async def changes(self, principal: Principal, id: str) -> bytes:
        """Its changes, as ``encode_changes`` writes them; raises ChangesetNotFound."""
        found = await self.changeset(principal, id)
        return await self._changesets.changes(found.id)

    async def changesets(
        self,
        principal: Principal,
        *,
        project: str | None = None,
        stack: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Changeset]:
        """The change sets that the principal may see, last added first."""
        if stack is not None and project is None:
            raise InvalidInput("stack needs a project: name its project, too", field="project")
        if before is not None:
            before = (await self._cursor(principal, before)).id
        return await self._changesets.list(
            principal.visibility,
            project=project,
            stack=stack,
            before=before,
            limit=limit,
            caller=principal.identity,
        )

    async def _cursor(self, principal: Principal, id: str) -> Changeset:
        try:
            return await self.changeset(principal, id)
        except ChangesetNotFound as error:
            raise InvalidCursor(f"before: {error.message}", field="before") from error

    async def _place(self, principal: Principal, new: NewChangeset) -> _Place:
        """Where the change set belongs; raises Forbidden or InvalidInput."""
        _check_names(new)
        path = scope("project", new.project)
        place = _Place(path=path)
        if new.stack is not None:
            with suppress(StackNotFound):
                stack = await self._catalog.stack(new.project, new.stack)
                place = _Place(path=stack.scopes[0], stack_id=stack.id, groups=stack.groups)
        if principal.may("write", path) or principal.may("write", place.path):
            return place
        # The stack's own scope would reveal that the stack exists.
        raise Forbidden(f"{principal.name} may not write {path}")

    # Emitting

    async def _recover_abandoned(self) -> None:
        """Resume unfinished change sets: at first all, later the abandoned ones."""
        age = 0
        while True:
            try:
                for changeset in await self._changesets.unfinished():
                    if self._clock() - changeset.created >= age:
                        self._start(changeset)
            except Unavailable:
                _LOGGER.exception("cannot scan for unfinished change sets; will retry")
            age = self._abandoned_after
            await asyncio.sleep(self._scan_seconds)

    def _start(self, changeset: Changeset) -> None:
        if self._tasks is None or changeset.status != "staging" or changeset.id in self._running:
            return
        task = self._tasks.create_task(self._run(changeset))
        self._running[changeset.id] = task
        task.add_done_callback(lambda _: self._running.pop(changeset.id, None))

    async def _run(self, changeset: Changeset) -> None:
        """Append the events of the change set, for as long as the store fails now and then."""
        while True:
            try:
                await self._emit_or_fail(changeset)
            except Unavailable:
                _LOGGER.exception("cannot continue change set %s; will retry", changeset.id)
                await asyncio.sleep(self._retry_seconds)
            except Exception:
                # The other change sets must go on; this one is resumed when a process starts.
                _LOGGER.exception("cannot finish change set %s", changeset.id)
                return
            else:
                return

    async def _emit_or_fail(self, changeset: Changeset) -> None:
        try:
            await self._emit(changeset)
        except ChangesetNotFound:
            # It was deleted meanwhile.
            return
        except Unavailable:
            raise
        except Exception:
            _LOGGER.exception("change set %s failed", changeset.id)
            event = self._ended(changeset, "changeset.failed", "An unexpected error occurred", None)
            await self._log.append([event])

    async def _emit(self, changeset: Changeset) -> None:
        document = await self._changesets.changes(changeset.id)
        changes = await asyncio.to_thread(decode_changes, document)
        events = self._events(changeset, changes.resources)
        while batch := await asyncio.to_thread(lambda: list(islice(events, EVENTS_PER_COMMIT))):
            await self._log.append(batch)
        await self._log.append([await asyncio.to_thread(self._end, changeset, changes)])

    def _events(
        self, changeset: Changeset, resources: Iterable[ResourceChange]
    ) -> Iterator[NewEvent]:
        for number, change in enumerate(resources, 1):
            yield NewEvent(
                type="changeset.resource",
                source=SOURCE,
                scopes=changeset.scopes,
                time=self._clock(),
                producer_id=f"{changeset.id}/{number}",
                subject=_truncated(change.name),
                groups=changeset.groups,
                actor=changeset.actor,
                resource=_resource(change),
                message=_message_of(change),
                data=msgspec.Raw(encode(truncate_resource(change, MAX_DATA_BYTES))),
            )

    def _end(self, changeset: Changeset, changes: Changes) -> NewEvent:
        """The event that ends the change set, with all its changes."""
        data = msgspec.Raw(encode(truncate_changes(changes, MAX_DATA_BYTES)))
        if changes.errored:
            message = next((p.message for p in changes.problems if p.level == "error"), "")
            message = message or "The plan is incomplete because of an error"
            return self._ended(changeset, "changeset.failed", message, data)
        if changes.drift and changes.stops_on_drift:
            message = f"{len(changes.drift)} resources were changed outside of deployments"
            return self._ended(changeset, "changeset.drift", message, data)
        return self._ended(changeset, "changeset.completed", summary_of(changes), data)

    def _ended(
        self, changeset: Changeset, type_: str, message: str, data: msgspec.Raw | None
    ) -> NewEvent:
        return NewEvent(
            type=type_,
            source=SOURCE,
            scopes=changeset.scopes,
            time=self._clock(),
            producer_id=f"{changeset.id}/end",
            subject=changeset.stack,
            groups=changeset.groups,
            actor=changeset.actor,
            message=_truncated(message),
            data=data,
        )


def _new_changeset(new: NewChangeset, changes: Changes, place: _Place, *, now: int) -> Changeset:
    """The change set that ``new`` asks for."""
    id = parse_uuid(new.id) if new.id is not None else str(uuid4())
    return Changeset(
        id=id,
        project=new.project,
        stack_id=place.stack_id,
        stack=new.stack,
        status="staging",
        destroy=new.destroy,
        location=new.location,
        tool=changes.tool,
        tool_version=changes.tool_version,
        actor=new.actor,
        created=now,
        ended=None,
        message=None,
        totals=changes.totals,
        scopes=(changeset_scope(id), Scope(f"{place.path}/{changeset_scope(id)}")),
        groups=tuple(sorted(set(new.groups))) or place.groups,
    )


def _shows(principal: Principal, changeset: Changeset) -> bool:
    visibility = principal.visibility
    return visibility.shows_scopes(changeset.scopes) and visibility.shows_groups(changeset.groups)


def _as_staged(new: NewChangeset, stored: Changeset) -> Changeset:
    """The change set as if there were no stack.

    For a principal that may not see the stored one, and must not learn from it that the stack
    exists.
    """
    own = changeset_scope(stored.id)
    return msgspec.structs.replace(
        stored,
        status="staging",
        ended=None,
        message=None,
        stack_id=None,
        scopes=(own, Scope(f"{scope('project', new.project)}/{own}")),
        groups=tuple(sorted(set(new.groups))),
    )


def summary_of(changes: Changes) -> str:
    """The counts of the changes, such as ``1 to create, 2 to update``."""
    totals = changes.totals
    parts = [
        f"{number} to {word}"
        for word, number in (
            ("import", totals.imported),
            ("move", totals.moved),
            ("create", totals.create),
            ("update", totals.update),
            ("replace", totals.replace),
            ("destroy", totals.delete),
            ("forget", totals.forget),
            ("invoke", changes.invoked),
        )
        if number
    ]
    nothing = (
        "No current changes: this plan requires another plan to be applied first"
        if changes.deferred
        else "No changes"
    )
    return ", ".join(parts) or nothing


def _message_of(change: ResourceChange) -> str:
    if change.action == "none" and change.imported:
        return f"{_truncated(change.name)} will be imported"
    if change.action == "none" and change.previous_address:
        return f"{_truncated(change.previous_address)} has moved to {_truncated(change.name)}"
    return f"{_truncated(change.name)} {_WORDS[change.action]}"


def _truncated(text: str) -> str:
    """The text, as long and with such characters as an event allows."""
    return text[:MAX_NAME_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _resource(change: ResourceChange) -> Resource | None:
    """The resource as other events name it; ``None`` if its names are too long for an event."""
    names = (change.type, change.address, change.id or "")
    if not change.type or any(len(name) > MAX_NAME_LENGTH or "\0" in name for name in names):
        return None
    return Resource(
        type=change.type,
        name=change.resource_name,
        key=change.key,
        address=change.address,
        id_key="id" if change.id is not None else None,
        id_value=change.id,
    )


def _own_key(principal: Principal, new: NewChangeset, document: bytes) -> IdempotencyKey:
    """The idempotency key of a request that has none: a digest of the principal and the plan."""
    content = encode([principal.kind, principal.id, new])
    digest = hashlib.sha256(content + document).digest()
    return IdempotencyKey(key=f"content/{digest.hex()}", fingerprint=digest)


def _check_names(new: NewChangeset) -> None:
    """Raise InvalidInput for text that no event may hold."""
    for field, text in (("project", new.project), ("stack", new.stack)):
        if text is not None:
            check_name(field, text)
    names = {"actor": (new.actor,), "location": (new.location,), "group": new.groups}
    for field, texts in names.items():
        if any(text and (len(text) > MAX_NAME_LENGTH or "\0" in text) for text in texts):
            raise InvalidInput(
                f"{field} must have at most {MAX_NAME_LENGTH} characters, and no NUL", field=field
            )
    if len(new.groups) > MAX_GROUPS or not all(new.groups):
        raise InvalidInput(
            f"a change set may have at most {MAX_GROUPS} groups, none of them empty", field="group"
        )
