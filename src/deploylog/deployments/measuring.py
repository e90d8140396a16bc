"""DORA's metrics for principals: of the deployments that they may see, and no others."""

from deploylog.deployments.dora import Dora, Measurement, Window
from deploylog.deployments.filters import Names
from deploylog.deployments.production import ProductionRule
from deploylog.deployments.service import DeploymentService
from deploylog.deployments.store import Catalog
from deploylog.events.access import Principal

#: Outcomes that are in memory at once.
_PAGE = 1_000


class DoraService:
    """Measures how deployments went."""

    def __init__(
        self, deployments: DeploymentService, catalog: Catalog, rule: ProductionRule
    ) -> None:
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
                return measurement.dora()
            before = page[-1]
