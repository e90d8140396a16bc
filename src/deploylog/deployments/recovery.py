"""Recoveries: what a deployment restores, and what made it necessary, by what is recorded."""

from collections.abc import Awaitable, Callable, Iterable
from itertools import takewhile

import msgspec

from deploylog.deployments.catalog import NON_MUTATING_OPERATIONS, Deployment
from deploylog.deployments.incidents import INCIDENT_TYPES, open_incident
from deploylog.deployments.opening import Opening, opened
from deploylog.deployments.store import Catalog
from deploylog.events.access import ALL
from deploylog.events.event import Event
from deploylog.events.filters import Filter, any_of
from deploylog.events.scope import state_scope
from deploylog.events.store import Query

#: Deployments of a stack, and events about incidents, that are looked at: the newest.
_RECENT = 50

_ABOUT_INCIDENTS = (any_of("type", tuple(INCIDENT_TYPES.values())),)


class Recoveries:
    """Finds failures and incidents that deployments recover from."""

    def __init__(self, catalog: Catalog, read: Callable[[Query], Awaitable[list[Event]]]) -> None:
        """``read`` reads events for a producer, as ``EventService.read_for_writer`` does."""
        self._catalog = catalog
        self._read = read

    async def restored_by(
        self, run: Deployment, ended: int, drafted: Iterable[Deployment]
    ) -> str | None:
        """What ``run`` restores if it completes at this time (ns): the first deployment that
        failed since the last success, or the incident in which it started.

        ``drafted`` are deployments as they are about to be.
        """
        if run.operation in NON_MUTATING_OPERATIONS:
            return None
        recorded = await self._catalog.deployments(ALL, stack_id=run.stack_id, limit=_RECENT)
        others = {each.id: each for each in (*recorded, *drafted)}
        before = [each for each in others.values() if _precedes(each, run, ended)]
        newest_first = sorted(before, key=lambda each: each.ended or 0, reverse=True)
        failed = list(takewhile(lambda each: each.status == "failed", newest_first))
        return failed[-1].id if failed else await self.incident_of(run)

    async def explain(self, opening: Opening) -> Opening:
        """The opening with the incident that made it necessary, unless its producer says why."""
        if opening.details.rework_of is not None:
            return opening
        incident = await self.incident_of(opened(opening))
        details = msgspec.structs.replace(opening.details, rework_of=incident)
        return msgspec.structs.replace(opening, details=details)

    async def incident_of(self, run: Deployment) -> str | None:
        """The incident that was open when the run started, if it deploys anything."""
        if run.environment is None or run.operation in NON_MUTATING_OPERATIONS:
            return None
        state = state_scope(run.project, run.environment, run.stack)
        about = Filter(all_of=_ABOUT_INCIDENTS, until=run.started + 1)
        events = await self._read(Query(scope=state, filter=about, limit=_RECENT))
        # An incident that some readers of the run may not see would be told to them.
        visible = (each for each in events if each.groups in ((), run.groups))
        return open_incident(visible, run.started)


def _precedes(other: Deployment, run: Deployment, ended: int) -> bool:
    """Whether ``other`` left the run's environment as the run found it."""
    return (
        other.id != run.id
        and (other.stack_id, other.environment) == (run.stack_id, run.environment)
        and other.ended is not None
        and other.ended <= ended
        and other.operation not in NON_MUTATING_OPERATIONS
        # An id that some readers of the run may not see would tell them of it.
        and other.groups in ((), run.groups)
    )
