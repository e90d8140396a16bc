"""What the demo shows in the end, as tables, and what must be right about it."""

import re
from collections.abc import Mapping, Sequence

from receiver import Receiver
from rich.table import Table
from rich.text import Text

from deploylog.client import DeploymentState


class DemoFailed(Exception):
    """A result of the demo is wrong."""


def counts_in(pattern: re.Pattern[str], line: str) -> tuple[int, ...]:
    """Return the counts of a summary line."""
    [counts] = pattern.findall(line)
    return tuple(map(int, counts))


def table_of(*columns: str) -> Table:
    """Create a plain table whose last column wraps on a narrow terminal."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    return table


def rfs_table(events: Sequence[Mapping[str, str]]) -> Table:
    """Return a table of RFS events."""
    table = table_of("time", "event_type", "resource", "event_message")
    for event in events:
        message = Text(event["event_message"])
        table.add_row(event["time"], event["event_type"], Text(rfs_resource(event)), message)
    return table


def rfs_resource(event: Mapping[str, str]) -> str:
    """Return ``name[key]``, or an empty string."""
    key = event.get("resource_key")
    return f"{event.get('resource_name', '')}{f'[{key}]' if key is not None else ''}"


def deployment_table(
    deployments: Sequence[DeploymentState], summaries: Sequence[tuple[int, ...]]
) -> Table:
    """Return a table of deployments, with the counts of Terraform's summary."""
    table = table_of("deployment", "state", "took", "counted", "Terraform's")
    for one, summary in zip(deployments, summaries, strict=False):
        style = "green" if one.status == "completed" else "bold red"
        table.add_row(
            one.id, Text(one.status, style=style), took(one),
            render_counts(counted(one)), render_counts(summary),
        )  # fmt: skip
    return table


def render_counts(counts: Sequence[int]) -> str:
    """Render counts with Terraform's signs."""
    return " ".join(f"{sign}{count}" for sign, count in zip("+~-", counts, strict=True))


def took(deployment: DeploymentState) -> str:
    """Return the duration of a deployment."""
    if deployment.ended is None:
        return ""
    return f"{(deployment.ended - deployment.started).total_seconds():.1f} s"


def counted(deployment: DeploymentState) -> tuple[int, ...]:
    """Return Deploylog's counts, in the order of Terraform's summary."""
    counts = deployment.counts
    return counts.added, counts.changed, counts.destroyed


def webhook_table(recorded: Sequence[str], receiver: Receiver) -> Table:
    """Return a table of the events recorded and received."""
    table = table_of("recorded", "received", "valid signature", "in order", "missing", "repeated")
    ids = receiver.ids
    table.add_row(
        str(len(recorded)), str(len(ids) + receiver.forged), str(len(ids)),
        Text("yes", style="green") if ids == list(recorded) else Text("no", style="bold red"),
        str(len(set(recorded) - set(ids))), str(len(ids) - len(set(ids))),
    )  # fmt: skip
    return table


def check_webhook(recorded: Sequence[str], receiver: Receiver) -> None:
    """Check that each event arrived once and in order, and nothing else did."""
    if receiver.forged:
        raise DemoFailed("a webhook had an invalid signature")
    if receiver.ids != list(recorded):
        raise DemoFailed("the receiver did not get each event once and in order")


def check_deployments(
    deployments: Sequence[DeploymentState], summaries: Sequence[tuple[int, ...]]
) -> None:
    """Check that all deployments completed, with Terraform's counts."""
    if [counted(one) for one in deployments] != list(summaries):
        raise DemoFailed("the counts differ from Terraform's summary")
    if any(one.status != "completed" or one.counts.failed for one in deployments):
        raise DemoFailed("a deployment did not complete")
