"""``dora``: how deployments to production went."""

from typing import Annotated

import typer

from deploylog.cli import options
from deploylog.cli.application import new_app
from deploylog.cli.options import expanded
from deploylog.cli.printing import TablePrinting
from deploylog.cli.terminal.formatting import SHORT_ID, render_moment
from deploylog.cli.terminal.streams import log_line
from deploylog.cli.terminal.table import Column, Listing
from deploylog.cli.terminal.text import plain
from deploylog.client import DoraState, parse_dora
from deploylog.client.models import DurationsState, MetricState

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400

app = new_app()


@app.command()
@expanded
def dora(
    *,
    project: Annotated[
        str | None, typer.Option("--project", help="Only deployments of this project.")
    ] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option("--stack", help="Only deployments of this stack. Repeatable."),
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", help="Only deployments to this environment. Repeatable."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window", help="How long to look back, for example 12h.", show_default="30d"
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Where to start instead: RFC 3339, or a time ago."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="Where to end: RFC 3339, or a time ago.", show_default="now"),
    ] = None,
    printing: TablePrinting,
    connection: options.Connection,
) -> None:
    """Measure deployments to production by DORA's five metrics.

    What is unknown is shown as unknown, with the reason. It is best to measure one application at
    a time.

    Example: deploylog dora --project shop --stack web --window 30d
    """
    params = options.params(
        project=project, stack=stack, environment=environment, window=window,
        **{"from": since, "to": until},
    )  # fmt: skip
    found = connection.call(lambda client: client.dora(params))
    lines = printing.json_lines
    if lines is not None:
        lines.print_text(bytes(found).decode())
        return
    measured = parse_dora(found)
    printing.print_table(dora_table(measured))
    for name, metric in _metrics(measured).items():
        if metric.reason is not None:
            print(f"{name}: {plain(metric.reason)}")
    log_line(_counted(measured))


def dora_table(found: DoraState) -> Listing:
    """Return a listing of one row per metric."""
    listing = Listing(
        Column(name="METRIC", rank=0),
        Column(name="VALUE", rank=0, wraps=True),
        Column(name="KNOWN", rank=1),
        Column(name="DEPLOYMENTS", rank=2, wraps=True),
    )
    for name, metric in _metrics(found).items():
        known = f"{metric.known} of {metric.of}"
        listing.add(name, _value(metric) or "unknown", known, plain(_ids(metric)))
    return listing


def _metrics(found: DoraState) -> dict[str, MetricState]:
    return {
        "change lead time": found.change_lead_time,
        "deployment frequency": found.deployment_frequency,
        "failed deployment recovery time": found.failed_deployment_recovery_time,
        "change fail rate": found.change_fail_rate,
        "deployment rework rate": found.deployment_rework_rate,
    }


def _value(metric: MetricState) -> str:
    """Return the value of any metric; empty if it is unknown."""
    return _time(metric.durations) or _often(metric) or _share(metric)


def _ids(metric: MetricState) -> str:
    ids = [link.id[:SHORT_ID] for link in metric.deployments[:_SHOWN]]
    more = [f"+{metric.total - _SHOWN}"] if metric.total > _SHOWN else []
    return " ".join([*ids, *more])


#: Ids of deployments in a row.
_SHOWN = 3


def _counted(found: DoraState) -> str:
    left_out = [
        f"{number} {name.replace('_', ' ')}" for name, number in found.left_out.items() if number
    ]
    between = f"{render_moment(found.since)} to {render_moment(found.until)}"
    counted = f"{between}: {found.counted} deployments counted"
    return f"{counted}; left out: {', '.join(left_out)}" if left_out else counted


def _time(durations: DurationsState | None) -> str:
    if durations is None:
        return ""
    median, p90 = render_duration(durations.median_seconds), render_duration(durations.p90_seconds)
    return f"median {median}, p90 {p90}" if durations.number > 1 else median


def _often(metric: MetricState) -> str:
    if metric.per_day is None:
        return ""
    between = f", median {render_duration(metric.between.median_seconds)}" if metric.between else ""
    return (
        f"{metric.per_day:.3g} a day{between} apart" if between else f"{metric.per_day:.3g} a day"
    )


def _share(metric: MetricState) -> str:
    if metric.rate is None:
        return ""
    return f"{metric.rate:.1%}: {metric.total} of {metric.known}"


def render_duration(seconds: float) -> str:
    """Return a duration such as ``45s``, ``12m 30s``, ``3h 5m`` or ``2d 4h``."""
    whole = round(seconds)
    for unit, next_unit in ((_DAY, _HOUR), (_HOUR, _MINUTE), (_MINUTE, 1)):
        if whole >= unit:
            rest = whole % unit // next_unit
            names = {_DAY: "d", _HOUR: "h", _MINUTE: "m", 1: "s"}
            tail = f" {rest}{names[next_unit]}" if rest else ""
            return f"{whole // unit}{names[unit]}{tail}"
    return f"{seconds:.3g}s"
