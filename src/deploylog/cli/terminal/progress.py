"""The live display of a run: what was done, what is going on, what is on its way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from deploylog.cli.terminal.formatting import plain
from deploylog.client.recorder import RunRecorder
from deploylog.events.event import NewEvent

#: The resources that are shown; more are counted.
_SHOWN = 5

_COUNTED = {"create": "added", "update": "changed", "delete": "destroyed"}

_STYLES = {"added": "green", "changed": "yellow", "destroyed": "magenta", "failed": "bold red"}


class Progress:
    """Counts what a run has done so far."""

    def __init__(self) -> None:
        """Begin with nothing done."""
        self.counts = dict.fromkeys(_STYLES, 0)
        #: What is being done to which resource: ``create aws_vpc.main``.
        self.current: list[str] = []

    def observe(self, events: Sequence[NewEvent]) -> None:
        """Take events in."""
        for event in events:
            if event.action is not None and event.resource is not None:
                self._count(event, event.action)

    def _count(self, event: NewEvent, action: str) -> None:
        resource = event.resource
        assert resource is not None
        name = f"{action} {resource.address or resource.name}"
        if event.phase == "started":
            # The display reads the list in a thread of its own: it must never see one half done.
            self.current = [*self.current, name]
        elif event.phase in ("completed", "failed"):
            self.current = [other for other in self.current if other != name]
            counted = "failed" if event.phase == "failed" else _COUNTED.get(action)
            if counted is not None:
                self.counts[counted] += 1


def render_progress(progress: Progress, waiting: int) -> Group:
    """The display: a line of counts, and a line for each of the first current resources."""
    counts = Text("  ").join(
        Text(f"{count} {name}", style=_STYLES[name] if count else "dim")
        for name, count in progress.counts.items()
    )
    if waiting:
        counts.append(f"  {waiting} waiting to be sent", style="yellow")
    current = progress.current
    lines = [Text(f"  {plain(name)}", style="cyan") for name in current[:_SHOWN]]
    if len(current) > _SHOWN:
        lines.append(Text(f"  and {len(current) - _SHOWN} more", style="dim"))
    return Group(counts, *lines)


@contextmanager
def shown_progress(progress: Progress, feed: RunRecorder) -> Iterator[Console]:
    """Show it on standard error while the block runs; the console prints above it."""
    console = Console(stderr=True, highlight=False, emoji=False)
    live = Live(
        get_renderable=lambda: render_progress(progress, feed.waiting),
        console=console,
        refresh_per_second=8,
        transient=True,
        redirect_stdout=False,
    )
    with live:
        yield console
