"""DORA's metrics for principals: of the deployments that they may see, and no others."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from deploylog.deployments.catalog import Outcome
from deploylog.deployments.dora import Dora, Incident, Measurement, Window
from deploylog.deployments.filters import DeploymentFilter, Names
from deploylog.deployments.incidents import INCIDENT_STARTS, incident_scope
from deploylog.deployments.naming import NameResolver
from deploylog.deployments.production import ProductionRule
from deploylog.deployments.store import Catalog
from deploylog.events.access import Principal
from deploylog.events.filters import Filter, any_of
from deploylog.events.service import EventService
from deploylog.events.store import Query

#: Outcomes that are in memory at once.
_PAGE = 1_000

#: Incidents whose start is looked up.
_INCIDENTS = 100

_BEGINS = Filter(all_of=(any_of("type", INCIDENT_STARTS),))


class DoraService:
    """Measures how deployments went."""

    def __init__(
        self,
        events: EventService,
        names: NameResolver,
        catalog: Catalog,
        rule: ProductionRule,
    ) -> None:
        self._events = events
        self._names = names
        self._catalog = catalog
        self._rule = rule

    async def measure(self, principal: Principal, names: Names, window: Window) -> Dora:
        """The metrics of what ``names`` select; raises StackNotFound, Forbidden or InvalidFilter.

        It reads back from now as far as the figures need: see ``Measurement``.
        """
        where = await self._names.resolve(principal, names)
        measurement = Measurement(window, self._rule)
        last = None
        async for page in self._pages(principal, where):
            measurement.add(page)
            last = page[-1]
            if not measurement.needs(last.ended):
                break
        explained = msgspec.structs.replace(where, is_explained=True)
        async for page in self._pages(principal, explained, before=last):
            if measurement.has_reports:
                break
            measurement.add(page)
        return measurement.dora(await self._began(principal, measurement.incidents))

    async def _pages(
        self, principal: Principal, where: DeploymentFilter, before: Outcome | None = None
    ) -> AsyncIterator[list[Outcome]]:
        """Yield the outcomes from new to old; no page is empty."""
        while True:
            page = await self._catalog.outcomes(
                principal.visibility, where=where, before=before, limit=_PAGE,
                caller=principal.identity,
            )  # fmt: skip
            if page:
                yield page
            if len(page) < _PAGE:
                return
            before = page[-1]

    async def _began(
        self, principal: Principal, incidents: Sequence[Incident]
    ) -> dict[Incident, int]:
        """When the newest incidents began, by the events that the principal may see."""
        found = {}
        for incident in incidents[:_INCIDENTS]:
            path = incident_scope(incident.project, incident.name)
            query = Query(scope=path, filter=_BEGINS, order="oldest", limit=1)
            for event in await self._events.page(principal, query):
                found[incident] = event.time
        return found
