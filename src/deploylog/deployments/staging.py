"""Staging: a plan becomes a change set, told change by change.

The change set is stored before anybody is answered, and told from what is stored: whoever
takes it up after a crash tells the same events, under ids that are not recorded twice.
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

#: A plan that somebody stages again within this time, in ns, is the retry of a request whose
#: answer was lost: clients that have no ids of their own try for a minute.
DEDUP_WINDOW = 120 * SECOND

#: Seconds between two looks for change sets that nobody works on, and the age from which one
#: is: the process that began it has ended.
SCAN_SECONDS = 30.0
ABANDONED_AFTER = 60 * SECOND

#: Seconds before a store that did not answer is tried again.
RETRY_SECONDS = 1.0

#: Events of one commit: a stream shows them as they are told, and a large plan is told soon.
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
    """What is said of a plan that is about to be staged."""

    project: str
    #: Name of the stack that it is for; there need not be one yet.
    stack: str | None = None
    #: UUID.
    id: str | None = None
    location: str = ""
    #: Whether it is to destroy what is there.
    destroy: bool = False
    #: Whether drift is a reason to stop.
    check_drift: bool = False
    actor: str | None = None
    groups: tuple[str, ...] = ()


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """The stack that a change set is for, or only its project when there is no such stack."""

    path: Scope
    stack_id: str | None = None
    groups: tuple[str, ...] = ()


class Staging:
    """Stages plans, and knows the change sets that came of them."""

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        changesets: Changesets,
        *,
        clock: Callable[[], int],
    ) -> None:
        """``clock`` gives ns since 1970."""
        self._log = log
        self._catalog = catalog
        self._changesets = changesets
        self._clock = clock
        self._tasks: asyncio.TaskGroup | None = None
        self._working: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while in the block, first on what an earlier process left behind."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            looking = tasks.create_task(self._look_after(0))
            try:
                yield
            finally:
                self._tasks = None
                for task in (looking, *self._working.values()):
                    task.cancel()

    async def check(self, principal: Principal, new: NewChangeset) -> None:
        """Raise Forbidden or InvalidInput unless the principal may stage it: asked before a plan
        is parsed, which may take a while.
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
        """Store a change set, to be told from now on; raises what ``check`` does.

        Without ``request`` the same principal staging the same again soon is a retry.
        """
        changeset = _begun(new, changes, await self._place(principal, new), now=self._clock())
        await self._require_unused(changeset)
        document = encode_changes(msgspec.structs.replace(changes, stops_on_drift=new.check_drift))
        since = 0
        if request is None:
            request, since = _own_key(principal, new, document), self._clock() - DEDUP_WINDOW
        stored = await self._changesets.add(changeset, document, request=request, since=since)
        self._work_on(stored)
        return stored if _shows(principal, stored) else _as_staged(new, stored)

    async def _require_unused(self, changeset: Changeset) -> None:
        """Raise Conflict if a change set of this id was forgotten, and its events were not."""
        try:
            await self._changesets.get(changeset.id)
        except ChangesetNotFound:
            query = Query(scope=changeset.scopes[0], limit=1, purpose="lookup")
            page = await self._log.read(query)
            if page or page.damaged:
                raise Conflict(f"the id {changeset.id} is taken") from None

    async def changeset(self, principal: Principal, id: str) -> Changeset:
        """One change set; raises ChangesetNotFound when there is none, or none to be seen."""
        with suppress(ChangesetNotFound):
            found = await self._changesets.get(id.lower())
            if _shows(principal, found):
                return found
        raise ChangesetNotFound(f"there is no change set {id[:64]!r}")

    async def changes(self, principal: Principal, id: str) -> bytes:
        """The changes of one, as ``encode_changes`` writes them; raises ChangesetNotFound."""
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
            raise InvalidInput("stack needs project", field="project")
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
            raise InvalidCursor(error.message, field="before") from error

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
        # The stack's own scope would tell that there is such a stack.
        raise Forbidden(f"{principal.name} may not write {path}")

    # Telling

    async def _look_after(self, age: int) -> None:
        """Take up what nobody works on: at first everything, later what is ``ABANDONED_AFTER``."""
        while True:
            try:
                for changeset in await self._changesets.unfinished():
                    if self._clock() - changeset.created >= age:
                        self._work_on(changeset)
            except Unavailable:
                _LOGGER.exception("cannot look for unfinished change sets; trying again later")
            age = ABANDONED_AFTER
            await asyncio.sleep(SCAN_SECONDS)

    def _work_on(self, changeset: Changeset) -> None:
        if self._tasks is None or changeset.status != "staging" or changeset.id in self._working:
            return
        task = self._tasks.create_task(self._work(changeset))
        self._working[changeset.id] = task
        task.add_done_callback(lambda _: self._working.pop(changeset.id, None))

    async def _work(self, changeset: Changeset) -> None:
        """Tell the change set to its end, as soon as the store allows."""
        while True:
            try:
                await self._tell_or_fail(changeset)
            except Unavailable:
                _LOGGER.exception("cannot go on with change set %s; trying again", changeset.id)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                # Others must not suffer; it is taken up again at the next start.
                _LOGGER.exception("cannot end change set %s", changeset.id)
                return
            else:
                return

    async def _tell_or_fail(self, changeset: Changeset) -> None:
        try:
            await self._tell(changeset)
        except ChangesetNotFound:
            # It was forgotten meanwhile.
            return
        except Unavailable:
            raise
        except Exception:
            _LOGGER.exception("change set %s failed", changeset.id)
            event = self._ended(changeset, "changeset.failed", "An unexpected error occurred", None)
            await self._log.append([event])

    async def _tell(self, changeset: Changeset) -> None:
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
                subject=_named(change.name),
                groups=changeset.groups,
                actor=changeset.actor,
                resource=_resource(change),
                message=_told(change),
                data=msgspec.Raw(encode(truncate_resource(change, MAX_DATA_BYTES))),
            )

    def _end(self, changeset: Changeset, changes: Changes) -> NewEvent:
        """The event that ends the change set: how, and everything once more."""
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
            message=_named(message),
            data=data,
        )


def _begun(new: NewChangeset, changes: Changes, place: _Place, *, now: int) -> Changeset:
    """The change set as it begins."""
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
    """The change set as it would begin if there were no stack: for who may not see it, and must
    not learn from it of the stack.
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
    """``1 to create, 2 to update``: what is to be done, in words."""
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


def _told(change: ResourceChange) -> str:
    """What happens to the resource, in words."""
    if change.action == "none" and change.imported:
        return f"{_named(change.name)} will be imported"
    if change.action == "none" and change.previous_address:
        return f"{_named(change.previous_address)} has moved to {_named(change.name)}"
    return f"{_named(change.name)} {_WORDS[change.action]}"


def _named(text: str) -> str:
    """The text as far as an event can hold it."""
    return text[:MAX_NAME_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _resource(change: ResourceChange) -> Resource | None:
    """The resource as other events name it, as far as an event can hold such names."""
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
    """What the request is known by when it does not say: who asks for what."""
    asked = encode([principal.kind, principal.id, new])
    digest = hashlib.sha256(asked + document).digest()
    return IdempotencyKey(key=f"content/{digest.hex()}", fingerprint=digest)


def _check_names(new: NewChangeset) -> None:
    """Raise InvalidInput for what no event can say."""
    for field, text in (("project", new.project), ("stack", new.stack)):
        if text is not None:
            check_name(field, text)
    names = {"actor": (new.actor,), "location": (new.location,), "group": new.groups}
    for field, texts in names.items():
        if any(text and (len(text) > MAX_NAME_LENGTH or "\0" in text) for text in texts):
            raise InvalidInput(f"{field} is too long, or holds a NUL character", field=field)
    if len(new.groups) > MAX_GROUPS or not all(new.groups):
        raise InvalidInput(f"a change set has at most {MAX_GROUPS} groups", field="group")
