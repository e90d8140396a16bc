"""How events, deployments and stacks are shown to people."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploylog.client import ChangesetState, DeploymentState, LoggedEvent, StackState

#: Columns when nobody looks, such as in a file or a pipe.
_WIDE = 200

_STYLES = {
    "started": "cyan",
    "progress": "dim",
    "completed": "green",
    "failed": "bold red",
    "error": "red",
    "skipped": "yellow",
    "drift": "yellow",
    "running": "cyan",
    "staging": "cyan",
    "staged": "green",
    "drifted": "yellow",
}

# Events come from anywhere: left in, an escape sequence could rewrite what the screen says, and a
# mark of direction could turn it round.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_BREAKS = re.compile(r"[\t\n\u2028\u2029]")


def screen() -> Console:
    """Standard output."""
    # What is shown is text, not markup: brackets in a message mean nothing.
    plainly = partial(Console, highlight=False, emoji=False, markup=False)
    console = plainly()
    return console if console.is_terminal else plainly(width=_WIDE)


def print_lines(console: Console, lines: Iterable[Text]) -> None:
    """Each line as long as it is."""
    for line in lines:
        console.print(line, soft_wrap=True)


def plain(text: str | None) -> str:
    """``text`` without what would control a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text or "")


def one_line(text: str | None) -> str:
    """``text`` likewise, and in one line."""
    return _BREAKS.sub("\N{REPLACEMENT CHARACTER}", plain(text))


def event_table(events: Iterable[LoggedEvent]) -> Table:
    """Events, one a row."""
    table = _table("TIME", "TYPE", "WHAT", "ACTOR", "MESSAGE")
    for event in events:
        table.add_row(
            _time(event.time), _styled(event.type), _what(event),
            plain(event.actor), plain(event.message),
        )  # fmt: skip
    return table


def event_line(event: LoggedEvent) -> Text:
    """One event on a line of its own."""
    said = " ".join(plain(event.message).split())
    line = Text.assemble((_time(event.time), "dim"), "  ", _styled(event.type), "  ", said)
    return line if said else line.append(_what(event))


def deployment_table(deployments: Iterable[DeploymentState]) -> Table:
    """Deployments, one a row."""
    table = _table(
        "DEPLOYMENT",
        "PROJECT",
        "STACK",
        "STATUS",
        "STARTED",
        "ENDED",
        "OPERATION",
        "ACTOR",
        "COUNTS",
    )
    for one in deployments:
        table.add_row(
            one.id, plain(one.project), plain(one.stack), _styled(one.status),
            _time(one.started), _time(one.ended), plain(one.operation), plain(one.actor),
            _counts(one),
        )  # fmt: skip
    return table


def changeset_table(changesets: Iterable[ChangesetState]) -> Table:
    """Change sets, one a row."""
    table = _table(
        "CHANGE SET", "PROJECT", "STACK", "STATUS", "STAGED", "ACTOR", "LOCATION", "PLAN"
    )
    for one in changesets:
        table.add_row(
            one.id, plain(one.project), plain(one.stack), _styled(one.status), _time(one.created),
            plain(one.actor), plain(one.location), _planned(one),
        )  # fmt: skip
    return table


def stack_table(stacks: Iterable[StackState]) -> Table:
    """Stacks, one a row."""
    table = _table("PROJECT", "STACK", "CREATED", "DELETED", "ID")
    for stack in stacks:
        table.add_row(
            plain(stack.project), plain(stack.name),
            _time(stack.created), _time(stack.deleted), stack.id,
        )  # fmt: skip
    return table


def deployment_line(deployment: DeploymentState) -> str:
    """How a deployment stands, in one line."""
    stack = plain(f"{deployment.project}/{deployment.stack}")
    message = f": {plain(deployment.message)}" if deployment.message else ""
    return f"deployment {deployment.id} of {stack} is {deployment.status}{message}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    table.columns[0].no_wrap = True
    return table


def _styled(word: str) -> Text:
    """``word`` in the colour of its phase, its last part."""
    return Text(plain(word), style=_STYLES.get(word.rpartition(".")[2], ""))


def _what(event: LoggedEvent) -> str:
    return plain(event.resourceaddress or event.resourcename or event.subject)


def _time(time: datetime | None) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if time is not None else ""


def _counts(deployment: DeploymentState) -> str:
    counts = deployment.counts
    shown = f"+{counts.added} ~{counts.changed} -{counts.destroyed}"
    return f"{shown} !{counts.failed}" if counts.failed else shown


def _planned(changeset: ChangesetState) -> str:
    """As Terraform counts: who replaces adds and destroys."""
    totals = changeset.totals
    added, destroyed = totals.create + totals.replace, totals.delete + totals.replace
    return f"+{added} ~{totals.update} -{destroyed}"
