"""How events, deployments and stacks are shown to people."""

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.text import Text

from deploylog.cli.terminal.table import Column, Listing
from deploylog.client import (
    AttemptState,
    ChangesetState,
    DeadLetterState,
    DeploymentState,
    LoggedEvent,
    StackState,
    SubscriptionState,
)

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
    "active": "green",
    "delivered": "green",
    "failing": "bold red",
    "disabled": "bold red",
    "dead_lettered": "bold red",
    "paused": "yellow",
}

# Events come from anywhere: left in, an escape sequence could rewrite what the screen says, and a
# mark of direction could turn it round.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_BREAKS = re.compile(r"[\t\n\u2028\u2029]")


class Screen(Console):
    """Standard output."""

    def on_broken_pipe(self) -> None:
        """Leave it to the command: Rich would end the process."""
        raise


def screen() -> Screen:
    """Standard output, for text."""
    # What is shown is text, not markup: brackets in a message mean nothing.
    return Screen(highlight=False, emoji=False, markup=False)


def print_lines(console: Console, lines: Iterable[Text]) -> None:
    """Each line as long as it is."""
    for line in lines:
        console.print(line, soft_wrap=True)


def print_json_lines(values: Iterable[object]) -> None:
    """Print each value as a line of JSON."""
    sys.stdout.writelines(f"{msgspec.json.encode(value).decode()}\n" for value in values)


def plain(text: str | None) -> str:
    """``text`` without what would control a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text or "")


def one_line(text: str | None) -> str:
    """``text`` likewise, and in one line."""
    return _BREAKS.sub("\N{REPLACEMENT CHARACTER}", plain(text))


def event_table(events: Iterable[LoggedEvent]) -> Listing:
    """Events, one a row."""
    listing = Listing(
        Column(name="TIME", rank=0),
        Column(name="TYPE", rank=0),
        Column(name="WHAT", rank=2, wraps=True),
        Column(name="ACTOR", rank=3, wraps=True),
        Column(name="MESSAGE", rank=1, wraps=True),
    )
    for event in events:
        listing.add(
            render_moment(event.time), _styled(event.type), _what(event),
            plain(event.actor), plain(event.message),
        )  # fmt: skip
    return listing


def event_line(event: LoggedEvent) -> Text:
    """One event on a line of its own."""
    said = " ".join(plain(event.message).split())
    line = Text.assemble((render_moment(event.time), "dim"), "  ", _styled(event.type), "  ", said)
    return line if said else line.append(_what(event))


def deployment_table(deployments: Iterable[DeploymentState]) -> Listing:
    """Deployments, one a row."""
    listing = Listing(
        Column(name="DEPLOYMENT", rank=0),
        Column(name="PROJECT", rank=3, wraps=True),
        Column(name="STACK", rank=2, wraps=True),
        Column(name="STATUS", rank=1),
        Column(name="STARTED", rank=5),
        Column(name="ENDED", rank=8),
        Column(name="OPERATION", rank=6, wraps=True),
        Column(name="ACTOR", rank=7, wraps=True),
        Column(name="COUNTS", rank=4),
    )
    for one in deployments:
        listing.add(
            one.id, plain(one.project), plain(one.stack), _styled(one.status),
            render_moment(one.started), render_moment(one.ended), plain(one.operation),
            plain(one.actor), _counts(one),
        )  # fmt: skip
    return listing


def changeset_table(changesets: Iterable[ChangesetState]) -> Listing:
    """Change sets, one a row."""
    listing = Listing(
        Column(name="CHANGE SET", rank=0),
        Column(name="PROJECT", rank=3, wraps=True),
        Column(name="STACK", rank=2, wraps=True),
        Column(name="STATUS", rank=1),
        Column(name="STAGED", rank=5),
        Column(name="ACTOR", rank=6, wraps=True),
        Column(name="LOCATION", rank=7, wraps=True),
        Column(name="PLAN", rank=4),
    )
    for one in changesets:
        listing.add(
            one.id, plain(one.project), plain(one.stack), _styled(one.status),
            render_moment(one.created), plain(one.actor), plain(one.location), _planned(one),
        )  # fmt: skip
    return listing


def stack_table(stacks: Iterable[StackState]) -> Listing:
    """Stacks, one a row."""
    listing = Listing(
        Column(name="PROJECT", rank=2, wraps=True),
        Column(name="STACK", rank=1, wraps=True),
        Column(name="CREATED", rank=4),
        Column(name="DELETED", rank=3),
        Column(name="ID", rank=0),
    )
    for stack in stacks:
        listing.add(
            plain(stack.project), plain(stack.name),
            render_moment(stack.created), render_moment(stack.deleted), stack.id,
        )  # fmt: skip
    return listing


def subscription_table(subscriptions: Iterable[SubscriptionState]) -> Listing:
    """Subscriptions, one a row."""
    listing = Listing(
        Column(name="SUBSCRIPTION", rank=0),
        Column(name="NAME", rank=2, wraps=True),
        Column(name="STATE", rank=1),
        Column(name="TARGET", rank=3, wraps=True),
        Column(name="OWNER", rank=7, wraps=True),
        Column(name="LAG", rank=4),
        Column(name="PENDING", rank=6),
        Column(name="DEAD LETTERS", rank=5),
    )
    for one in subscriptions:
        listing.add(
            one.id, plain(one.name), _styled(one.state), plain(one.target), plain(one.owner),
            str(one.lag), str(one.pending), str(one.dead_lettered),
        )  # fmt: skip
    return listing


def subscription_lines(one: SubscriptionState) -> Iterable[Text]:
    """A subscription, one thing a line."""
    filter = " ".join(f"{name}={value}" for name in one.filter for value in one.filter[name])
    secrets = [f"since {render_moment(s.created)}{_until(s.expires)}" for s in one.secrets]
    shown = {
        "subscription": one.id,
        "name": one.name,
        "target": f"{one.kind} {one.target}" if one.kind == "webhook" else one.target,
        "format": one.format,
        "scopes": " ".join(one.scopes) or "all that the owner may see",
        "filter": filter,
        "order": one.order,
        "state": f"{one.state}: {one.reason}" if one.reason else one.state,
        "failing since": render_moment(one.failing_since),
        "owner": one.owner,
        "created": render_moment(one.created),
        "checkpoint": f"{one.checkpoint}, {one.lag} behind",
        "pending": str(one.pending),
        "next try": render_moment(one.next_try),
        "dead_lettered": str(one.dead_lettered),
        "signed": ", ".join(secrets),
    }
    for name, value in shown.items():
        if value:
            yield Text(f"{name:<14}{one_line(value)}")


def _until(expires: datetime | None) -> str:
    return f" until {render_moment(expires)}" if expires is not None else ""


def attempt_table(attempts: Iterable[AttemptState]) -> Listing:
    """Attempts, one a row."""
    listing = Listing(
        Column(name="STARTED", rank=2),
        Column(name="EVENT", rank=0),
        Column(name="RESULT", rank=1),
        Column(name="STATUS", rank=3),
        Column(name="MS", rank=6),
        Column(name="ERROR", rank=4, wraps=True),
        Column(name="NEXT TRY", rank=5),
    )
    for one in attempts:
        status = str(one.status) if one.status is not None else ""
        listing.add(
            render_moment(one.started), plain(one.event), _styled(one.result), status,
            str(one.latency_ms), plain(one.error), render_moment(one.next_try),
        )  # fmt: skip
    return listing


def dead_letter_table(dead_lettered: Iterable[DeadLetterState]) -> Listing:
    """Events that were given up, one a row."""
    listing = Listing(
        Column(name="EVENT", rank=0),
        Column(name="POSITION", rank=3),
        Column(name="TRIES", rank=4),
        Column(name="FIRST TRY", rank=2),
        Column(name="ERROR", rank=1, wraps=True),
    )
    for one in dead_lettered:
        listing.add(
            plain(one.event), one.position, str(one.tries), render_moment(one.first_try),
            plain(one.error),
        )  # fmt: skip
    return listing


def deployment_line(deployment: DeploymentState) -> str:
    """How a deployment stands, in one line."""
    stack = plain(f"{deployment.project}/{deployment.stack}")
    message = f": {plain(deployment.message)}" if deployment.message else ""
    return f"deployment {deployment.id} of {stack} is {deployment.status}{message}"


def _styled(word: str) -> Text:
    """``word`` in the colour of its phase, its last part."""
    return Text(plain(word), style=_STYLES.get(word.rpartition(".")[2], ""))


def _what(event: LoggedEvent) -> str:
    return plain(event.resourceaddress or event.resourcename or event.subject)


def render_moment(time: datetime | None) -> str:
    """``2026-11-21 09:33:44Z``; nothing for no time."""
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
