"""Where a Bluelink stream begins: at the client's cursor, or at what happened recently."""

from deploylog.catalogue import Stack
from deploylog.changes import Changeset
from deploylog.dialects.bluelink.instances import FINISHES, History, counts
from deploylog.dialects.bluelink.wire import STAGING_ENDS, parse_moment_of_id
from deploylog.dialects.parts import Parts
from deploylog.errors import ChangesetNotFound, EventNotFound
from deploylog.events import Event
from deploylog.principals import Principal
from deploylog.scope import Scope, deployment_scope, stack_scope
from deploylog.service import EventService, Start
from deploylog.store.base import Query
from deploylog.times import SECOND

#: Finishes of deployments that deploy nothing, among which the newest that counts is looked for.
_FINISHES_READ = 100


class Beginnings:
    """Finds where streams begin."""

    def __init__(self, parts: Parts) -> None:
        """Take what the composition root gives."""
        self._service: EventService = parts.service
        self._clock = parts.clock
        self._recent_seconds = parts.bluelink_recent_seconds

    async def cursor(self, last_id: str) -> Start | None:
        """The place that the client has come to; ``None`` when it has not begun.

        An id that is not of this log is a place in time, and what is no id at all asks for
        everything.
        """
        if not last_id:
            return None
        start = await self._service.start_after(last_id)
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
            return await self._before(ends[0], cursor)
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
    ) -> tuple[Scope, Start]:
        """What an instance's stream shows, and where it begins; ``now`` is from before ``history``.

        Without a cursor that is the last deployment, or whichever comes. Raises EventNotFound
        when the last deployment's end is no longer retained.
        """
        scope = stack_scope(stack.project, stack.id)
        if history.last is None:
            return scope, cursor or now
        last = history.last.deployment
        if cursor is None:
            scope = deployment_scope(stack.project, stack.id, last.id)
        if last.status == "running":
            return scope, cursor or await self._service.start_at_beginning()
        return scope, await self._before(await self._finish(principal, scope, history), cursor)

    async def _finish(self, principal: Principal, scope: Scope, history: History) -> Event:
        """The newest end of a deployment that counts."""
        query = Query(scope=scope, filter=FINISHES, limit=_FINISHES_READ)
        for end in await self._service.read(principal, query):
            if counts(end, history):
                return end
        raise EventNotFound("the events of the last deployment are no longer retained")

    async def _before(self, end: Event, cursor: Start | None) -> Start:
        """The cursor or else what is recent, but never past the end."""
        start = cursor or await self._recently()
        return Start(after=min(start.after, end.position - 1))

    async def _recently(self) -> Start:
        if not self._recent_seconds:
            return await self._service.start_at_beginning()
        since = self._clock() - self._recent_seconds * SECOND
        # Strictly newer, as the engine has it.
        return await self._service.start_at(max(since + 1, 0))
