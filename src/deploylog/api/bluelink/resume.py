"""Where a Bluelink stream begins, and how an instance's ends when its end is an event for others.

A stream begins at the client's cursor, or at what happened recently.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec

from deploylog.api.bluelink.instances import CHANNEL, FINISHES, Channel, History, counts, is_idle
from deploylog.api.bluelink.settings import BluelinkSettings
from deploylog.api.bluelink.wire import (
    HEARTBEAT,
    STAGING_ENDS,
    STREAM_HEADERS,
    parse_moment_of_id,
    render_gap,
)
from deploylog.api.context import ApiContext
from deploylog.api.http.event_stream import EndingFrames
from deploylog.deployments.catalog import Deployment, Stack
from deploylog.deployments.changeset import Changeset
from deploylog.deployments.service import DeploymentService
from deploylog.errors import ChangesetNotFound
from deploylog.events.access import Principal
from deploylog.events.event import Event
from deploylog.events.hub import Batch, Reader
from deploylog.events.scope import Scope, deployment_scope, stack_scope
from deploylog.events.service import EventService, Start
from deploylog.events.store import Query
from deploylog.events.times import SECOND

#: Finishes of deployments that deploy nothing, among which the newest that counts is looked for.
_FINISHES_READ = 100


# Ends


class End(msgspec.Struct, frozen=True):
    """An end that only the catalogue tells."""

    deployment: Deployment
    #: The newest event of the stream, which comes before it.
    position: int


class CompletionFinder:
    """Finds the ends of deployments."""

    def __init__(
        self,
        service: EventService,
        deployments: DeploymentService,
        principal: Principal,
        scope: Scope,
    ) -> None:
        """``scope`` is that of the stream."""
        self._service = service
        self._deployments = deployments
        self._principal = principal
        self._scope = scope

    async def event(self, deployment: Deployment) -> Event | None:
        """The event that tells the principal of the end."""
        query = Query(scope=_scope_of(deployment), filter=FINISHES, limit=1)
        return next(iter(await self._service.read(self._principal, query)), None)

    async def untold(self, deployment: Deployment) -> End | None:
        """The end of a deployment that has ended; ``None`` when an event tells it."""
        if await self.event(deployment) is not None:
            return None
        query = Query(scope=self._scope, filter=CHANNEL, limit=1)
        newest = await self._service.read(self._principal, query)
        # What is no longer retained is told as a gap before.
        position = newest[0].position if newest else await self._service.floor()
        return End(deployment, position)

    async def look(self, channel: Channel) -> End | None:
        """The end of what the channel awaits, if it has come untold."""
        if channel.awaited is None:
            return None
        deployment = await self._deployments.deployment(self._principal, channel.awaited)
        if deployment.ended is None:
            return None
        if is_idle(deployment):
            channel.drop(deployment.id)
            return None
        return await self.untold(deployment)


class CompletionBatch(Batch):
    """That a deployment has ended, in the place of the event that tells it."""

    def __init__(self, deployment: Deployment) -> None:
        """``deployment`` is the one that has."""
        super().__init__()
        self.deployment = deployment


class CompletingReader:
    """A ``Followed``: reads as a ``Reader`` does, and to the end also when no event tells it."""

    def __init__(
        self, reader: Reader, end: End | None, look: Callable[[], Awaitable[End | None]]
    ) -> None:
        """``end`` is known already; ``look`` is asked for it at each sign of life."""
        self._reader = reader
        self._end = end
        self._look = look

    @property
    def position(self) -> int:
        return self._reader.position

    async def next(self) -> Batch | None:
        if self._end is not None and self.position >= self._end.position:
            return CompletionBatch(self._end.deployment)
        batch = await self._reader.next()
        is_alive = batch is not None and not (batch.events or batch.gap)
        if is_alive and self._end is None:
            self._end = await self._look()
        return batch

    def close(self) -> None:
        self._reader.close()

    def when_closed(self, call: Callable[[], None]) -> None:
        self._reader.when_closed(call)


@contextmanager
def following(
    follow: AbstractContextManager[Reader],
    end: End | None,
    look: Callable[[], Awaitable[End | None]],
) -> Iterator[CompletingReader]:
    """The reader of ``follow``, as one that comes to its end."""
    with follow as reader:
        yield CompletingReader(reader, end, look)


class InstanceFrames(EndingFrames):
    """How an instance's stream is written."""

    def __init__(self, channel: Channel) -> None:
        """``channel`` renders the events."""
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


# Beginnings


class Beginning(msgspec.Struct, frozen=True):
    """What an instance's stream shows, and where it begins."""

    scope: Scope
    start: Start
    #: The end, if it has come and no event tells it.
    end: End | None = None


class ResumePoints:
    """Finds where streams begin."""

    def __init__(self, context: ApiContext, settings: BluelinkSettings) -> None:
        """Take what the composition root gives."""
        self._service: EventService = context.events
        self._deployments = context.deployments
        self._clock = context.clock
        self._recent_seconds = settings.bluelink_recent_seconds

    async def cursor(self, principal: Principal, last_id: str) -> Start | None:
        """The place that the client has come to; ``None`` when it has not begun.

        An id that is not of this log is a place in time, and what is no id at all asks for
        everything.
        """
        if not last_id:
            return None
        start = await self._service.start_after(principal, last_id)
        if start.gap is None:
            return start
        moment = parse_moment_of_id(last_id)
        if moment is None:
            return await self._service.start_at_beginning()
        return await self._service.start_at(moment)

    async def of_changeset(
        self, principal: Principal, changeset: Changeset, cursor: Start | None
    ) -> Start:
        """Where the change set's stream begins: what has ended is told to the end, again.

        Raises ChangesetNotFound when the end is no longer retained.
        """
        query = Query(scope=changeset.scopes[0], filter=STAGING_ENDS, limit=1)
        ends = await self._service.read(principal, query)
        if ends:
            return _before(ends[0], cursor or await self._recently())
        if changeset.status != "staging":
            raise ChangesetNotFound
        return cursor or await self._service.start_at_beginning()

    async def of_instance(
        self,
        principal: Principal,
        stack: Stack,
        history: History,
        *,
        cursor: Start | None,
        now: Start,
    ) -> Beginning:
        """What an instance's stream shows, and where it begins; ``now`` is from before ``history``.

        Without a cursor that is the last deployment, or whichever comes.
        """
        whole = stack_scope(stack.project, stack.id)
        if history.last is None:
            return Beginning(whole, cursor or now)
        last = history.last.deployment
        scope = whole if cursor else _scope_of(last)
        if last.status != "running":
            return await self._of_ended(principal, history, last, scope, cursor)
        if cursor is not None:
            return Beginning(scope, cursor)
        start = await self._first(principal, last)
        # It may turn out to deploy nothing; then others are waited for.
        return Beginning(scope if last.operation else whole, start or now)

    async def _of_ended(
        self,
        principal: Principal,
        history: History,
        last: Deployment,
        scope: Scope,
        cursor: Start | None,
    ) -> Beginning:
        endings = CompletionFinder(self._service, self._deployments, principal, scope)
        start = cursor or await self._recently_of(principal, last)
        told = await endings.event(last)
        if told is None:
            return Beginning(scope, start, await endings.untold(last))
        end = await self._finish(principal, scope, history) if cursor else told
        return Beginning(scope, _before(end or told, start))

    async def _finish(self, principal: Principal, scope: Scope, history: History) -> Event | None:
        """The newest end of a deployment that counts."""
        query = Query(scope=scope, filter=FINISHES, limit=_FINISHES_READ)
        ends = await self._service.read(principal, query)
        return next((end for end in ends if counts(end, history)), None)

    async def _first(self, principal: Principal, deployment: Deployment) -> Start | None:
        """Where the deployment's events begin, as far as there are any."""
        query = Query(scope=_scope_of(deployment), filter=CHANNEL, order="oldest", limit=1)
        events = await self._service.read(principal, query)
        return Start(after=events[0].position - 1) if events else None

    async def _recently_of(self, principal: Principal, deployment: Deployment) -> Start:
        """What is recent, but only of the deployment: what was there before it counts, too."""
        recently, first = await self._recently(), await self._first(principal, deployment)
        return max(recently, first or recently, key=lambda start: start.after)

    async def _recently(self) -> Start:
        if not self._recent_seconds:
            return await self._service.start_at_beginning()
        since = self._clock() - self._recent_seconds * SECOND
        # Strictly newer, as the engine has it.
        return await self._service.start_at(max(since + 1, 0))


def _before(end: Event, start: Start) -> Start:
    """The start, but never past the end."""
    return Start(after=min(start.after, end.position - 1))


def _scope_of(deployment: Deployment) -> Scope:
    return deployment_scope(deployment.project, deployment.stack_id, deployment.id)
