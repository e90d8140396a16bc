"""Stacks and deployments, for principals: open, list, wait, delete."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from uuid import uuid4

import msgspec

from deploylog.deployments.catalog import (
    Counts,
    Deployment,
    Stack,
    Status,
    check_name,
    parse_uuid,
)
from deploylog.deployments.details import (
    Details,
    check_details,
    details_of,
    includes,
)
from deploylog.deployments.filters import ALL_NAMES, DeploymentFilter, Names, suggestion
from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS
from deploylog.deployments.naming import NameResolver, require_readable
from deploylog.deployments.opening import Opening, deployment_started, stack_created
from deploylog.deployments.recovery import Recoveries
from deploylog.deployments.store import Catalog
from deploylog.errors import (
    Conflict,
    DeploymentNotFound,
    Forbidden,
    InvalidCursor,
    InvalidEvent,
    StackExists,
    StackNotFound,
)
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import SOURCE, NewEvent
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import Scope, scope, state_scope
from deploylog.events.service import EventService
from deploylog.events.times import Time, parse_time

#: Open deployments that are cached, so that appends need not look them up.
_CACHED = 1_000

_ENDS = Filter(all_of=(any_of("type", tuple(DEPLOYMENT_ENDS)),))


class NewDeployment(Details, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request to open a deployment."""

    project: str
    stack: str
    #: UUID; makes retries idempotent.
    id: str | None = None
    tool: str | None = None
    operation: str | None = None
    environment: str | None = None
    actor: str | None = None
    groups: tuple[str, ...] = ()
    #: RFC 3339; absent, it starts now.
    started: Time | None = None


class DeploymentService:
    """Reads stacks and deployments, and opens deployments."""

    def __init__(self, events: EventService, catalog: Catalog, *, clock: Callable[[], int]) -> None:
        """``clock`` returns ns since 1970."""
        self._events = events
        self._catalog = catalog
        self._clock = clock
        #: What names select.
        self.names = NameResolver(catalog)
        self._open: BoundedMap[str, Deployment] = BoundedMap(_CACHED)

    async def projects(self, principal: Principal) -> list[str]:
        """The projects with a visible stack."""
        return await self._catalog.projects(principal.visibility, caller=principal.identity)

    async def environments(self, principal: Principal) -> list[str]:
        """The environments of the visible deployments, in order."""
        return await self._catalog.environments(principal.visibility, caller=principal.identity)

    async def stacks(
        self,
        principal: Principal,
        *,
        project: str | None = None,
        name: str | None = None,
        deleted: bool = False,
    ) -> list[Stack]:
        """The visible stacks, newest first."""
        return await self._catalog.stacks(
            principal.visibility,
            project=project,
            name=name,
            deleted=deleted,
            caller=principal.identity,
        )

    async def stack(self, principal: Principal, project: str, name: str) -> Stack:
        """Get the stack with this name; raises Forbidden or StackNotFound."""
        require_readable(principal, scope("project", project))
        stack = await self._catalog.stack(project, name)
        visibility = principal.visibility
        if not (visibility.shows_scopes(stack.scopes) and visibility.shows_groups(stack.groups)):
            raise StackNotFound(f"project {project!r} has no stack {name!r}")
        return stack

    async def deployments(
        self,
        principal: Principal,
        *,
        names: Names = ALL_NAMES,
        since: int | None = None,
        current: bool = False,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Deployment]:
        """The visible deployments, last started first; see ``DeploymentFilter``.

        Raises StackNotFound or InvalidFilter for a stack or an environment that is not visible.
        """
        where = msgspec.structs.replace(
            await self.names.resolve(principal, names), since=since, current=current
        )
        if before is not None:
            before = (await self._cursor_deployment(principal, before)).id
        return await self._catalog.deployments(
            principal.visibility,
            where=where,
            before=before,
            limit=limit,
            caller=principal.identity,
        )

    async def deployments_of(
        self,
        principal: Principal,
        stack_id: str,
        *,
        statuses: tuple[Status, ...] = (),
        before: str | None = None,
        limit: int = 100,
    ) -> list[Deployment]:
        """The visible deployments of a stack; ``before`` is one of them.

        The project need not be readable, and the stack may have been deleted.
        """
        return await self._catalog.deployments(
            principal.visibility,
            stack_id=stack_id,
            where=DeploymentFilter(statuses=statuses),
            before=before,
            limit=limit,
            caller=principal.identity,
        )

    async def _cursor_deployment(self, principal: Principal, id: str) -> Deployment:
        try:
            return await self.deployment(principal, id)
        except DeploymentNotFound as error:
            raise InvalidCursor(f"before: {error.message}", field="before") from error

    async def deployment(self, principal: Principal, id: str) -> Deployment:
        """Get a deployment; raises DeploymentNotFound unless it is visible."""
        found = await self._find(id)
        if not self.shows(principal, found):
            raise _no_deployment(id)
        return found

    async def find(self, principal: Principal, id: str) -> Deployment | None:
        """Get a deployment if there is one that is visible."""
        try:
            return await self.deployment(principal, id)
        except DeploymentNotFound:
            return None

    def shows(self, principal: Principal, deployment: Deployment) -> bool:
        visibility = principal.visibility
        return visibility.shows_scopes(deployment.scopes) and visibility.shows_groups(
            deployment.groups
        )

    async def _find(self, id: str) -> Deployment:
        """Get a deployment, visible or not, with the error of one that is not visible."""
        try:
            return await self._catalog.deployment(id.lower())
        except DeploymentNotFound:
            raise _no_deployment(id) from None

    async def open_deployment(self, principal: Principal, new: NewDeployment) -> Deployment:
        """Open a deployment, and create its stack if none has that name.

        Returns the deployment that exists under ``new.id``. A principal that cannot see it gets
        the first response again if it asks for the same, and Conflict if not.
        """
        id = parse_uuid(new.id) if new.id is not None else str(uuid4())
        _check(new)
        await self._require_opening(principal, new)
        try:
            known = await self._catalog.deployment(id)
        except DeploymentNotFound:
            await self._start(principal, new, id)
            known = await self._catalog.deployment(id)
        if (known.project, known.stack) != (new.project, new.stack):
            raise Conflict(f"the id {id} is already in use: choose another")
        if self.shows(principal, known):
            principal.require("write", known.scopes[0])
            return known
        if not _is_same(new, known) or not principal.may("write", known.scopes[0]):
            raise Conflict(f"the id {id} is already in use: choose another")
        return _as_opened(new, known)

    async def open_deployment_for(self, principal: Principal, id: str) -> Deployment:
        """Get the deployment that the principal is about to append events to."""
        # One entry for each, however a client spells the id.
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
        # The error about one of its other scopes would name that scope.
        if not all(principal.may("write", path) for path in known.scopes):
            raise _no_deployment(id)
        return known

    async def event_scopes(
        self, principal: Principal, project: str, *, stack: str | None, environment: str | None
    ) -> tuple[Scope, ...]:
        """The scopes of an event in the place of these names, which the principal writes there.

        Raises StackNotFound if it may not write such a stack, and InvalidInput.
        """
        check_name("project", project)
        if environment is not None:
            check_name("environment", environment)
        if stack is None:
            return (
                scope("project", project)
                if environment is None
                else scope("state", project, environment),
            )
        found = await self._writable_stack(principal, project, stack)
        if environment is None:
            return found.scopes[:1]
        return found.scopes[0], state_scope(project, environment, stack)

    async def _writable_stack(self, principal: Principal, project: str, name: str) -> Stack:
        with suppress(StackNotFound):
            stack = await self._catalog.stack(project, name)
            if principal.may("write", stack.scopes[0]):
                return stack
        visible = await self.stacks(principal, project=project)
        near = suggestion(name, {each.name for each in visible} - {name})
        raise StackNotFound(f"project {project!r} has no stack {name!r}{near}")

    async def delete_stack(self, principal: Principal, project: str, name: str) -> None:
        """Free the stack's name; its events stay."""
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
        """Wait until the deployment has ended, or ``timeout`` seconds, and return it."""
        found = await self.deployment(principal, id)
        start = await self._events.start_now()
        follow = self._events.follow(principal, scope=found.scopes[0], filter=_ENDS, start=start)
        with follow as reader, suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                # Read again, now that the reader misses no later event.
                found = await self.deployment(principal, id)
                while found.ended is None and await reader.next() is not None:
                    found = await self.deployment(principal, id)
        # The event that ends it may be invisible to this principal.
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

    async def _start(self, principal: Principal, new: NewDeployment, id: str) -> None:
        """Record the deployment's start, and its stack's creation if none has that name."""
        recoveries = Recoveries(self._catalog, partial(self._events.read_for_writer, principal))
        opening = await recoveries.explain(self._opening(new, id))
        try:
            stack_id = (await self._catalog.stack(new.project, new.stack)).id
        except StackNotFound:
            created = stack_created(opening, now=self._clock())
            # Another request may create it first.
            with suppress(StackExists):
                await self._append_own(principal, [created, deployment_started(opening)])
                return
            stack_id = (await self._catalog.stack(new.project, new.stack)).id
        opening = msgspec.structs.replace(opening, stack_id=stack_id)
        await self._append_own(principal, [deployment_started(opening)])

    async def _append_own(self, principal: Principal, events: Sequence[NewEvent]) -> None:
        """Append events of the log's own; their errors name no line of the request."""
        try:
            recorded = await self._events.append_any(principal, events)
            pairs = zip(events, recorded, strict=True)
            if strayed := [new for new, old in pairs if new.type != old.type]:
                # Before the source was reserved, another event may have taken the id.
                await self._events.append_any(principal, [_renumbered(event) for event in strayed])
        except InvalidEvent as error:
            raise InvalidEvent(error.message, field=error.field) from error

    def _opening(self, new: NewDeployment, id: str) -> Opening:
        """The deployment in a new stack."""
        return Opening(
            id=id,
            project=new.project,
            stack=new.stack,
            stack_id=str(uuid4()),
            started=parse_time(new.started) if new.started is not None else self._clock(),
            environment=new.environment,
            tool=new.tool,
            operation=new.operation,
            actor=new.actor,
            groups=tuple(sorted(set(new.groups))),
            details=details_of(new),
        )


def _no_deployment(id: str) -> DeploymentNotFound:
    return DeploymentNotFound(f"there is no deployment {id!r}")


def _is_same(new: NewDeployment, known: Deployment) -> bool:
    """Whether ``known`` is what ``new`` asks for: then the response reveals nothing."""
    requested = (new.tool, new.environment, new.actor, tuple(sorted(set(new.groups))))
    return (
        requested == (known.tool, known.environment, known.actor, known.groups)
        # A start without an operation gets it from the end.
        and new.operation in (None, known.operation)
        and (new.started is None or parse_time(new.started) == known.started)
        # Likewise its details.
        and includes(known.details, details_of(new))
    )


def _as_opened(new: NewDeployment, known: Deployment) -> Deployment:
    """The deployment as it was when it was opened."""
    return msgspec.structs.replace(
        known,
        status="running",
        ended=None,
        message=None,
        counts=Counts(),
        operation=new.operation,
        details=details_of(new),
    )


def _renumbered(event: NewEvent) -> NewEvent:
    return msgspec.structs.replace(event, producer_id=f"{event.producer_id}/{uuid4()}")


def _check(new: NewDeployment) -> None:
    """Raise InvalidInput before anything is recorded."""
    if new.started is not None:
        parse_time(new.started)
    for field in ("project", "stack", "environment"):
        value = getattr(new, field)
        if value is not None:
            check_name(field, value)
    check_details(new)
