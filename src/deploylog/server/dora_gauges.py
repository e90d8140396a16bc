"""DORA's metrics of chosen places, as gauges."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import unquote

import msgspec
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from deploylog.deployments.dora import Dora, Durations, Figure, Window
from deploylog.deployments.filters import Names
from deploylog.deployments.measuring import DoraService
from deploylog.errors import DeploylogError, InvalidInput, InvalidSettings
from deploylog.events.access import Grant, Principal
from deploylog.events.scope import ROOT
from deploylog.events.times import SECOND, parse_duration

#: Seconds between two measurements of all places.
MEASURE_SECONDS = 60.0

#: Anyone may read the metrics: they count what every reader of the log may see, no group's.
_READER = Principal(name="metrics", kind="metrics", grants=(Grant("read", ROOT),))

_LOGGER = logging.getLogger(__name__)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured together; what is empty stands for all."""

    project: str
    stack: str = ""
    environment: str = ""

    @property
    def names(self) -> Names:
        return Names(
            project=self.project,
            stacks=(self.stack,) if self.stack else (),
            environments=(self.environment,) if self.environment else (),
        )


def parse_places(text: str) -> tuple[Place, ...]:
    """Parse ``shop/web/prod,shop/api``; raises InvalidSettings."""
    return tuple(_parse_place(part.strip()) for part in text.split(",") if part.strip())


def _parse_place(text: str) -> Place:
    names = [unquote(name) for name in text.split("/")]
    if not names[0] or len(names) > 3:
        raise InvalidSettings(f"dora_places: {text!r} is not PROJECT/STACK/ENVIRONMENT")
    return Place(**dict(zip(("project", "stack", "environment"), names, strict=False)))


def parse_window_setting(text: str) -> int:
    """Parse the length of the window to ns; raises InvalidSettings."""
    try:
        return parse_duration(text)
    except InvalidInput as error:
        raise InvalidSettings(f"dora_window: {error.message}") from error


class DoraGauges(Collector):
    """The newest measurement of each place. What is unknown has no value."""

    def __init__(self) -> None:
        self.measured: Mapping[Place, Dora] = {}

    def collect(self) -> Iterable[Metric]:
        """What a scrape sees."""
        for name, help, values in _GAUGES:
            family = GaugeMetricFamily(f"deploylog_dora_{name}", help, labels=_LABELS)
            for place, dora in self.measured.items():
                for label, value in values(dora).items():
                    if value is not None:
                        family.add_metric([*msgspec.structs.astuple(place), label], value)
            yield family


_LABELS = ("project", "stack", "environment", "of")

#: By the value of the label ``of``.
_Values = dict[str, float | None]


def _quantiles(durations: Durations | None) -> _Values:
    if durations is None:
        return {}
    return {
        "median": durations.median / SECOND,
        "p75": durations.p75 / SECOND,
        "p90": durations.p90 / SECOND,
    }


def _known(dora: Dora) -> _Values:
    figures: dict[str, Figure] = {
        "change_lead_time": dora.change_lead_time,
        "deployment_frequency": dora.deployment_frequency,
        "failed_deployment_recovery_time": dora.failed_deployment_recovery_time,
        "change_fail_rate": dora.change_fail_rate,
        "deployment_rework_rate": dora.deployment_rework_rate,
    }
    return {name: figure.known_share for name, figure in figures.items()}


_GAUGES: tuple[tuple[str, str, Callable[[Dora], _Values]], ...] = (
    (
        "change_lead_time_seconds",
        "From commit to deployed in production.",
        lambda dora: _quantiles(dora.change_lead_time.durations),
    ),
    (
        "deployments_per_day",
        "Successful deployments to production in a day.",
        lambda dora: {"mean": dora.deployment_frequency.per_day},
    ),
    (
        "failed_deployment_recovery_time_seconds",
        "From a deployment that needed intervention to the one that restored it.",
        lambda dora: _quantiles(dora.failed_deployment_recovery_time.durations),
    ),
    (
        "change_fail_ratio",
        "Share of deployments that needed intervention.",
        lambda dora: {"deployments": dora.change_fail_rate.rate},
    ),
    (
        "deployment_rework_ratio",
        "Share of deployments that were made necessary by an incident.",
        lambda dora: {"deployments": dora.deployment_rework_rate.rate},
    ),
    ("known_ratio", "Share of deployments about which enough is recorded.", _known),
)


@asynccontextmanager
async def measuring(
    gauges: DoraGauges,
    service: DoraService,
    *,
    places: tuple[Place, ...],
    window: int,
    clock: Callable[[], int],
) -> AsyncIterator[None]:
    """Measure the places every ``MEASURE_SECONDS`` inside the block."""

    async def measure() -> None:
        while True:
            gauges.measured = await measure_places(service, places, window=window, now=clock())
            await asyncio.sleep(MEASURE_SECONDS)

    if not places:
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(measure())
        try:
            yield
        finally:
            task.cancel()


async def measure_places(
    service: DoraService, places: Iterable[Place], *, window: int, now: int
) -> dict[Place, Dora]:
    """Measure each place; one that cannot be measured, such as an unknown stack, is left out."""
    measured = {}
    for place in places:
        span = Window(since=max(now - window, 0), until=now)
        try:
            measured[place] = await service.measure(_READER, place.names, span)
        except DeploylogError as error:
            _LOGGER.warning("cannot measure %s: %s", "/".join(_named(place)), error.message)
    return measured


def _named(place: Place) -> list[str]:
    return [name for name in msgspec.structs.astuple(place) if name]
