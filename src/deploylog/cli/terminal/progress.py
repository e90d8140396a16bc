"""The live display of a run: changes done, changes running, and events not yet sent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from deploylog.cli.terminal.text import plain
from deploylog.client.recorder import RunRecorder
from deploylog.events.event import NewEvent

#: Running changes to list; the others are counted.
_MAX_LISTED = 5

_COUNTED = {"create": "added", "update": "changed", "delete": "destroyed"}

_STYLES = {"added": "green", "changed": "yellow", "destroyed": "magenta", "failed": "bold red"}


class Progress:
    """Counts the events and the changes of a run."""

    def __init__(self) -> None:
        self.events = 0
        self.counts = dict.fromkeys(_STYLES, 0)
        #: The running changes, such as ``create aws_vpc.main``.
        self.current: list[str] = []

    def observe(self, events: Sequence[NewEvent]) -> None:
        self.events += len(events)
        for event in events:
            if event.action is not None and event.resource is not None:
                self._count(event, event.action)

    def _count(self, event: NewEvent, action: str) -> None:
        resource = event.resource
        assert resource is not None
        name = f"{action} {resource.address or resource.name}"
        if event.phase == "started":
            # The display reads the list in a thread of its own, so it is replaced, never modified.
            self.current = [*self.current, name]
        elif event.phase in ("completed", "failed"):
            self.current = [other for other in self.current if other != name]
            counted = "failed" if event.phase == "failed" else _COUNTED.get(action)
            if counted is not None:
                self.counts[counted] += 1


def summary(progress: Progress) -> str:
    """Return what was sent: ``12 events, 2 added``."""
    changes = (f"{count} {name}" for name, count in progress.counts.items() if count)
    return ", ".join([_event_count(progress), *changes])


def _event_count(progress: Progress) -> str:
    return f"{progress.events} event" + ("" if progress.events == 1 else "s")


def _change_counts(progress: Progress) -> Text:
    return Text("  ").join(
        Text(f"{count} {name}", style=_STYLES[name] if count else "dim")
        for name, count in progress.counts.items()
    )


def render_progress(progress: Progress, pending: int, *, has_changes: bool = True) -> Group:
    """Render a line of counts, and a line for each of the first running changes.

    ``has_changes`` is whether the tool reports changes of resources; else its events are counted.
    """
    counts = _change_counts(progress) if has_changes else Text(_event_count(progress), style="dim")
    if pending:
        counts.append(f"  {pending} waiting to be sent", style="yellow")
    current = progress.current
    lines = [Text(f"  {plain(name)}", style="cyan") for name in current[:_MAX_LISTED]]
    if len(current) > _MAX_LISTED:
        lines.append(Text(f"  and {len(current) - _MAX_LISTED} more", style="dim"))
    return Group(counts, *lines)


@contextmanager
def live_progress(progress: Progress, recorder: RunRecorder) -> Iterator[Console]:
    """Show progress on standard error while the block runs; the console prints above it."""
    console = Console(stderr=True, highlight=False, emoji=False)
    live = Live(
        get_renderable=lambda: render_progress(
            progress, recorder.pending, has_changes=recorder.reports_resources
        ),
        console=console,
        refresh_per_second=8,
        transient=True,
        redirect_stdout=False,
    )
    with live:
        yield console
