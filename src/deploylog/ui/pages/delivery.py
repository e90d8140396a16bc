"""*Delivery*: DORA's five metrics, and the deployments that make each what it is."""

import asyncio
from collections.abc import Iterable

import msgspec

from deploylog.api.native.query_string import DEFAULT_WINDOW, Parameters, parse_place, parse_window
from deploylog.deployments.catalog import Deployment
from deploylog.deployments.dora import Dora, Figure, LeftOut, Rate, Times, Window
from deploylog.errors import DeploymentNotFound, Forbidden, InvalidFilter, StackNotFound
from deploylog.ui.page import Page, View
from deploylog.ui.places import Field, place_fields
from deploylog.ui.rendering import duration

#: Windows that the page offers.
WINDOWS = ("7d", "30d", "90d", "365d")

#: Deployments that it shows of each figure.
_SHOWN = 5

_LEFT_OUT: dict[LeftOut, str] = {
    "not_production": "not to production",
    "production_unknown": "without an environment",
    "deploys_nothing": "plans and previews",
    "destroys": "destroyed something",
}


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A metric as people read it."""

    title: str
    #: What it says: ``2.5 a day``; ``None`` is unknown.
    value: str | None
    #: What else there is to say of it.
    notes: tuple[str, ...]
    #: The newest deployments that make it what it is, and how many there are.
    deployments: tuple[Deployment, ...]
    total: int


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    fields: tuple[Field, ...]
    window: str
    windows: tuple[str, ...]
    is_filtered: bool
    period: Window | None = None
    counted: int = 0
    left_out: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    problem: str | None = None


async def load(view: View) -> Delivery:
    """The metrics of the place and the window that the query names."""
    parameters = Parameters(view.query)
    names = parse_place(parameters)
    chosen = Parameters(view.query).all("window")
    period = parse_window(parameters, now=view.now)
    parameters.done()
    window = chosen[0] if chosen else DEFAULT_WINDOW
    empty = Delivery(
        fields=await place_fields(view, names),
        window=window,
        windows=tuple(dict.fromkeys((*WINDOWS, window))),
        is_filtered=bool(names) or bool(chosen),
    )
    try:
        found = await view.services.dora.measure(view.principal, names, period)
    except (StackNotFound, InvalidFilter, Forbidden) as error:
        return msgspec.structs.replace(empty, problem=error.message)
    return msgspec.structs.replace(
        empty,
        period=period,
        counted=found.counted,
        left_out=tuple(
            f"{number:,} {_LEFT_OUT[reason]}" for reason, number in found.left_out.items() if number
        ),
        measures=tuple([await _measure(view, *each) for each in _metrics(found)]),
    )


def _metrics(found: Dora) -> Iterable[tuple[str, Figure, str | None, list[str]]]:
    """Each metric with its title, its value and its notes."""
    frequency = found.deployment_frequency
    between = (
        [f"a median of {duration(int(frequency.between.median))} from one to the next"]
        if (frequency.between is not None)
        else []
    )
    yield "Deployment frequency", frequency, _per_day(frequency.per_day), between
    yield "Change lead time", *_time(found.change_lead_time)
    yield "Change fail rate", *_rate(found.change_fail_rate)
    yield "Failed deployment recovery time", *_time(found.failed_deployment_recovery_time)
    yield "Deployment rework rate", *_rate(found.deployment_rework_rate)


def _per_day(per_day: float | None) -> str | None:
    if per_day is None:
        return None
    return f"{per_day:.1f} a day" if per_day >= 1 else f"{per_day * 7:.1f} a week"


def _time(figure: Times) -> tuple[Figure, str | None, list[str]]:
    if figure.durations is None:
        return figure, None, []
    slowest = f"a tenth took {duration(int(figure.durations.p90))} or more"
    return figure, duration(int(figure.durations.median)), ["median", slowest]


def _rate(figure: Rate) -> tuple[Figure, str | None, list[str]]:
    if figure.rate is None:
        return figure, None, []
    return figure, f"{figure.rate:.0%}", [f"{figure.total:,} of {figure.known:,}"]


async def _measure(
    view: View, title: str, figure: Figure, value: str | None, notes: list[str]
) -> Measure:
    if figure.known < figure.of:
        notes = [*notes, f"known of {figure.known:,} of {figure.of:,} deployments"]
    if figure.reason is not None:
        notes = [*notes, figure.reason]
    found = await asyncio.gather(*(_deployment(view, id) for id in figure.deployments[:_SHOWN]))
    return Measure(
        title=title,
        value=value,
        notes=tuple(notes),
        deployments=tuple(each for each in found if each is not None),
        total=figure.total,
    )


async def _deployment(view: View, id: str) -> Deployment | None:
    try:
        return await view.services.deployments.deployment(view.principal, id)
    except DeploymentNotFound:
        return None


PAGE = Page(path="delivery", template="delivery.html", load=load, navigation="Delivery")
