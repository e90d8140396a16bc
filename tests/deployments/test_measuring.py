"""What a measurement reads: no more than its window needs."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from deploylog.deployments.catalog import Outcome
from deploylog.deployments.details import Details
from deploylog.deployments.dora import DAY, Window
from deploylog.deployments.filters import ANY, DeploymentFilter, Names
from deploylog.deployments.measuring import DoraService
from deploylog.deployments.production import parse_patterns
from deploylog.events.access import ANONYMOUS

#: Deployments of a day, over a year.
_DAILY, _DAYS = 24, 365


class Catalog:
    """Outcomes from new to old, of which it counts what is read."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes = outcomes
        self.read = 0

    async def resolve(self, principal: object, names: object) -> DeploymentFilter:
        return ANY

    async def outcomes(
        self,
        visibility: object,
        *,
        where: DeploymentFilter,
        before: Outcome | None,
        limit: int,
        caller: str,
    ) -> list[Outcome]:
        found = [
            one for one in self._outcomes
            if (before is None or one.number < before.number)
            and (one.details.rework_of is not None or not where.is_explained)
        ]  # fmt: skip
        self.read += len(found[:limit])
        return found[:limit]


def a_year(*, reported_on: int | None) -> list[Outcome]:
    numbers = range(_DAYS * _DAILY, 0, -1)
    return [
        Outcome(
            number=number, id=str(number), project="acme", stack_id="web", status="completed",
            started=number * DAY // _DAILY, ended=number * DAY // _DAILY, operation=None,
            environment="prod",
            details=Details(rework_of="INC-1" if number == reported_on else None),
        )
        for number in numbers
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reported_on", "expected"),
    [(None, 0), (5, 1), (_DAYS * _DAILY - 1, 0)],
    ids=["never", "long ago", "in the window"],
)
async def test_a_window_of_a_week_reads_a_page_and_at_most_who_reported_before(
    reported_on: int | None, expected: int
):
    catalog = Catalog(a_year(reported_on=reported_on))
    service = DoraService(
        cast("Any", None), cast("Any", catalog), cast("Any", catalog), parse_patterns("prod")
    )
    window = Window(since=(_DAYS - 7) * DAY, until=(_DAYS + 1) * DAY)

    measured = await service.measure(ANONYMOUS, Names(), window)

    assert catalog.read == 1_000 + expected
    assert (measured.change_fail_rate.rate is None) == (reported_on is None)
