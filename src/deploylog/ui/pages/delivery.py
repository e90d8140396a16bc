"""*Delivery*: DORA's five metrics, and the deployments that make each what it is."""

import asyncio

import msgspec

from deploylog.api.native.query_string import DEFAULT_WINDOW, Parameters, parse_place, parse_window
from deploylog.deployments.catalog import Deployment
from deploylog.deployments.dora import LeftOut, Window
from deploylog.errors import DeploymentNotFound, Forbidden, InvalidFilter, StackNotFound
from deploylog.ui.page import Page, View
from deploylog.ui.places import Field, place_fields
from deploylog.ui.readings import WINDOWS, Reading, readings

#: Deployments that it shows of each figure.
_SHOWN = 5

_LEFT_OUT: dict[LeftOut, str] = {
    "not_production": "not to production",
    "production_unknown": "without an environment",
    "deploys_nothing": "plans and previews",
    "destroys": "destroyed something",
}


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A metric, and where it comes from."""

    reading: Reading
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
        measures=tuple([await _measure(view, each) for each in readings(found)]),
    )


async def _measure(view: View, reading: Reading) -> Measure:
    figure = reading.figure
    found = await asyncio.gather(*(_deployment(view, id) for id in figure.deployments[:_SHOWN]))
    return Measure(
        reading=reading,
        deployments=tuple(each for each in found if each is not None),
        total=figure.total,
    )


async def _deployment(view: View, id: str) -> Deployment | None:
    try:
        return await view.services.deployments.deployment(view.principal, id)
    except DeploymentNotFound:
        return None


PAGE = Page(path="delivery", template="delivery.html", load=load, navigation="Delivery")
