"""DORA's metrics for principals: of the deployments that they may see, and no others."""

from collections.abc import Sequence

from deploylog.deployments.dora import Dora, Incident, Measurement, Window
from deploylog.deployments.filters import Names
from deploylog.deployments.incidents import INCIDENT_STARTS, incident_scope
from deploylog.deployments.production import ProductionRule
from deploylog.deployments.service import DeploymentService
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
        deployments: DeploymentService,
        catalog: Catalog,
        rule: ProductionRule,
    ) -> None:
        self._events = events
        self._deployments = deployments
        self._catalog = catalog
        self._rule = rule

    async def measure(self, principal: Principal, names: Names, window: Window) -> Dora:
        """The metrics of what ``names`` select; raises StackNotFound, Forbidden or InvalidFilter.

        It reads all that ever ended there: see ``Measurement``.
        """
        where = await self._deployments.resolve(principal, names)
        measurement = Measurement(window, self._rule)
        before = None
        while True:
            page = await self._catalog.outcomes(
                principal.visibility, where=where, before=before, limit=_PAGE,
                caller=principal.identity,
            )  # fmt: skip
            measurement.add(page)
            if len(page) < _PAGE:
                return measurement.dora(await self._began(principal, measurement.incidents))
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
