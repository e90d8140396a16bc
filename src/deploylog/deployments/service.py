"""Stacks and deployments, for principals: open, list, wait, delete."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import uuid4

import msgspec

from deploylog.deployments.catalog import (
    Counts,
    Deployment,
    Stack,
    check_name,
    parse_uuid,
)
from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS, DEPLOYMENT_STARTED
from deploylog.deployments.store import Catalog
from deploylog.errors import (
    Conflict,
    DeploymentNotFound,
    Forbidden,
    InvalidCursor,
    InvalidEvent,
    InvalidInput,
    StackExists,
    StackNotFound,
)
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import SOURCE, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import Scope, deployment_scope, scope, stack_scope, state_scope
from deploylog.events.service import EventService
from deploylog.events.times import parse_time

#: Open deployments whose scopes are remembered, so that appends need not look them up.
_REMEMBERED = 1_000

_ENDS = Filter(all_of=(any_of("type", tuple(DEPLOYMENT_ENDS)),))


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


class DeploymentService:
    """Answers what is deployed, and opens deployments."""

    def __init__(self, events: EventService, catalog: Catalog, *, clock: Callable[[], int]) -> None:
        """``clock`` gives ns since 1970."""
        self._events = events
        self._catalog = catalog
        self._clock = clock
        self._open: BoundedMap[str, Deployment] = BoundedMap(_REMEMBERED)

    async def projects(self, principal: Principal) -> list[str]:
        """The projects that the principal may see something of."""
        return await self._catalog.projects(principal.visibility, caller=principal.identity)

    async def stacks(
        self,
        principal: Principal,
        *,
        project: str | None = None,
        name: str | None = None,
        deleted: bool = False,
    ) -> list[Stack]:
        """The stacks that the principal may see, newest first."""
        return await self._catalog.stacks(
            principal.visibility,
            project=project,
            name=name,
            deleted=deleted,
            caller=principal.identity,
        )

    async def stack(self, principal: Principal, project: str, name: str) -> Stack:
        """The stack that has this name now; raises Forbidden or StackNotFound."""
        _require_readable(principal, scope("project", project))
        stack = await self._catalog.stack(project, name)
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
        return await self._catalog.deployments(
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
        return await self._catalog.deployments(
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
            return await self._catalog.deployment(id.lower())
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
            known = await self._catalog.deployment(id)
        except DeploymentNotFound:
            await self._begin(principal, new, id)
            known = await self._catalog.deployment(id)
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
            self._open.put(id, known)
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
        start = await self._events.start_now()
        follow = self._events.follow(principal, scope=found.scopes[0], filter=_ENDS, start=start)
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
            stack = await self._catalog.stack(new.project, new.stack)
            if principal.may("write", stack.scopes[0]):
                return
        raise Forbidden(f"{principal.name} may not write {path}")

    async def _begin(self, principal: Principal, new: NewDeployment, id: str) -> None:
        """Record the deployment's start, and its stack's if there is none of that name."""
        catalogue = self._catalog
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
            recorded = await self._events.record_own(principal, events)
            pairs = zip(events, recorded, strict=True)
            if strayed := [new for new, old in pairs if new.type != old.type]:
                # Before the source was reserved, another event may have taken the id.
                await self._events.record_own(principal, [_renumbered(event) for event in strayed])
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
            type=DEPLOYMENT_STARTED,
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
