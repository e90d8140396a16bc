"""Stack views: where the dialects of AWS find stacks, and their events, page by page."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

import msgspec

from deploylog.api.aws.stacks.actions import Runs
from deploylog.api.aws.stacks.arn import KINDS, Account, Arn, Kind, is_stack_of, kinds_of, parse_arn
from deploylog.api.aws.stacks.page_tokens import PageTokens
from deploylog.api.aws.stacks.stack_events import (
    COLLECTED,
    LIFECYCLE,
    MADE,
    Action,
    recorded_stack_event,
    run_of,
    synthesize_stack_event,
)
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

#: Events, and stacks, on a page. CloudFormation's pages of events have as many.
PAGE = 100

#: Events looked at for one answer. Where more of them have no place in it, its page is short.
_MOST = 5_000

#: Bytes of a time, and of a position, in a token.
_NUMBER_BYTES = 8

DELETED = "DELETE_COMPLETE"


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What CloudFormation said last of a stack, of what is looked at, and where it is recorded."""

    event: StackEvent
    scopes: tuple[Scope, ...]


class EventSource(msgspec.Struct, frozen=True, kw_only=True):
    """A scope whose events are shown."""

    scope: Scope
    #: What CloudFormation said in it, of each stack; where it said nothing, events are made.
    said: tuple[Collected, ...]


class StackView(msgspec.Struct, frozen=True, kw_only=True):
    """A stack as CloudFormation's clients see it."""

    arn: str
    name: str
    #: ``None`` for what was only ever recorded as an image or a cluster.
    stack: Stack | None
    parts: tuple[EventSource, ...]
    #: ``None`` when it was not collected.
    collected: Collected | None

    @property
    def kinds(self) -> set[Kind]:
        """What it is the stack of, as far as its scopes say."""
        own = self.stack.scopes if self.stack is not None else ()
        said = self.collected.scopes if self.collected is not None else ()
        return kinds_of((*own, *said, *(part.scope for part in self.parts)))

    @property
    def is_deleted(self) -> bool:
        """Whether its name is free again."""
        if self.stack is not None:
            return self.stack.deleted is not None
        if self.collected is None:
            return False
        last = self.collected.event
        return last.is_stack_itself and last.resource_status == DELETED

    def is_in(self, region: str | None) -> bool:
        """Whether who asks in this region finds it: what was not collected is in every one."""
        arn = parse_arn(self.arn)
        return None in (region, self.collected, arn) or (arn is not None and arn.region == region)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some events of a stack, newest first."""

    events: list[StackEvent]
    next_token: str | None


class StackViews:
    """Finds stacks and their events, of those that a principal may see."""

    def __init__(
        self,
        service: EventService,
        deployments: DeploymentService,
        *,
        project: str | None,
        place: Account,
        tokens: PageTokens,
    ) -> None:
        """``project`` is the only one whose stacks are looked at; ``None`` looks at all."""
        self._service = service
        self._deployments = deployments
        self._project = project
        self._place = place
        self.tokens = tokens

    # Stacks

    async def by_name(
        self, principal: Principal, name: str, *kinds: Kind, region: str | None = None
    ) -> StackView:
        """The newest stack that has this name, with what was recorded in ``<kind>/<name>``.

        One that was collected is in its own region only. Raises StackNotFound.
        """
        async for view in self._named(principal, name, kinds):
            if view.is_in(region) and not view.is_deleted:
                return view
        raise StackNotFound(f"there is no stack {name!r}")

    async def by_arn(self, principal: Principal, arn: Arn) -> StackView:
        """The stack of this ARN, though it be deleted; raises StackNotFound."""
        for name in arn.names:
            async for view in self._named(principal, name, KINDS, deleted=True):
                if view.arn == arn.text:
                    return view
        raise StackNotFound(f"there is no stack {arn.text!r}")

    async def stacks(
        self, principal: Principal, *, name: str | None = None, deleted: bool = False
    ) -> list[Stack]:
        """The stacks of the catalogue, newest first."""
        return await self._deployments.stacks(
            principal, project=self._project, name=name, deleted=deleted
        )

    async def view(
        self, principal: Principal, stack: Stack, beside: Sequence[EventSource] = ()
    ) -> StackView:
        """A stack of the catalogue, with what was recorded ``beside`` it."""
        own = EventSource(scope=stack.scopes[0], said=())
        if await self._may_be_collected(principal, stack):
            own = await self._part(principal, stack.scopes[0], stack.name)
        said = _of_stack(own.said, stack)
        return StackView(
            arn=said.event.stack_id if said is not None else self._place.arn_of(stack),
            name=said.event.stack_name if said is not None else stack.name,
            stack=stack,
            parts=(own, *beside),
            collected=said,
        )

    async def _may_be_collected(self, principal: Principal, stack: Stack) -> bool:
        """Whether to look for what CloudFormation said: where it said nothing, a long look."""
        last = await self._deployments.deployments_of(principal, stack, limit=1)
        return all(deployment.tool == SOURCE for deployment in last)

    async def _named(
        self, principal: Principal, name: str, kinds: Sequence[Kind], *, deleted: bool = False
    ) -> AsyncIterator[StackView]:
        """The stacks of this name, newest first; last what was recorded without one."""
        beside = [part for kind in kinds if (part := await self._beside(principal, kind, name))]
        for stack in await self.stacks(principal, name=name, deleted=deleted):
            yield await self.view(principal, stack, beside if stack.deleted is None else ())
        for part in beside:
            for view in self._views_of(part, name):
                yield view

    def _views_of(self, part: EventSource, name: str) -> list[StackView]:
        if part.said:
            return [
                StackView(
                    arn=said.event.stack_id,
                    name=said.event.stack_name,
                    stack=None,
                    parts=(part,),
                    collected=said,
                )
                for said in part.said
            ]
        arn = self._place.arn_in(part.scope, name)
        return [StackView(arn=arn, name=name, stack=None, parts=(part,), collected=None)]

    async def _beside(self, principal: Principal, kind: Kind, name: str) -> EventSource | None:
        """What was recorded as an image or a cluster; ``None`` if nothing that could be shown."""
        try:
            path = scope(kind, name)
        except InvalidScope:
            return None
        part = await self._part(principal, path, name)
        return part if part.said or await self._newest(principal, path, MADE, 1) else None

    async def _part(self, principal: Principal, path: Scope, name: str) -> EventSource:
        """The scope, and of which stacks of this name CloudFormation spoke in it lately."""
        said = _said(await self._newest(principal, path, COLLECTED, PAGE))
        if said and not _of_name(said, name):
            # Of late, only stacks that are nested in it may have had something to say.
            said |= _said(await self._newest(principal, path, LIFECYCLE, PAGE))
        return EventSource(scope=path, said=_of_name(said, name) or tuple(said.values()))

    async def _newest(
        self, principal: Principal, path: Scope, filter: Filter, limit: int
    ) -> list[Event]:
        query = Query(scope=path, filter=filter, limit=limit)
        return await self._service.read_whole(principal, query)

    # Events

    async def page(self, principal: Principal, view: StackView, token: str | None) -> Page:
        """The newest events, or those that ``token`` leads to.

        They are in the order of time, on a page and over pages joined; of events of one time, the
        one recorded later comes first. Raises InvalidCursor or CursorExpired.
        """
        last = await self._moment(view, token) if token is not None else None
        told: list[StackEvent] = []
        looked = 0
        async for moment, each in self._told(principal, view, beyond=last):
            if looked >= _MOST or (each is not None and len(told) == PAGE):
                return Page(events=told, next_token=self._token(view, last))
            if each is not None:
                told.append(each)
            last, looked = moment, looked + 1
        return Page(events=told, next_token=None)

    async def newest_of(
        self, principal: Principal, view: StackView, matches: Callable[[StackEvent], bool]
    ) -> StackEvent | None:
        """The newest event that matches, if it is not too long ago to be looked for."""
        looked = 0
        async for _, each in self._told(principal, view, beyond=None):
            if each is not None and matches(each):
                return each
            looked += 1
            if looked >= _MOST:
                break
        return None

    async def resources(self, principal: Principal, view: StackView) -> list[StackEvent]:
        """The newest event of each resource, by logical id, if it is not too long ago.

        Those that were deleted are left out, unless the whole stack was.
        """
        found: dict[str, StackEvent] = {}
        looked = 0
        async for _, each in self._told(principal, view, beyond=None):
            if each is not None and not each.is_stack_itself:
                found.setdefault(each.logical_resource_id, each)
            looked += 1
            if looked >= _MOST:
                break
        return [
            found[id]
            for id in sorted(found)
            if view.is_deleted or found[id].resource_status != DELETED
        ]

    async def tags(self, principal: Principal, view: StackView) -> dict[str, str] | None:
        """Its tags, as its collector said them last; ``None`` where none of late did."""
        for part in view.parts if view.collected is not None else ():
            for event in await self._newest(principal, part.scope, LIFECYCLE, PAGE):
                said = stack_event_of(event)
                if said is not None and said.stack_id == view.arn and said.tags is not None:
                    return said.tags
        return None

    async def created_at(self, principal: Principal, view: StackView) -> int:
        """When the stack was made, or else when the first of its events was (ns)."""
        if view.stack is not None:
            return view.stack.created
        query = Query(scope=view.parts[0].scope, order="oldest", limit=1)
        return min((event.time for event in await self._service.read(principal, query)), default=0)

    async def deployed(
        self, principal: Principal, view: StackView
    ) -> tuple[Deployment, Action] | None:
        """The last deployment that did something to the stack, and what."""
        if view.stack is None:
            return None
        runs = Runs(self._deployments, principal, view.stack)
        last = await runs.last()
        action = await runs.action(last) if last is not None else None
        return (last, action) if last is not None and action is not None else None

    async def _told(
        self, principal: Principal, view: StackView, *, beyond: Moment | None
    ) -> AsyncIterator[tuple[Moment, StackEvent | None]]:
        """Every event newest first, with what is told of it, if anything."""
        while True:
            read, more = await self._read(principal, view, beyond)
            actions = await self._actions(principal, view, read)
            for part, event in read:
                beyond = moment_of(event)
                if part.said:
                    yield beyond, _collected(event, view.arn)
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
        """The newest events of all parts, one more than a page holds if there are so many, and
        whether there may be more.
        """
        found: dict[Moment, tuple[EventSource, Event]] = {}
        ends: list[Moment] = []
        for part in reversed(view.parts):
            filter = COLLECTED if part.said else MADE
            query = Query(scope=part.scope, filter=filter, limit=PAGE + 1)
            read = partial(self._service.read, principal)
            page = await read_by_time(read, query, beyond=beyond)
            found |= {moment_of(event): (part, event) for event in page.events}
            ends += [moment_of(page.events[-1])] if page.more and page.events else []
        # Below the end of one part's page, events of the other parts would come too early.
        end = max(ends, default=None)
        newest = sorted((m for m in found if end is None or m >= end), reverse=True)
        more = end is not None or len(newest) > PAGE + 1
        return [found[moment] for moment in newest[: PAGE + 1]], more

    async def _actions(
        self, principal: Principal, view: StackView, read: list[tuple[EventSource, Event]]
    ) -> dict[str, Action | None]:
        """What the deployments did that these events begin or end."""
        if view.stack is None:
            return {}
        ids = {run_of(event) for part, event in read if not part.said}
        runs = Runs(self._deployments, principal, view.stack)
        return await runs.actions(id for id in ids if id is not None)

    async def _moment(self, view: StackView, token: str) -> Moment:
        place = self.tokens.parse(_events_of(view), token)
        time, position = place[:_NUMBER_BYTES], place[_NUMBER_BYTES:]
        moment = Moment(int.from_bytes(time), int.from_bytes(position))
        await self._service.require_retained(moment.position)
        return moment

    def _token(self, view: StackView, last: Moment | None) -> str:
        numbers = (last.time, last.position) if last is not None else (0, 0)
        place = b"".join(number.to_bytes(_NUMBER_BYTES) for number in numbers)
        return self.tokens.render(_events_of(view), place)


def _events_of(view: StackView) -> str:
    return f"events of {view.arn}"


def _collected(event: Event, arn: str) -> StackEvent | None:
    """What CloudFormation said of this stack, and not of one that is nested in it."""
    told = recorded_stack_event(event)
    return told if told is not None and told.stack_id == arn else None


def _said(events: Sequence[Event]) -> dict[str, Collected]:
    """What was said last of each stack, by its ARN."""
    found: dict[str, Collected] = {}
    for event in events:
        told = stack_event_of(event)
        if told is not None and told.stack_id not in found:
            found[told.stack_id] = Collected(event=told, scopes=event.scopes)
    return found


def _of_name(said: Mapping[str, Collected], name: str) -> tuple[Collected, ...]:
    """What was said of stacks of this name."""
    return tuple(each for each in said.values() if each.event.stack_name == name)


def _of_stack(said: Sequence[Collected], stack: Stack) -> Collected | None:
    """What was said of the stack itself; of one that no collector made, what was said last."""
    for each in said:
        if is_stack_of(stack, each.event.stack_id):
            return each
    return next(iter(said), None)
