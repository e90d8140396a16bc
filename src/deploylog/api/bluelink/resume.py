"""Start and end of Bluelink streams.

A stream starts at the client's cursor, or at recent events. An instance's stream ends even when
the client may not see the event that ends the deployment.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec

from deploylog.api.bluelink.channel import CHANNEL, Channel
from deploylog.api.bluelink.instances import FINISHES, History, is_mutating, is_mutating_event
from deploylog.api.bluelink.settings import BluelinkSettings
from deploylog.api.bluelink.wire import (
    HEARTBEAT,
    STAGING_ENDS,
    STREAM_HEADERS,
    parse_time_of_id,
    render_gap,
)
from deploylog.api.context import ApiContext
from deploylog.api.http.event_stream import TerminatedFrames
from deploylog.deployments.catalog import Deployment, Stack
from deploylog.deployments.changeset import Changeset
from deploylog.deployments.service import DeploymentService
from deploylog.errors import ChangesetNotFound
from deploylog.events.access import Principal
from deploylog.events.batch import Batch
from deploylog.events.event import Event
from deploylog.events.hub import Reader
from deploylog.events.outlet import Outlet
from deploylog.events.scope import Scope, deployment_scope, stack_scope
from deploylog.events.service import EventService, Start
from deploylog.events.store import Query
from deploylog.events.times import SECOND

#: The end events searched for the newest one of a mutating deployment.
_FINISHES_READ = 100


# Ends


class UnrecordedEnd(msgspec.Struct, frozen=True):
    """The end of a deployment that the catalog knows, but no event that the client may see."""

    deployment: Deployment
    #: The position of the stream's last event, after which the end is sent.
    position: int


class CompletionFinder:
    """Finds how deployments ended."""

    def __init__(
        self,
        service: EventService,
        deployments: DeploymentService,
        principal: Principal,
        scope: Scope,
    ) -> None:
        """``scope`` is the stream's."""
        self._service = service
        self._deployments = deployments
        self._principal = principal
        self._scope = scope

    async def end_event(self, deployment: Deployment) -> Event | None:
        """The event that ends the deployment, if the principal may see it."""
        query = Query(scope=_scope_of(deployment), filter=FINISHES, limit=1)
        return next(iter(await self._service.read(self._principal, query)), None)

    async def unrecorded_end(self, deployment: Deployment) -> UnrecordedEnd | None:
        """The end of a finished deployment; ``None`` when an event records it."""
        if await self.end_event(deployment) is not None:
            return None
        query = Query(scope=self._scope, filter=CHANNEL, limit=1)
        newest = await self._service.read(self._principal, query)
        # The stream reports events below the floor as a gap first.
        position = newest[0].position if newest else await self._service.floor()
        return UnrecordedEnd(deployment, position)

    async def poll(self, channel: Channel) -> UnrecordedEnd | None:
        """The end of the deployment that the channel awaits, if it ended without an event."""
        if channel.awaited is None:
            return None
        deployment = await self._deployments.deployment(self._principal, channel.awaited)
        if deployment.ended is None:
            return None
        if not is_mutating(deployment):
            channel.discard(deployment.id)
            return None
        return await self.unrecorded_end(deployment)


class CompletionBatch(Batch):
    """Stands in a stream for the end event of a deployment."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__()
        self.deployment = deployment


class CompletingReader:
    """A ``BatchReader`` that adds a ``CompletionBatch`` where no event ends the deployment."""

    def __init__(
        self,
        reader: Reader,
        end: UnrecordedEnd | None,
        poll: Callable[[], Awaitable[UnrecordedEnd | None]],
    ) -> None:
        """While ``end`` is ``None``, call ``poll`` for it at each heartbeat."""
        self._reader = reader
        self._end = end
        self._poll = poll

    @property
    def position(self) -> int:
        return self._reader.position

    async def next(self, outlet: Outlet | None = None) -> Batch | None:
        """Return the next batch; nothing is written to ``outlet``, as each batch may be the end."""
        if self._end is not None and self.position >= self._end.position:
            return CompletionBatch(self._end.deployment)
        batch = await self._reader.next()
        is_heartbeat = batch is not None and not (batch.events or batch.gap)
        if is_heartbeat and self._end is None:
            self._end = await self._poll()
        return batch

    def close(self) -> None:
        self._reader.close()

    def on_close(self, call: Callable[[], None]) -> None:
        self._reader.on_close(call)


@contextmanager
def completing(
    follow: AbstractContextManager[Reader],
    end: UnrecordedEnd | None,
    poll: Callable[[], Awaitable[UnrecordedEnd | None]],
) -> Iterator[CompletingReader]:
    """Open ``follow``, and wrap its reader in a ``CompletingReader``."""
    with follow as reader:
        yield CompletingReader(reader, end, poll)


class InstanceFrames(TerminatedFrames):
    """The frames of an instance's stream."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(
            event=channel.frame,
            gap=render_gap,
            is_end=channel.is_end,
            heartbeat=HEARTBEAT,
            headers=STREAM_HEADERS,
        )
        self._channel = channel

    def of(self, batch: Batch) -> Iterable[bytes]:
        if isinstance(batch, CompletionBatch):
            return [self._channel.finish(batch.deployment)]
        return super().of(batch)

    def ends(self, batch: Batch) -> bool:
        return isinstance(batch, CompletionBatch) or super().ends(batch)


# Starts


class ResumePoint(msgspec.Struct, frozen=True):
    """The scope of an instance's stream, and where it starts."""

    scope: Scope
    start: Start
    #: The end, if the deployment has ended without an event.
    end: UnrecordedEnd | None = None


class ResumePoints:
    """Finds where streams start."""

    def __init__(self, context: ApiContext, settings: BluelinkSettings) -> None:
        """Take what the composition root gives."""
        self._service: EventService = context.events
        self._deployments = context.deployments
        self._clock = context.clock
        self._recent_seconds = settings.bluelink_recent_seconds

    async def cursor(self, principal: Principal, last_id: str) -> Start | None:
        """Where to resume after ``last_id``; ``None`` when it is empty.

        An id of another log counts by its time; text that is no id starts at the oldest event.
        """
        if not last_id:
            return None
        start = await self._service.start_after(principal, last_id)
        if start.gap is None:
            return start
        time = parse_time_of_id(last_id)
        if time is None:
            return await self._service.start_at_oldest()
        return await self._service.start_at(time)

    async def of_changeset(
        self, principal: Principal, changeset: Changeset, cursor: Start | None
    ) -> Start:
        """Where the change set's stream starts: early enough to send its end, even again.

        Raises ChangesetNotFound when the end event is no longer retained.
        """
        query = Query(scope=changeset.scopes[0], filter=STAGING_ENDS, limit=1)
        ends = await self._service.read(principal, query)
        if ends:
            return _before(ends[0], cursor or await self._recently())
        if changeset.status != "staging":
            raise ChangesetNotFound
        return cursor or await self._service.start_at_oldest()

    async def of_instance(
        self,
        principal: Principal,
        stack: Stack,
        history: History,
        *,
        cursor: Start | None,
        now: Start,
    ) -> ResumePoint:
        """Where an instance's stream starts; ``now`` must be read before ``history``.

        Without a cursor, the stream is that of the last deployment, or of the next one.
        """
        whole = stack_scope(stack.project, stack.id)
        if history.last is None:
            return ResumePoint(whole, cursor or now)
        last = history.last.deployment
        scope = whole if cursor else _scope_of(last)
        if last.status != "running":
            return await self._of_ended(principal, history, last, scope, cursor)
        if cursor is not None:
            return ResumePoint(scope, cursor)
        start = await self._first(principal, last)
        # It may turn out to change nothing; the stream then awaits other deployments.
        return ResumePoint(scope if last.operation else whole, start or now)

    async def _of_ended(
        self,
        principal: Principal,
        history: History,
        last: Deployment,
        scope: Scope,
        cursor: Start | None,
    ) -> ResumePoint:
        finder = CompletionFinder(self._service, self._deployments, principal, scope)
        start = cursor or await self._recently_of(principal, last)
        last_end = await finder.end_event(last)
        if last_end is None:
            return ResumePoint(scope, start, await finder.unrecorded_end(last))
        end = await self._finish(principal, scope, history) if cursor else last_end
        return ResumePoint(scope, _before(end or last_end, start))

    async def _finish(self, principal: Principal, scope: Scope, history: History) -> Event | None:
        """The newest end event of a mutating deployment."""
        query = Query(scope=scope, filter=FINISHES, limit=_FINISHES_READ)
        ends = await self._service.read(principal, query)
        return next((end for end in ends if is_mutating_event(end, history.operations)), None)

    async def _first(self, principal: Principal, deployment: Deployment) -> Start | None:
        """Where the deployment's events start; ``None`` if there are none."""
        query = Query(scope=_scope_of(deployment), filter=CHANNEL, order="oldest", limit=1)
        events = await self._service.read(principal, query)
        return Start(after=events[0].position - 1) if events else None

    async def _recently_of(self, principal: Principal, deployment: Deployment) -> Start:
        """The start of recent events, but never before the deployment's first event."""
        recently, first = await self._recently(), await self._first(principal, deployment)
        return max(recently, first or recently, key=lambda start: start.after)

    async def _recently(self) -> Start:
        if not self._recent_seconds:
            return await self._service.start_at_oldest()
        since = self._clock() - self._recent_seconds * SECOND
        # Strictly newer, as in the engine.
        return await self._service.start_at(max(since + 1, 0))


def _before(end: Event, start: Start) -> Start:
    """``start``, but never after the end event."""
    return Start(after=min(start.after, end.position - 1))


def _scope_of(deployment: Deployment) -> Scope:
    return deployment_scope(deployment.project, deployment.stack_id, deployment.id)
