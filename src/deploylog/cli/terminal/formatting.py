"""Events, deployments, subscriptions and the like as tables and lines of text."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from deploylog.cli.terminal.table import Column, Listing
from deploylog.cli.terminal.text import one_line, plain
from deploylog.client import (
    AttemptState,
    ChangesetState,
    DeadLetterState,
    DeploymentState,
    Facet,
    LoggedEvent,
    StackState,
    SubscriptionState,
)
from deploylog.client.models import Place

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


class Screen(Console):
    """Standard output."""

    def on_broken_pipe(self) -> None:
        """Raise the error for the command to handle; Rich would exit the process."""
        raise


def screen() -> Screen:
    """Return standard output for text, in which brackets are no markup."""
    return Screen(highlight=False, emoji=False, markup=False)


def print_lines(console: Console, lines: Iterable[Text]) -> None:
    """Print lines without wrapping them."""
    for line in lines:
        console.print(line, soft_wrap=True)


#: Characters of an id that a table shows; commands accept them in its place.
SHORT_ID = 8


def event_table(events: Iterable[tuple[LoggedEvent, Place]]) -> Listing:
    """Return a listing of one row per event."""
    listing = Listing(
        Column(name="TIME", rank=0),
        Column(name="TYPE", rank=0),
        Column(name="STACK", rank=3, wraps=True),
        Column(name="ENVIRONMENT", rank=4, wraps=True),
        Column(name="VERSION", rank=6, wraps=True),
        Column(name="WHAT", rank=2, wraps=True),
        Column(name="ACTOR", rank=5, wraps=True),
        Column(name="MESSAGE", rank=1, wraps=True),
        Column(name="DEPLOYMENT", rank=7),
    )
    for event, place in events:
        listing.add(
            render_moment(event.time), _styled(event.type), plain(place.stack),
            plain(place.environment), plain(place.version), _what_in(event, place),
            plain(event.actor), plain(event.message), plain(place.deployment)[:SHORT_ID],
        )  # fmt: skip
    return listing


def event_line(event: LoggedEvent, place: Place) -> Text:
    """Return one line: the time, the type, the place, and the message or the resource."""
    text = " ".join(plain(event.message).split())
    line = Text.assemble((render_moment(event.time), "dim"), "  ", _styled(event.type), "  ")
    if where := _where(place):
        line.append(f"{where}  ", style="bold")
    return line.append(text or _what(event))


def _where(place: Place) -> str:
    """``web 1.4.2 prod 4be37088``, as far as known."""
    parts = (place.stack, place.version, place.environment, place.deployment[:SHORT_ID])
    return " ".join(plain(part) for part in parts if part)


def deployment_table(deployments: Iterable[DeploymentState]) -> Listing:
    """Return a listing of one row per deployment."""
    listing = Listing(
        Column(name="ID", rank=0),
        Column(name="STACK", rank=0, wraps=True),
        Column(name="ENVIRONMENT", rank=1, wraps=True),
        Column(name="VERSION", rank=2, wraps=True),
        Column(name="COMMIT", rank=5),
        Column(name="STATUS", rank=0),
        Column(name="STARTED", rank=3),
        Column(name="ENDED", rank=10),
        Column(name="ACTOR", rank=4, wraps=True),
        Column(name="TOOL", rank=7, wraps=True),
        Column(name="OPERATION", rank=8, wraps=True),
        Column(name="COUNTS", rank=6),
        Column(name="PROJECT", rank=9, wraps=True),
    )
    for one in deployments:
        listing.add(
            one.id[:SHORT_ID], plain(one.stack), plain(one.environment), plain(one.version),
            _commit(one), _styled(one.status), render_moment(one.started), render_moment(one.ended),
            plain(one.actor), plain(one.tool), plain(one.operation), _counts(one),
            plain(one.project),
        )  # fmt: skip
    return listing


def _commit(one: DeploymentState) -> str:
    """The start of the first commit, if one is known."""
    return " ".join(plain(commit.sha)[:SHORT_ID] for commit in one.commits[:1])


def applying_line(one: DeploymentState) -> Text:
    """Return the line about a deployment, below the plan that it applies."""
    by = f" by {plain(one.actor)}" if one.actor else ""
    started = f" {one.id[:SHORT_ID]}{by}, started {render_moment(one.started)}: "
    return Text.assemble("Applied in deployment", started, _styled(one.status))


def current_table(deployments: Iterable[DeploymentState]) -> Listing:
    """Return a listing of what is deployed: one row per stack and environment."""
    listing = Listing(
        Column(name="STACK", rank=0, wraps=True),
        Column(name="ENVIRONMENT", rank=0, wraps=True),
        Column(name="VERSION", rank=1, wraps=True),
        Column(name="COMMIT", rank=3),
        Column(name="ACTOR", rank=2, wraps=True),
        Column(name="SINCE", rank=2),
        Column(name="OPERATION", rank=5, wraps=True),
        Column(name="ID", rank=4),
        Column(name="PROJECT", rank=6, wraps=True),
    )
    for one in sorted(deployments, key=lambda one: (one.project, one.stack, one.environment or "")):
        listing.add(
            plain(one.stack), plain(one.environment), plain(one.version),
            _commit(one), plain(one.actor),
            render_moment(one.ended), plain(one.operation), one.id[:SHORT_ID], plain(one.project),
        )  # fmt: skip
    return listing


def changeset_table(changesets: Iterable[ChangesetState]) -> Listing:
    """Return a listing of one row per change set."""
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


def facet_table(field: str, facets: Iterable[Facet]) -> Listing:
    """Return a listing of one row per value."""
    listing = Listing(Column(name=field.upper(), rank=0, wraps=True), Column(name="EVENTS", rank=0))
    for facet in facets:
        listing.add(plain(facet.value), str(facet.count))
    return listing


def stack_table(stacks: Iterable[StackState]) -> Listing:
    """Return a listing of one row per stack."""
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
    """Return a listing of one row per subscription."""
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
    """Return one line per field that has a value."""
    secrets = [f"since {render_moment(s.created)}{_until(s.expires)}" for s in one.secrets]
    shown = {
        "subscription": one.id,
        "name": one.name,
        "kind": one.kind,
        "target": one.target,
        "format": one.format,
        "about": " ".join(_subjects(one)) or "everything the owner may read",
        "filter": " ".join(_conditions(one)),
        "order": one.order,
        "state": f"{one.state}: {one.reason}" if one.reason else one.state,
        "failing since": render_moment(one.failing_since),
        "owner": one.owner,
        "created": render_moment(one.created),
        "checkpoint": f"{one.checkpoint}, {one.lag} behind",
        "pending": str(one.pending),
        "next try": render_moment(one.next_try),
        "dead letters": str(one.dead_lettered),
        "signed": ", ".join(secrets),
    }
    for name, value in shown.items():
        if value:
            yield Text(f"{name:<14}{one_line(value)}")


def _subjects(one: SubscriptionState) -> Iterator[str]:
    """Yield what a subscription is about: names, or scopes."""
    if one.project is not None:
        yield f"project={one.project}"
    yield from (f"stack={name}" for name in one.stack)
    yield from (f"environment={name}" for name in one.environment)
    yield from (f"version={version}" for version in one.version)
    yield from (f"commit={digits}" for digits in one.commit)
    yield from (f"label={name}={value}" for name, value in one.label.items())
    yield from one.scopes


def _conditions(one: SubscriptionState) -> Iterator[str]:
    """Yield the conditions of a subscription's filter, as in a query string."""
    for name, condition in one.filter.items():
        if isinstance(condition, str):
            yield f"{name}={condition}"
        elif isinstance(condition, dict):
            for field, values in condition.items():
                yield from (f"{field}!={value}" for value in values)
        else:
            yield from (f"{name}={value}" for value in condition)


def _until(expires: datetime | None) -> str:
    return f" until {render_moment(expires)}" if expires is not None else ""


def attempt_table(attempts: Iterable[AttemptState]) -> Listing:
    """Return a listing of one row per attempt."""
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


def dead_letter_table(dead_letters: Iterable[DeadLetterState]) -> Listing:
    """Return a listing of one row per dead letter."""
    listing = Listing(
        Column(name="EVENT", rank=0),
        Column(name="POSITION", rank=3),
        Column(name="TRIES", rank=4),
        Column(name="FIRST TRY", rank=2),
        Column(name="ERROR", rank=1, wraps=True),
    )
    for one in dead_letters:
        listing.add(
            plain(one.event), one.position, str(one.tries), render_moment(one.first_try),
            plain(one.error),
        )  # fmt: skip
    return listing


def deployment_line(deployment: DeploymentState) -> str:
    """Return the state of a deployment as one line."""
    stack = plain(f"{deployment.project}/{deployment.stack}")
    message = f": {plain(deployment.message)}" if deployment.message else ""
    return f"deployment {deployment.id} of {stack} is {deployment.status}{message}"


def _styled(word: str) -> Text:
    """Return ``word`` in the color of its last part, the phase."""
    return Text(plain(word), style=_STYLES.get(word.rpartition(".")[2], ""))


def _what_in(event: LoggedEvent, place: Place) -> str:
    """What the event is about, unless that is the stack itself, which has a column."""
    what = _what(event)
    return "" if what == plain(place.stack) else what


def _what(event: LoggedEvent) -> str:
    return plain(event.resourceaddress or event.resourcename or event.subject)


def render_moment(time: datetime | None) -> str:
    """Return a time such as ``2026-11-21 09:33:44Z``; empty without one."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if time is not None else ""


def _counts(deployment: DeploymentState) -> str:
    counts = deployment.counts
    shown = f"+{counts.added} ~{counts.changed} -{counts.destroyed}"
    return f"{shown} !{counts.failed}" if counts.failed else shown


def _planned(changeset: ChangesetState) -> str:
    """Count as Terraform does: a replacement adds and destroys."""
    totals = changeset.totals
    added, destroyed = totals.create + totals.replace, totals.delete + totals.replace
    return f"+{added} ~{totals.update} -{destroyed}"
