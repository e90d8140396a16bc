"""Stack views: stacks and their events, page by page, for the APIs of AWS."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

import msgspec

from deploylog.api.aws.stacks.actions import StackActions
from deploylog.api.aws.stacks.arn import KINDS, Account, Arn, Kind, is_stack_of, kinds_of, parse_arn
from deploylog.api.aws.stacks.page_tokens import PageTokens
from deploylog.api.aws.stacks.settings import StackSettings
from deploylog.api.aws.stacks.stack_events import (
    LIFECYCLE,
    RECORDED,
    SYNTHESIZED,
    Action,
    lifecycle_deployment_of,
    recorded_stack_event,
    synthesize_stack_event,
)
from deploylog.api.context import ApiContext
from deploylog.deployments.catalog import Deployment, Stack
from deploylog.deployments.service import DeploymentService
from deploylog.errors import InvalidScope, StackNotFound
from deploylog.events.access import Principal
from deploylog.events.chronology import Moment, moment_of, read_by_time
from deploylog.events.event import Event
from deploylog.events.filters import Filter
from deploylog.events.scope import Scope, scope
from deploylog.events.service import EventService
from deploylog.events.store import Query
from deploylog.ingest.cloudformation.stack_event import SOURCE, StackEvent, stack_event_of

#: Events, or stacks, on a page, as in CloudFormation.
PAGE = 100

#: Events read for one response. If they do not fill the page, it is short.
_MAX_EVENTS_READ = 5_000

#: Bytes of the time, and of the position, in a token.
_NUMBER_BYTES = 8

DELETED = "DELETE_COMPLETE"


class RecordedStack(msgspec.Struct, frozen=True, kw_only=True):
    """The newest recorded event of a CloudFormation stack, and the scopes of that event."""

    event: StackEvent
    scopes: tuple[Scope, ...]


class EventSource(msgspec.Struct, frozen=True, kw_only=True):
    """A scope whose events a view contains."""

    scope: Scope
    #: The stacks recorded from CloudFormation. Without any, stack events are synthesized.
    recorded: tuple[RecordedStack, ...]


class StackView(msgspec.Struct, frozen=True, kw_only=True):
    """A stack as CloudFormation's clients see it."""

    arn: str
    name: str
    #: ``None`` for an image or a cluster that is not in the catalog.
    stack: Stack | None
    sources: tuple[EventSource, ...]
    #: ``None`` when nothing of the stack was recorded from CloudFormation.
    recorded: RecordedStack | None

    @property
    def kinds(self) -> set[Kind]:
        """The kinds that the stack's scopes name."""
        own = self.stack.scopes if self.stack is not None else ()
        recorded = self.recorded.scopes if self.recorded is not None else ()
        return kinds_of((*own, *recorded, *(source.scope for source in self.sources)))

    @property
    def is_deleted(self) -> bool:
        """Whether the stack's name is free again."""
        if self.stack is not None:
            return self.stack.deleted is not None
        if self.recorded is None:
            return False
        newest = self.recorded.event
        return newest.is_stack_itself and newest.resource_status == DELETED

    def is_in(self, region: str | None) -> bool:
        """Whether the region contains the stack; one not recorded from CloudFormation is in all."""
        arn = parse_arn(self.arn)
        return None in (region, self.recorded, arn) or (arn is not None and arn.region == region)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a stack's events, newest first."""

    events: list[StackEvent]
    next_token: str | None


class StackViews:
    """Finds stacks and their events, as far as a principal may see them."""

    def __init__(
        self,
        service: EventService,
        deployments: DeploymentService,
        *,
        project: str | None,
        account: Account,
        tokens: PageTokens,
    ) -> None:
        """``project`` limits the stacks to one project; ``None`` includes all."""
        self._service = service
        self._deployments = deployments
        self._project = project
        self._account = account
        self.tokens = tokens

    # Stacks

    async def by_name(
        self, principal: Principal, name: str, *kinds: Kind, region: str | None = None
    ) -> StackView:
        """The newest stack of this name, including events of ``<kind>/<name>``.

        A stack recorded from CloudFormation is only in its own region. Raises StackNotFound.
        """
        async for view in self._named(principal, name, kinds):
            if view.is_in(region) and not view.is_deleted:
                return view
        raise StackNotFound(f"stack {name!r} does not exist")

    async def by_arn(self, principal: Principal, arn: Arn) -> StackView:
        """The stack of this ARN, even if it is deleted; raises StackNotFound."""
        for name in arn.names:
            async for view in self._named(principal, name, KINDS, deleted=True):
                if view.arn == arn.text:
                    return view
        raise StackNotFound(f"stack {arn.text!r} does not exist")

    async def stacks(
        self, principal: Principal, *, name: str | None = None, deleted: bool = False
    ) -> list[Stack]:
        """The stacks in the catalog, newest first."""
        return await self._deployments.stacks(
            principal, project=self._project, name=name, deleted=deleted
        )

    async def view(
        self, principal: Principal, stack: Stack, others: Sequence[EventSource] = ()
    ) -> StackView:
        """The view of a stack in the catalog, including events of ``others``."""
        own = EventSource(scope=stack.scopes[0], recorded=())
        if await self._may_be_recorded(principal, stack):
            own = await self._source(principal, stack.scopes[0], stack.name)
        recorded = _of_stack(own.recorded, stack)
        return StackView(
            arn=recorded.event.stack_id if recorded is not None else self._account.arn_of(stack),
            name=recorded.event.stack_name if recorded is not None else stack.name,
            stack=stack,
            sources=(own, *others),
            recorded=recorded,
        )

    async def _may_be_recorded(self, principal: Principal, stack: Stack) -> bool:
        """Whether to search for recorded stack events; without any, the search is slow."""
        last = await self._deployments.deployments_of(principal, stack.id, limit=1)
        return all(deployment.tool == SOURCE for deployment in last)

    async def _named(
        self, principal: Principal, name: str, kinds: Sequence[Kind], *, deleted: bool = False
    ) -> AsyncIterator[StackView]:
        """The catalog's stacks of this name, newest first, then those outside the catalog."""
        others = [
            source for kind in kinds if (source := await self._source_of(principal, kind, name))
        ]
        for stack in await self.stacks(principal, name=name, deleted=deleted):
            yield await self.view(principal, stack, others if stack.deleted is None else ())
        for source in others:
            for view in self._views_of(source, name):
                yield view

    def _views_of(self, source: EventSource, name: str) -> list[StackView]:
        if source.recorded:
            return [
                StackView(
                    arn=recorded.event.stack_id,
                    name=recorded.event.stack_name,
                    stack=None,
                    sources=(source,),
                    recorded=recorded,
                )
                for recorded in source.recorded
            ]
        arn = self._account.arn_in(source.scope, name)
        return [StackView(arn=arn, name=name, stack=None, sources=(source,), recorded=None)]

    async def _source_of(self, principal: Principal, kind: Kind, name: str) -> EventSource | None:
        """The events of an image or a cluster; ``None`` if there are none to show."""
        try:
            path = scope(kind, name)
        except InvalidScope:
            return None
        source = await self._source(principal, path, name)
        if source.recorded or await self._newest(principal, path, SYNTHESIZED, 1):
            return source
        return None

    async def _source(self, principal: Principal, path: Scope, name: str) -> EventSource:
        """The scope, with the stacks of this name that were recorded in it lately."""
        recorded = _by_arn(await self._newest(principal, path, RECORDED, PAGE))
        if recorded and not _of_name(recorded, name):
            # The newest events may all belong to nested stacks.
            recorded |= _by_arn(await self._newest(principal, path, LIFECYCLE, PAGE))
        stacks = _of_name(recorded, name) or tuple(recorded.values())
        return EventSource(scope=path, recorded=stacks)

    async def _newest(
        self, principal: Principal, path: Scope, filter: Filter, limit: int
    ) -> list[Event]:
        query = Query(scope=path, filter=filter, limit=limit)
        return await self._service.read_all(principal, query)

    # Events

    async def page(self, principal: Principal, view: StackView, token: str | None) -> Page:
        """The newest events, or the page of ``token``.

        Events are ordered by time, within and across pages; among events of the same time, the
        one recorded later comes first. Raises InvalidCursor or CursorExpired.
        """
        last = await self._parse_token(view, token) if token is not None else None
        events: list[StackEvent] = []
        read = 0
        async for moment, each in self._stack_events(principal, view, beyond=last):
            if read >= _MAX_EVENTS_READ or (each is not None and len(events) == PAGE):
                return Page(events=events, next_token=self._render_token(view, last))
            if each is not None:
                events.append(each)
            last, read = moment, read + 1
        return Page(events=events, next_token=None)

    async def newest_of(
        self, principal: Principal, view: StackView, matches: Callable[[StackEvent], bool]
    ) -> StackEvent | None:
        """The newest event that matches, among the last ``_MAX_EVENTS_READ`` events."""
        read = 0
        async for _, each in self._stack_events(principal, view, beyond=None):
            if each is not None and matches(each):
                return each
            read += 1
            if read >= _MAX_EVENTS_READ:
                break
        return None

    async def resources(self, principal: Principal, view: StackView) -> list[StackEvent]:
        """The newest event of each resource, sorted by logical id.

        Only the last ``_MAX_EVENTS_READ`` events are read. Deleted resources are left out, unless
        the whole stack is deleted.
        """
        found: dict[str, StackEvent] = {}
        read = 0
        async for _, each in self._stack_events(principal, view, beyond=None):
            if each is not None and not each.is_stack_itself:
                found.setdefault(each.logical_resource_id, each)
            read += 1
            if read >= _MAX_EVENTS_READ:
                break
        return [
            found[id]
            for id in sorted(found)
            if view.is_deleted or found[id].resource_status != DELETED
        ]

    async def tags(self, principal: Principal, view: StackView) -> dict[str, str] | None:
        """The stack's tags as last recorded; ``None`` if no recent event has them."""
        for source in view.sources if view.recorded is not None else ():
            for event in await self._newest(principal, source.scope, LIFECYCLE, PAGE):
                each = stack_event_of(event)
                if each is not None and each.stack_id == view.arn and each.tags is not None:
                    return each.tags
        return None

    async def created_at(self, principal: Principal, view: StackView) -> int:
        """The time at which the stack was created, or else that of its first event (ns)."""
        if view.stack is not None:
            return view.stack.created
        query = Query(scope=view.sources[0].scope, order="oldest", limit=1)
        return min((event.time for event in await self._service.read(principal, query)), default=0)

    async def last_action(
        self, principal: Principal, view: StackView
    ) -> tuple[Deployment, Action] | None:
        """The stack's last mutating deployment, with its action."""
        if view.stack is None:
            return None
        actions = StackActions(self._deployments, principal, view.stack)
        last = await actions.last()
        action = await actions.action(last) if last is not None else None
        return (last, action) if last is not None and action is not None else None

    async def _stack_events(
        self, principal: Principal, view: StackView, *, beyond: Moment | None
    ) -> AsyncIterator[tuple[Moment, StackEvent | None]]:
        """The moment of every event, newest first, with its stack event, if it has one."""
        while True:
            read, more = await self._read(principal, view, beyond)
            actions = await self._actions(principal, view, read)
            for source, event in read:
                beyond = moment_of(event)
                if source.recorded:
                    yield beyond, _recorded_of(event, view.arn)
                else:
                    yield (
                        beyond,
                        synthesize_stack_event(
                            event, arn=view.arn, name=view.name, actions=actions
                        ),
                    )
            if not more:
                return

    async def _read(
        self, principal: Principal, view: StackView, beyond: Moment | None
    ) -> tuple[list[tuple[EventSource, Event]], bool]:
        """The newest events of all sources, up to one page and one event more.

        The flag tells whether there may be more.
        """
        found: dict[Moment, tuple[EventSource, Event]] = {}
        ends: list[Moment] = []
        for source in reversed(view.sources):
            filter = RECORDED if source.recorded else SYNTHESIZED
            query = Query(scope=source.scope, filter=filter, limit=PAGE + 1)
            read = partial(self._service.read, principal)
            stretch = await read_by_time(read, query, beyond=beyond)
            found |= {moment_of(event): (source, event) for event in stretch.events}
            ends += [moment_of(stretch.events[-1])] if stretch.more and stretch.events else []
        # Past the end of one source's page, events of the others would be out of order.
        end = max(ends, default=None)
        newest = sorted((m for m in found if end is None or m >= end), reverse=True)
        more = end is not None or len(newest) > PAGE + 1
        return [found[moment] for moment in newest[: PAGE + 1]], more

    async def _actions(
        self, principal: Principal, view: StackView, read: list[tuple[EventSource, Event]]
    ) -> dict[str, Action | None]:
        """The actions of the deployments that these events start or end, by id."""
        if view.stack is None:
            return {}
        ids = {lifecycle_deployment_of(event) for source, event in read if not source.recorded}
        actions = StackActions(self._deployments, principal, view.stack)
        return await actions.actions(id for id in ids if id is not None)

    async def _parse_token(self, view: StackView, token: str) -> Moment:
        cursor = self.tokens.parse(_list_name(view), token)
        time, position = cursor[:_NUMBER_BYTES], cursor[_NUMBER_BYTES:]
        moment = Moment(int.from_bytes(time), int.from_bytes(position))
        await self._service.require_retained(moment.position)
        return moment

    def _render_token(self, view: StackView, last: Moment | None) -> str:
        numbers = (last.time, last.position) if last is not None else (0, 0)
        cursor = b"".join(number.to_bytes(_NUMBER_BYTES) for number in numbers)
        return self.tokens.render(_list_name(view), cursor)


def make_stack_views(context: ApiContext, settings: StackSettings) -> StackViews:
    """Create the stack views of one API."""
    return StackViews(
        context.events,
        context.deployments,
        project=settings.cloudformation_project or None,
        account=Account(
            region=settings.cloudformation_region, account=settings.cloudformation_account
        ),
        tokens=PageTokens(context.page_token_key),
    )


def _list_name(view: StackView) -> str:
    return f"events of {view.arn}"


def _recorded_of(event: Event, arn: str) -> StackEvent | None:
    """The recorded stack event, unless it belongs to a nested stack."""
    recorded = recorded_stack_event(event)
    return recorded if recorded is not None and recorded.stack_id == arn else None


def _by_arn(events: Sequence[Event]) -> dict[str, RecordedStack]:
    """The stacks in ``events``, newest first, by ARN."""
    found: dict[str, RecordedStack] = {}
    for event in events:
        each = stack_event_of(event)
        if each is not None and each.stack_id not in found:
            found[each.stack_id] = RecordedStack(event=each, scopes=event.scopes)
    return found


def _of_name(recorded: Mapping[str, RecordedStack], name: str) -> tuple[RecordedStack, ...]:
    return tuple(each for each in recorded.values() if each.event.stack_name == name)


def _of_stack(recorded: Sequence[RecordedStack], stack: Stack) -> RecordedStack | None:
    """The one that a collector created ``stack`` for, or else the one recorded last."""
    for each in recorded:
        if is_stack_of(stack, each.event.stack_id):
            return each
    return next(iter(recorded), None)
