"""Records reports: opens deployments by names, and finds the one that each event belongs to."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from uuid import uuid4

import msgspec

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.details import completed
from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS, DEPLOYMENT_STARTED
from deploylog.deployments.opening import Opening, deployment_started, opened, stack_created
from deploylog.deployments.recovery import Recoveries
from deploylog.deployments.report import Report, check_report
from deploylog.deployments.runs import run_of
from deploylog.deployments.store import Catalog
from deploylog.errors import (
    DeploymentNotFound,
    InvalidEvent,
    InvalidInput,
    StackExists,
    StackNotFound,
)
from deploylog.events.access import Principal
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.event import Event, NewEvent, check_event
from deploylog.events.scope import scope, stack_scope
from deploylog.events.service import EventService, check_source
from deploylog.events.store import IdempotencyKey

#: Keys whose newest run is remembered, so that earlier ones need not be looked up.
_REMEMBERED = 10_000

#: Runs that are looked up: an event that is late by more belongs to the oldest of them.
_NEWEST_RUNS = 3

#: Times that a request is tried anew while another process creates its stack.
_TRIES = 3


class DeploymentReports:
    """Records what producers report about deployments that they name by keys of their own."""

    def __init__(self, events: EventService, catalog: Catalog, *, clock: Callable[[], int]) -> None:
        """``clock`` returns ns since 1970."""
        self._events = events
        self._catalog = catalog
        self._clock = clock
        # Without it, two concurrent reports would both begin the next run.
        self._lock = asyncio.Lock()
        self._newest: BoundedMap[str, int] = BoundedMap(_REMEMBERED)

    async def append(
        self,
        principal: Principal,
        items: Sequence[NewEvent | Report],
        *,
        request: IdempotencyKey | None = None,
    ) -> list[list[Event]]:
        """Record all of ``items`` or none; the events of each, the last of which is its own.

        A report that opens no deployment, and whose deployment is not known, has none. Raises
        Forbidden, or InvalidInput with the item's ``line``.
        """
        for line, item in enumerate(items, 1):
            _check(item, line)
        async with self._lock:
            for _ in range(_TRIES):
                # Another process may create the same stack at the same time.
                with suppress(StackExists):
                    return await self._append(principal, items, request)
            return await self._append(principal, items, request)

    async def _append(
        self,
        principal: Principal,
        items: Sequence[NewEvent | Report],
        request: IdempotencyKey | None,
    ) -> list[list[Event]]:
        read = partial(self._events.read_for_writer, principal)
        recoveries = Recoveries(self._catalog, read)
        draft = _Draft(self._catalog, recoveries, self._newest, now=self._clock())
        groups = [await draft.events_of(principal, item) for item in items]
        flat = [event for group in groups for event in group]
        recorded = iter(await self._events.append_any(principal, flat, request=request))
        draft.remember()
        return [[next(recorded) for _ in group] for group in groups]


class _Draft:
    """The events of some items, and the deployments as they will be once those are recorded."""

    def __init__(
        self,
        catalog: Catalog,
        recoveries: Recoveries,
        newest: BoundedMap[str, int],
        *,
        now: int,
    ) -> None:
        self._catalog = catalog
        self._recoveries = recoveries
        self._newest = newest
        self._now = now
        #: Ids of stacks, by project and name.
        self._stacks: dict[tuple[str, str], str] = {}
        #: Runs by number, by the id of the first.
        self._runs: dict[str, dict[int, Deployment]] = {}

    async def events_of(self, principal: Principal, item: NewEvent | Report) -> list[NewEvent]:
        """The events that record ``item``, the last of which is its own."""
        if isinstance(item, NewEvent):
            return [item]
        await self._require_writable(principal, item)
        known = await self._load(item)
        run = run_of(list(known.values()), item.event.type, item.event.time)
        if run is not None:
            return [await self._event(item, run)]
        return await self._open(item, known) if item.opens else []

    def remember(self) -> None:
        """Remember the newest runs, now that they are recorded."""
        for key, known in self._runs.items():
            if known:
                self._newest.put(key, max(known))

    async def _require_writable(self, principal: Principal, report: Report) -> None:
        """Raise Forbidden unless the principal may write the project, or the stack in it."""
        path = scope("project", report.project)
        if principal.may("write", path):
            return
        stack_id = await self._stack_id(report)
        if stack_id is None or not principal.may("write", stack_scope(report.project, stack_id)):
            # Not the stack's scope, which would tell that it exists.
            principal.require("write", path)

    async def _stack_id(self, report: Report) -> str | None:
        place = (report.project, report.stack)
        if place not in self._stacks:
            try:
                self._stacks[place] = (await self._catalog.stack(*place)).id
            except StackNotFound:
                return None
        return self._stacks[place]

    async def _load(self, report: Report) -> dict[int, Deployment]:
        """The newest runs that are recorded, by number."""
        key = report.deployment_id(1)
        if key not in self._runs:
            number = max(1, (self._newest.get(key) or 1) - _NEWEST_RUNS + 1)
            known: dict[int, Deployment] = {}
            while found := await self._find(report.deployment_id(number)):
                known[number] = found
                number += 1
            self._runs[key] = known
        return self._runs[key]

    async def _find(self, id: str) -> Deployment | None:
        try:
            return await self._catalog.deployment(id)
        except DeploymentNotFound:
            return None

    async def _open(self, report: Report, known: dict[int, Deployment]) -> list[NewEvent]:
        """The events of the first report about the next run."""
        number = max(known, default=0) + 1
        stack_id = await self._stack_id(report)
        opening = _opening(report, number, stack_id or str(uuid4()))
        opening = await self._recoveries.explain(opening)
        created = [] if stack_id else [stack_created(opening, now=self._now)]
        self._stacks[report.project, report.stack] = opening.stack_id
        run = known[number] = opened(opening)
        if report.event.type == DEPLOYMENT_STARTED:
            return [*created, await self._event(report, run, **opening.data)]
        return [*created, deployment_started(opening), await self._event(report, run)]

    async def _event(self, report: Report, run: Deployment, **more: object) -> NewEvent:
        """The report's own event, in the run that it belongs to."""
        if report.is_end and run.ended is None:
            run = self._end(report, run)
            if restored := await self._restored(report, run):
                more["restores"] = restored
        return msgspec.structs.replace(
            report.event,
            scopes=run.scopes,
            groups=run.groups,
            data=report.raw_data(**more),
        )

    def _end(self, report: Report, run: Deployment) -> Deployment:
        """The run after its end."""
        known = self._runs[report.deployment_id(1)]
        [number] = [number for number, each in known.items() if each.id == run.id]
        known[number] = msgspec.structs.replace(
            run,
            status=DEPLOYMENT_ENDS[report.event.type],
            ended=report.event.time,
            operation=run.operation or report.operation,
            details=completed(run.details, report.details),
        )
        return known[number]

    async def _restored(self, report: Report, run: Deployment) -> str | None:
        """What the run restores by its end, unless a producer has said it."""
        if run.status != "completed" or run.details.restores is not None:
            return None
        drafted = (each for known in self._runs.values() for each in known.values())
        return await self._recoveries.restored_by(run, report.event.time, drafted)


def _opening(report: Report, number: int, stack_id: str) -> Opening:
    event = report.event
    return Opening(
        id=report.deployment_id(number),
        project=report.project,
        stack=report.stack,
        stack_id=stack_id,
        # A later run starts with what is reported first about it.
        started=min(report.started or event.time, event.time) if number == 1 else event.time,
        environment=report.environment,
        tool=report.tool,
        operation=report.operation,
        actor=event.actor,
        groups=event.groups,
        details=report.details,
        source=event.source,
    )


def _check(item: NewEvent | Report, line: int) -> None:
    """Raise InvalidEvent with the item's line unless it may be recorded."""
    try:
        if isinstance(item, Report):
            check_report(item)
            place = (scope("project", item.project),)
            check_event(msgspec.structs.replace(item.event, scopes=place))
        else:
            check_event(item)
    except InvalidInput as error:
        raise InvalidEvent(error.message, field=error.field, line=line) from error
    check_source(item.event if isinstance(item, Report) else item, line)
