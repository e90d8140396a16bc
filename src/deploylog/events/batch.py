"""What a stream sends: events in order, and the gaps between them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from deploylog.events.event import Event


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Events after position ``after`` that are no longer available, up to ``floor``."""

    after: int
    floor: int
    reason: Literal["expired", "unknown", "damaged"]


class Batch:
    """Events in order, to be sent together; an empty batch is a heartbeat."""

    def __init__(
        self, events: Sequence[Event] = (), gap: Gap | None = None, *, size: int = 0
    ) -> None:
        """``gap`` precedes ``events``, which take about ``size`` bytes."""
        self.events = events
        self.gap = gap
        self.size = size
        self._frames: dict[Callable[[Event], bytes], list[bytes]] = {}
        self._joined: dict[Callable[[Event], bytes], bytes] = {}
        self._rendered: dict[Callable[[Batch], bytes], bytes] = {}

    def frames(self, render: Callable[[Event], bytes]) -> Iterator[bytes]:
        """Render the events one by one, each once for all readers that share this batch."""
        rendered = self._frames.setdefault(render, [])
        for number, event in enumerate(self.events):
            if number == len(rendered):
                rendered.append(render(event))
            yield rendered[number]

    def joined(self, render: Callable[[Event], bytes]) -> bytes:
        """The frames in one piece."""
        joined = self._joined.get(render)
        if joined is None:
            joined = self._joined[render] = b"".join(self.frames(render))
        return joined

    def rendered(self, render: Callable[["Batch"], bytes]) -> bytes:
        """What ``render`` makes of the batch, once for all readers that share it."""
        rendered = self._rendered.get(render)
        if rendered is None:
            rendered = self._rendered[render] = render(self)
        return rendered

    def after(self, position: int) -> "Batch":
        """The events after ``position``."""
        events = [event for event in self.events if event.position > position]
        size = self.size * len(events) // len(self.events) if self.events else 0
        return Batch(events, size=size)
