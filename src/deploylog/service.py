"""The service: what every dialect asks for; it authorises, and knows the log's rules."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from uuid import uuid4

import msgspec

from deploylog.catalogue import Counts, Deployment, Stack, check_name, parse_uuid, place_of
from deploylog.cursor import parse_event_id
from deploylog.errors import (
    AnswerTooLarge,
    Conflict,
    DeploymentNotFound,
    EventDamaged,
    EventNotFound,
    Forbidden,
    InvalidCursor,
    InvalidEvent,
    InvalidInput,
    StackExists,
    StackNotFound,
)
from deploylog.events import SOURCE, Event, NewEvent, check_event, is_reserved
from deploylog.filters import Filter, any_of
from deploylog.following import Followers
from deploylog.hub import Gap, Hub, Interest, Reader
from deploylog.principals import Principal
from deploylog.scope import Scope, deployment_scope, scope, stack_scope, state_scope
from deploylog.store.base import EventLog, Page, Query, RequestKey, Store, following
from deploylog.times import parse_time

#: The most bytes of one answer that has everything asked for, where an API knows no pages.
ANSWER_BYTES = 128 * 1024 * 1024

#: Events in one read of many.
_READ = 1_000

#: Open deployments whose scopes are remembered, so that appends need not look them up.
_REMEMBERED = 1_000

_ENDS = Filter(all_of=(any_of("type", ("deployment.completed", "deployment.failed")),))


class NewDeployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of a deployment tool that is about to begin."""

    project: str
    stack: str
    #: UUID; a retry that names it opens nothing twice.
    id: str | None = None
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    #: RFC 3339; absent, it starts now.
    started: str | None = None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stream begins."""

    after: int
    gap: Gap | None = None


class EventService:
    """Records and answers, for whoever may."""

    def __init__(
        self, store: Store, hub: Hub, *, followers: Followers, clock: Callable[[], int]
    ) -> None:
        """``clock`` gives ns since 1970."""
        self._store = store
        self._hub = hub
        self._followers = followers
        self._clock = clock
        self._open: dict[str, Deployment] = {}

    async def append(
        self,
        principal: Principal,
        events: Sequence[NewEvent],
        *,
        request: RequestKey | None = None,
    ) -> list[Event]:
        """Record all of ``events`` or none; raises Forbidden, or InvalidEvent with its place.

        None may come from the log's own source.
        """
        for line, event in enumerate(events, 1):
            if is_reserved(event.source) and not _is_lost_run(event):
                message = f"source {SOURCE!r} is reserved for the log itself"
                raise InvalidEvent(message, field="source", line=line)
        return await self._record(principal, events, request=request)

    async def _record(
        self,
        principal: Principal,
        events: Sequence[NewEvent],
        *,
        request: RequestKey | None = None,
    ) -> list[Event]:
        """Record what the principal may write, whatever its source."""
        allowed: set[tuple[Scope, ...]] = set()
        for line, event in enumerate(events, 1):
            try:
                check_event(event)
            except InvalidEvent as error:
                raise InvalidEvent(error.message, field=error.field, line=line) from error
            if event.scopes not in allowed:
                for path in event.scopes:
                    principal.require("write", path)
                allowed.add(event.scopes)
        return await self._store.log.append(events, request=request)

    async def read(self, principal: Principal, query: Query) -> Page:
        """The events of ``query`` that the principal may see."""
        return await self._store.log.read(_asked_by(principal, query))

    async def pages(self, principal: Principal, query: Query) -> AsyncIterator[Page]:
        """The same, up to the limit of ``query``, in as many pages as it takes."""
        async for page in _pages(self._store.log, _asked_by(principal, query)):
            yield page

    async def read_whole(self, principal: Principal, query: Query) -> list[Event]:
        """The same in one list; raises AnswerTooLarge when they are more than ``ANSWER_BYTES``."""
        found: list[Event] = []
        size = 0
        async for page in self.pages(principal, query):
            found += page
            size += page.size
            if size > ANSWER_BYTES:
                raise AnswerTooLarge
        return found

    async def read_written(self, principal: Principal, query: Query) -> list[Event]:
        """The events of ``query``, for a producer that must know what was told of its own before.

        Whoever may write the scope may ask, to read or not; what comes is for no answer. Raises
        Forbidden.
        """
        principal.require("write", query.scope)
        needed = msgspec.structs.replace(query, purpose="lookup")
        return [event async for page in _pages(self._store.log, needed) for event in page]

    async def event(self, principal: Principal, id: str) -> Event:
        """One event; raises EventNotFound when there is none to be seen, or EventDamaged."""
        position = self.position(id)
        try:
            event = await self._store.log.get(position)
        except EventDamaged:
            if await self._shows_damaged(principal, position):
                raise
            raise EventNotFound from None
        if event.id != id.lower() or not principal.visibility.shows(event):
            raise EventNotFound
        return event

    async def _shows_damaged(self, principal: Principal, position: int) -> bool:
        """Whether the principal might see the damaged event there, were it not."""
        page = await self.read(principal, Query(after=position - 1, before=position + 1, limit=1))
        return bool(page.damaged)

    @property
    def epoch(self) -> int:
        """Of the log: a position is good for one log only, and a restored one is another."""
        return self._store.log.epoch

    async def floor(self) -> int:
        """Everything at or below this position is no longer retained."""
        return await self._store.log.floor()

    def position(self, id: str) -> int:
        """The position that an event id of this log stands for; raises InvalidCursor."""
        cursor = parse_event_id(id)
        if cursor.epoch != self._store.log.epoch:
            raise InvalidCursor(f"{id!r} is not an event id of this log")
        return cursor.position

    # Following

    @contextmanager
    def follow(
        self, principal: Principal, *, scope: Scope, filter: Filter, start: Start
    ) -> Iterator[Reader]:
        """A reader of what the principal may see, history first, then live; raises TooMany."""
        interest = Interest(scope=scope, filter=filter, visibility=principal.visibility)
        with (
            self._hub.reader(interest, after=start.after, caller=principal.identity) as reader,
            self._followers.following(principal, reader),
        ):
            yield reader

    async def start_at_beginning(self) -> Start:
        """From the oldest event that is retained."""
        return Start(after=await self._store.log.floor())

    async def start_now(self) -> Start:
        """From what is recorded from now on."""
        return Start(after=await self._store.log.head())

    async def start_at(self, recorded: int) -> Start:
        """From what was recorded at that time (ns) or later."""
        return Start(after=await self._store.log.position_before(recorded))

    async def start_after(self, principal: Principal, id: str) -> Start:
        """From what follows the event; an id of another log begins anew, and says so.

        So does that of an event which the principal cannot see: it could be guessed, and a good
        guess must not be told from a bad one.
        """
        head, floor = await self._store.log.head(), await self._store.log.floor()
        try:
            position = self.position(id)
        except InvalidCursor:
            return Start(after=floor, gap=Gap(after=0, floor=floor, reason="unknown"))
        if position > head or not await self._has_seen(principal, id, position):
            return Start(after=floor, gap=Gap(after=position, floor=floor, reason="unknown"))
        return Start(after=position)

    async def _has_seen(self, principal: Principal, id: str, position: int) -> bool:
        """Whether ``id`` is that of the event there, and the principal may see it, as far as there
        is one: a log that was restored from a copy gives positions a second time.
        """
        try:
            event = await self._store.log.get(position)
            return event.id == id.lower() and principal.visibility.shows(event)
        except EventNotFound:
            return True

    # Stacks and deployments

    async def projects(self, principal: Principal) -> list[str]:
        """The projects that the principal may see something of."""
        return await self._store.catalogue.projects(principal.visibility, caller=principal.identity)

    async def stacks(
        self,
        principal: Principal,
        *,
        project: str | None = None,
        name: str | None = None,
        deleted: bool = False,
    ) -> list[Stack]:
        """The stacks that the principal may see, newest first."""
        return await self._store.catalogue.stacks(
            principal.visibility,
            project=project,
            name=name,
            deleted=deleted,
            caller=principal.identity,
        )

    async def stack(self, principal: Principal, project: str, name: str) -> Stack:
        """The stack that has this name now; raises Forbidden or StackNotFound."""
        _require_readable(principal, scope("project", project))
        stack = await self._store.catalogue.stack(project, name)
        visibility = principal.visibility
        if not (visibility.shows_scopes(stack.scopes) and visibility.shows_groups(stack.groups)):
            raise StackNotFound(f"project {project!r} has no stack {name!r}")
        return stack

    async def deployments(
        self,
        principal: Principal,
        *,
        project: str | None = None,
        stack: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Deployment]:
        """The deployments that the principal may see, last started first."""
        stack_id = None
        if stack is not None:
            if project is None:
                raise InvalidInput("stack needs project", field="project")
            stack_id = (await self.stack(principal, project, stack)).id
        if before is not None:
            before = (await self._cursor_deployment(principal, before)).id
        return await self._store.catalogue.deployments(
            principal.visibility,
            project=project,
            stack_id=stack_id,
            before=before,
            limit=limit,
            caller=principal.identity,
        )

    async def deployments_of(
        self, principal: Principal, stack: Stack, *, before: str | None = None, limit: int = 100
    ) -> list[Deployment]:
        """Those of a stack that the principal was shown; ``before`` is one of them.

        However it was shown: the project need not be readable, nor the stack still be there.
        """
        return await self._store.catalogue.deployments(
            principal.visibility,
            stack_id=stack.id,
            before=before,
            limit=limit,
            caller=principal.identity,
        )

    async def _cursor_deployment(self, principal: Principal, id: str) -> Deployment:
        try:
            return await self.deployment(principal, id)
        except DeploymentNotFound as error:
            raise InvalidCursor(error.message, field="before") from error

    async def deployment(self, principal: Principal, id: str) -> Deployment:
        """One deployment; raises DeploymentNotFound when there is none, or none to be seen."""
        found = await self._find(id)
        if not self.shows(principal, found):
            raise _no_deployment(id)
        return found

    def shows(self, principal: Principal, deployment: Deployment) -> bool:
        """Whether the principal may see the deployment."""
        visibility = principal.visibility
        return visibility.shows_scopes(deployment.scopes) and visibility.shows_groups(
            deployment.groups
        )

    async def _find(self, id: str) -> Deployment:
        """The deployment, whoever may see it; the error is that of one that cannot be seen."""
        try:
            return await self._store.catalogue.deployment(id.lower())
        except DeploymentNotFound:
            raise _no_deployment(id) from None

    async def open_deployment(self, principal: Principal, new: NewDeployment) -> Deployment:
        """Begin a deployment, and its stack if there is none of that name.

        One that exists already under ``new.id`` is returned as it is. A principal that cannot see
        it gets the first answer again if it asks for the same, and Conflict if not.
        """
        id = parse_uuid(new.id) if new.id is not None else str(uuid4())
        _check(new)
        await self._require_opening(principal, new)
        try:
            known = await self._store.catalogue.deployment(id)
        except DeploymentNotFound:
            await self._begin(principal, new, id)
            known = await self._store.catalogue.deployment(id)
        if (known.project, known.stack) != (new.project, new.stack):
            raise Conflict(f"the id {id} is taken")
        if self.shows(principal, known):
            principal.require("write", known.scopes[0])
            return known
        if not _is_same(new, known) or not principal.may("write", known.scopes[0]):
            raise Conflict(f"the id {id} is taken")
        return _as_opened(new, known)

    async def open_deployment_for(self, principal: Principal, id: str) -> Deployment:
        """The deployment whose events the principal is about to append."""
        # One key for each, however a client spells it.
        id = id.lower()
        known = self._open.get(id)
        if known is None:
            known = await self._find(id)
            known = msgspec.structs.replace(known, message=None)
            if len(self._open) >= _REMEMBERED:
                self._open.clear()
            self._open[id] = known
        if not principal.may("write", known.scopes[0]):
            raise _no_deployment(id)
        if self.shows(principal, known):
            return known
        # The refusal of another of its scopes would name it.
        if not all(principal.may("write", path) for path in known.scopes):
            raise _no_deployment(id)
        return known

    async def delete_stack(self, principal: Principal, project: str, name: str) -> None:
        """Let the name be free again; the events stay."""
        stack = await self.stack(principal, project, name)
        await self._append_own(
            principal,
            [
                NewEvent(
                    type="stack.deleted",
                    source=SOURCE,
                    scopes=stack.scopes,
                    time=self._clock(),
                    producer_id=f"{stack.id}/deleted",
                    subject=name,
                    groups=stack.groups,
                    actor=principal.name,
                    message=f"Stack {name} deleted",
                )
            ],
        )

    async def wait(self, principal: Principal, id: str, *, timeout: float) -> Deployment:
        """The deployment once it has ended, or as it is after ``timeout`` seconds."""
        found = await self.deployment(principal, id)
        start = await self.start_now()
        follow = self.follow(principal, scope=found.scopes[0], filter=_ENDS, start=start)
        with follow as reader, suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                # Looked up again, now that nothing after it can be missed.
                found = await self.deployment(principal, id)
                while found.ended is None and await reader.next() is not None:
                    found = await self.deployment(principal, id)
        # Its end may be an event that this principal does not see.
        return found if found.ended is not None else await self.deployment(principal, id)

    async def _require_opening(self, principal: Principal, new: NewDeployment) -> None:
        """Raise Forbidden unless the principal may write the project, or the stack in it."""
        path = scope("project", new.project)
        if principal.may("write", path):
            return
        with suppress(StackNotFound):
            stack = await self._store.catalogue.stack(new.project, new.stack)
            if principal.may("write", stack.scopes[0]):
                return
        raise Forbidden(f"{principal.name} may not write {path}")

    async def _begin(self, principal: Principal, new: NewDeployment, id: str) -> None:
        """Record the deployment's start, and its stack's if there is none of that name."""
        catalogue = self._store.catalogue
        try:
            stack_id = (await catalogue.stack(new.project, new.stack)).id
        except StackNotFound:
            stack_id = str(uuid4())
            events = [self._created(new, stack_id), self._started(new, id, stack_id)]
            # Somebody else may be faster.
            with suppress(StackExists):
                await self._append_own(principal, events)
                return
            stack_id = (await catalogue.stack(new.project, new.stack)).id
        await self._append_own(principal, [self._started(new, id, stack_id)])

    async def _append_own(self, principal: Principal, events: Sequence[NewEvent]) -> None:
        """Append events of the log's own, which the caller did not number."""
        try:
            recorded = await self._record(principal, events)
            pairs = zip(events, recorded, strict=True)
            if strayed := [new for new, old in pairs if new.type != old.type]:
                # Before the source was reserved, another event may have taken the id.
                await self._record(principal, [_renumbered(event) for event in strayed])
        except InvalidEvent as error:
            raise InvalidEvent(error.message, field=error.field) from error

    def _created(self, new: NewDeployment, id: str) -> NewEvent:
        # A record of an earlier run is of a stack that was there when it began.
        began = parse_time(new.started) if new.started is not None else self._clock()
        return NewEvent(
            type="stack.created",
            source=SOURCE,
            scopes=(stack_scope(new.project, id),),
            time=min(began, self._clock()),
            producer_id=f"{id}/created",
            subject=new.stack,
            actor=new.actor,
            message=f"Stack {new.stack} created",
            data=_raw({"name": new.stack}),
        )

    def _started(self, new: NewDeployment, id: str, stack_id: str) -> NewEvent:
        started = parse_time(new.started) if new.started is not None else self._clock()
        scopes = [deployment_scope(new.project, stack_id, id)]
        if new.environment is not None:
            scopes.append(state_scope(new.project, new.environment, new.stack))
        details = {
            "stack": new.stack,
            "tool": new.tool,
            "operation": new.operation,
            "environment": new.environment,
        }
        return NewEvent(
            type="deployment.started",
            source=SOURCE,
            scopes=tuple(scopes),
            time=started,
            producer_id=f"{id}/started",
            subject=new.stack,
            groups=tuple(sorted(set(new.groups))),
            actor=new.actor,
            message=f"{(new.operation or 'deployment').capitalize()} of {new.stack} started",
            data=_raw({name: value for name, value in details.items() if value is not None}),
        )


def _asked_by(principal: Principal, query: Query) -> Query:
    """``query`` of what the principal may see, in its share of the readers."""
    return msgspec.structs.replace(
        query, visibility=principal.visibility, caller=principal.identity
    )


async def _pages(log: EventLog, query: Query) -> AsyncIterator[Page]:
    wanted = query.limit
    position: int | None = None
    while wanted > 0:
        part = msgspec.structs.replace(query, limit=min(wanted, _READ))
        page = await log.read(part if position is None else following(part, position))
        yield page
        position, wanted = page.next, wanted - len(page)
        if position is None:
            return


def _no_deployment(id: str) -> DeploymentNotFound:
    return DeploymentNotFound(f"there is no deployment {id!r}")


def _is_same(new: NewDeployment, known: Deployment) -> bool:
    """Whether ``known`` is what ``new`` asks for: then its answer tells nothing new."""
    asked = (new.tool, new.environment, new.actor, tuple(sorted(set(new.groups))))
    return (
        asked == (known.tool, known.environment, known.actor, known.groups)
        # Where the start does not say it, the end does.
        and new.operation in (None, known.operation)
        and (new.started is None or parse_time(new.started) == known.started)
    )


def _as_opened(new: NewDeployment, known: Deployment) -> Deployment:
    """The deployment as it was when it was opened."""
    return msgspec.structs.replace(
        known, status="running", ended=None, message=None, counts=Counts(), operation=new.operation
    )


def _is_lost_run(event: NewEvent) -> bool:
    """Whether it is what recorders up to version 0.1 say of a run whose end nobody saw, in the
    log's name. The log has no such id of its own.
    """
    place = place_of(event.scopes)
    return (
        place is not None
        and (event.source, event.type) == (SOURCE, "deployment.failed")
        and event.producer_id == f"{place.deployment_id}/lost"
    )


def _renumbered(event: NewEvent) -> NewEvent:
    return msgspec.structs.replace(event, producer_id=f"{event.producer_id}/{uuid4()}")


def _require_readable(principal: Principal, path: Scope) -> None:
    """Raise Forbidden unless something in ``path`` may be read."""
    if not principal.visibility.meets(path):
        raise Forbidden(f"{principal.name} may not read {path}")


def _check(new: NewDeployment) -> None:
    """Raise InvalidInput before anything is recorded."""
    if new.started is not None:
        parse_time(new.started)
    for field in ("project", "stack", "environment"):
        value = getattr(new, field)
        if value is not None:
            check_name(field, value)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
