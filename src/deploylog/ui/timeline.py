"""What the events of a deployment say of its resources: who was worked on, from when until when."""

from typing import Literal

import msgspec

from deploylog.events.event import Event, Resource

State = Literal["running", "completed", "failed", "skipped", "unfinished"]

#: States by the last word of an event's type.
_ENDS: dict[str, State] = {"completed": "completed", "failed": "failed", "skipped": "skipped"}

#: Errors and warnings that a page shows.
MAX_DIAGNOSTICS = 50

#: Resources that are told apart; the events of others are listed all the same.
MAX_RESOURCES = 5_000


class Bar(msgspec.Struct, kw_only=True):
    """One thing that was done to a resource. Times in ns since 1970."""

    action: str
    started: int
    ended: int | None = None
    state: State = "running"
    message: str | None = None


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """An error or a warning of the tool."""

    id: str
    time: int
    severity: str
    message: str
    address: str | None
    #: ``main.tf:12``
    source: str | None


class _Position(msgspec.Struct):
    line: int | None = None


class _Range(msgspec.Struct):
    filename: str | None = None
    start: _Position | None = None


class _Data(msgspec.Struct):
    """What is read of an event's data; every producer may send anything."""

    severity: str | None = None
    summary: str | None = None
    address: str | None = None
    action: str | None = None
    range: _Range | None = None


_NOTHING = _Data()


class Timeline:
    """The bars of a deployment, event by event. Nothing that an event says can make it fail."""

    def __init__(self) -> None:
        #: The newest event that it knows.
        self.position = 0
        self.events = 0
        #: By address, in the order in which they began.
        self.bars: dict[str, list[Bar]] = {}
        #: The type of each resource.
        self.types: dict[str, str] = {}
        self.planned: set[str] = set()
        self.diagnostics: list[Diagnostic] = []

    def add(self, event: Event) -> None:
        """Learn from the next event of the deployment."""
        self.position = event.position
        self.events += 1
        words = event.type.split(".")
        if len(words) == 3 and words[0] == "resource" and event.resource is not None:
            self._add_phase(event, event.resource, words[1], words[2])
        elif event.type == "deployment.planned" and event.resource is not None:
            self._add_planned(event, event.resource)
        elif event.type in ("deployment.error", "deployment.log"):
            self._add_diagnostic(event)

    def _add_phase(self, event: Event, resource: Resource, action: str, phase: str) -> None:
        address = address_of(resource)
        if action == "noop" or not self._has_room(address):
            return
        self.types[address] = resource.type
        bars = self.bars.setdefault(address, [])
        bar = _last_open(bars, action)
        if bar is None:
            bar = Bar(action=action, started=max(event.time - (event.elapsed or 0), 0))
            bars.append(bar)
        if event.message is not None:
            bar.message = event.message
        if phase in _ENDS:
            bar.state = _ENDS[phase]
            # Clocks differ, and producers err: a bar never ends before it began.
            bar.ended = max(event.time, bar.started)

    def _has_room(self, address: str) -> bool:
        return address in self.bars or len(self.bars) < MAX_RESOURCES

    def _add_planned(self, event: Event, resource: Resource) -> None:
        if (
            _data_of(event).action not in (None, "noop", "read")
            and len(self.planned) < MAX_RESOURCES
        ):
            self.planned.add(address_of(resource))

    def _add_diagnostic(self, event: Event) -> None:
        data = _data_of(event)
        is_error = event.type == "deployment.error"
        if not (is_error or data.severity == "warning") or (
            len(self.diagnostics) >= MAX_DIAGNOSTICS
        ):
            return
        resource = address_of(event.resource) if event.resource is not None else None
        self.diagnostics.append(
            Diagnostic(
                id=event.id,
                time=event.time,
                severity=data.severity or "error",
                message=event.message or data.summary or event.type,
                address=data.address or resource,
                source=_source_of(data.range),
            )
        )


def address_of(resource: Resource) -> str:
    """The name under which people know a resource."""
    if resource.address:
        return resource.address
    name = f"{resource.type}.{resource.name}" if resource.name else resource.type
    return f"{name}[{resource.key}]" if resource.key is not None else name


def _last_open(bars: list[Bar], action: str) -> Bar | None:
    return next((bar for bar in reversed(bars) if bar.ended is None and bar.action == action), None)


def _data_of(event: Event) -> _Data:
    if event.data is None:
        return _NOTHING
    try:
        return msgspec.json.decode(event.data, type=_Data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _NOTHING


def _source_of(range: _Range | None) -> str | None:
    if range is None or not range.filename:
        return None
    line = range.start.line if range.start is not None else None
    return f"{range.filename}:{line}" if line is not None else range.filename
