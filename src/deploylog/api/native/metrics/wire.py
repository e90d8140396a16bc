"""The JSON of DORA's metrics; pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from deploylog.api.native.paths import DEPLOYMENTS
from deploylog.deployments import dora
from deploylog.events.times import SECOND, Time, render_time


class DeploymentLink(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment, and the path of it."""

    id: str
    url: str


class DurationsBody(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took. Percentiles are interpolated between the nearest two values."""

    number: int
    median_seconds: float
    p75_seconds: float
    p90_seconds: float


class FigureBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric comes from. A value of it that is null is unknown."""

    #: Deployments that the metric is about.
    of: int
    #: Those of them about which enough is recorded, and their share.
    known: int
    known_share: float | None
    #: Why the value, or a part of it, is unknown.
    reason: str | None
    #: How many deployments make the value what it is, and the newest 100 of them.
    total: int
    deployments: list[DeploymentLink]


class TimesBody(FigureBody, frozen=True, kw_only=True):
    """A metric that is a time."""

    durations: DurationsBody | None


class FrequencyBody(FigureBody, frozen=True, kw_only=True):
    """How often deployments succeed."""

    per_day: float | None
    #: From one success to the next.
    between: DurationsBody | None


class RateBody(FigureBody, frozen=True, kw_only=True):
    """A metric that is the share of total in known, from 0 to 1."""

    rate: float | None


class LeftOutBody(msgspec.Struct, frozen=True, kw_only=True):
    """Ended deployments that do not count."""

    #: They say so, or their environment is not production.
    not_production: int
    #: They name no environment, and do not say where they go.
    production_unknown: int
    #: Plans, previews and the like.
    deploys_nothing: int
    destroys: int


class DoraBody(msgspec.Struct, frozen=True, kw_only=True):
    """DORA's five metrics."""

    since: Time
    until: Time
    #: Deployments to production that ended in between.
    counted: int
    left_out: LeftOutBody
    change_lead_time: TimesBody
    deployment_frequency: FrequencyBody
    failed_deployment_recovery_time: TimesBody
    change_fail_rate: RateBody
    deployment_rework_rate: RateBody


def render_dora(found: dora.Dora, *, base: str) -> DoraBody:
    """Render the metrics; ``base`` is the path that those of deployments have in front."""
    return DoraBody(
        since=render_time(found.window.since),
        until=render_time(found.window.until),
        counted=found.counted,
        left_out=LeftOutBody(**found.left_out),
        change_lead_time=_times(found.change_lead_time, base),
        deployment_frequency=FrequencyBody(
            **_figure(found.deployment_frequency, base),
            per_day=found.deployment_frequency.per_day,
            between=_durations(found.deployment_frequency.between),
        ),
        failed_deployment_recovery_time=_times(found.failed_deployment_recovery_time, base),
        change_fail_rate=_rate(found.change_fail_rate, base),
        deployment_rework_rate=_rate(found.deployment_rework_rate, base),
    )


def _times(figure: dora.Times, base: str) -> TimesBody:
    return TimesBody(**_figure(figure, base), durations=_durations(figure.durations))


def _rate(figure: dora.Rate, base: str) -> RateBody:
    return RateBody(**_figure(figure, base), rate=figure.rate)


def _figure(figure: dora.Figure, base: str) -> dict[str, Any]:
    return {
        "of": figure.of,
        "known": figure.known,
        "known_share": figure.known_share,
        "reason": figure.reason,
        "total": figure.total,
        "deployments": _links(figure.deployments, base),
    }


def _links(ids: Sequence[str], base: str) -> list[DeploymentLink]:
    return [DeploymentLink(id=id, url=f"{base}{DEPLOYMENTS}/{id}") for id in ids]


def _durations(durations: dora.Durations | None) -> DurationsBody | None:
    if durations is None:
        return None
    return DurationsBody(
        number=durations.number,
        median_seconds=durations.median / SECOND,
        p75_seconds=durations.p75 / SECOND,
        p90_seconds=durations.p90 / SECOND,
    )
