"""The stream of a browser: not what happened, but where, so that its pages read what they show."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import msgspec

from deploylog.api.http.event_stream import HEADERS, EventStream, Frames
from deploylog.events.batch import Batch, Gap
from deploylog.events.filters import EVERYTHING
from deploylog.events.hub import Reader
from deploylog.events.scope import ROOT
from deploylog.ui.headers import SECURITY_HEADERS
from deploylog.ui.page import View

#: Scopes that one hint names; with more, every page looks.
_MAX_SCOPES = 100

#: An event and not a comment, so that scripts notice when the connection is dead.
_ALIVE = b"event: alive\ndata: 1\n\n"

_GAP = b"event: gap\ndata: 1\n\n"


class HintFrames(Frames):
    """Renders a hint for each batch: the scopes in which something happened."""

    def __init__(self) -> None:
        secured = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
        super().__init__(
            event=lambda event: b"",
            gap=_render_gap,
            heartbeat=_ALIVE,
            headers=(*HEADERS, *secured),
        )
        self.is_uniform = False

    def of(self, batch: Batch) -> Iterable[bytes]:
        if batch.gap is not None:
            yield _GAP
        yield batch.rendered(render_hint) if batch.events else self.heartbeat


def render_hint(batch: Batch) -> bytes:
    """One frame for all events of the batch; its id is the last one's."""
    scopes = sorted({str(scope) for event in batch.events for scope in event.scopes})
    shown = scopes if len(scopes) <= _MAX_SCOPES else [""]
    return b"id: %b\ndata: %b\n\n" % (batch.events[-1].id.encode(), msgspec.json.encode(shown))


def _render_gap(gap: Gap) -> bytes:
    return _GAP


_FRAMES = HintFrames()


#: Ends what is followed when its session ends.
Ending = Callable[[AbstractContextManager[Reader]], AbstractContextManager[Reader]]


async def open_stream(view: View, after: str | None, *, ending: Ending) -> EventStream:
    """Hints of everything that the person may see, after event ``after`` or from now on."""
    events = view.services.events
    if after:
        start = await events.start_after(view.principal, after)
    else:
        start = await events.start_now()
    return EventStream(
        ending(events.follow(view.principal, scope=ROOT, filter=EVERYTHING, start=start)),
        _FRAMES,
        gap=start.gap,
        sent=view.services.sent,
    )
