"""DORA's metrics as people read them; pure."""

from collections.abc import Iterable

import msgspec

from deploylog.deployments.dora import Dora, Figure, Rate, Times
from deploylog.ui.rendering import duration

#: Windows that pages offer.
WINDOWS = ("7d", "30d", "90d", "365d")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A metric: its title, and what it says."""

    #: The id of its place on the page *Delivery*.
    id: str
    title: str
    #: ``2.5 a day``; ``None`` is unknown.
    value: str | None
    #: What else there is to say of it.
    notes: tuple[str, ...]
    figure: Figure


def readings(found: Dora) -> tuple[Reading, ...]:
    """The five metrics."""
    frequency = found.deployment_frequency
    return (
        _reading("Deployment frequency", frequency, _per_day(frequency.per_day), _between(found)),
        _time("Change lead time", found.change_lead_time),
        _rate("Change fail rate", found.change_fail_rate),
        _time("Failed deployment recovery time", found.failed_deployment_recovery_time),
        _rate("Deployment rework rate", found.deployment_rework_rate),
    )


def _per_day(per_day: float | None) -> str | None:
    if per_day is None:
        return None
    return f"{per_day:.1f} a day" if per_day >= 1 else f"{per_day * 7:.1f} a week"


def _between(found: Dora) -> Iterable[str]:
    between = found.deployment_frequency.between
    if between is not None:
        yield f"a median of {duration(int(between.median))} from one to the next"


def _time(title: str, figure: Times) -> Reading:
    if figure.durations is None:
        return _reading(title, figure, None, ())
    slowest = f"a tenth took {duration(int(figure.durations.p90))} or more"
    return _reading(title, figure, duration(int(figure.durations.median)), ("median", slowest))


def _rate(title: str, figure: Rate) -> Reading:
    if figure.rate is None:
        return _reading(title, figure, None, ())
    return _reading(title, figure, f"{figure.rate:.0%}", (f"{figure.total:,} of {figure.known:,}",))


def _reading(title: str, figure: Figure, value: str | None, notes: Iterable[str]) -> Reading:
    notes = list(notes)
    if figure.known < figure.of:
        notes.append(f"known of {figure.known:,} of {figure.of:,} deployments")
    if figure.reason is not None:
        notes.append(figure.reason)
    return Reading(
        id=title.lower().replace(" ", "-"),
        title=title,
        value=value,
        notes=tuple(notes),
        figure=figure,
    )
