"""Events as a file to save: NDJSON for programs, CSV for spreadsheets."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable

from starlette.responses import StreamingResponse

from deploylog.api.native.wire import render_one
from deploylog.events.event import Event
from deploylog.events.store import Page
from deploylog.events.times import render_time
from deploylog.ui.headers import PAGE_HEADERS
from deploylog.ui.timeline import address_of

COLUMNS = ("time", "type", "source", "actor", "resource", "message", "scope", "id")

#: What makes a spreadsheet take a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def ndjson(pages: AsyncIterator[Page]) -> StreamingResponse:
    """Each event as the native API gives it, one a line."""
    return _file(pages, "events.ndjson", "application/x-ndjson", render_lines)


def csv_table(pages: AsyncIterator[Page]) -> StreamingResponse:
    """The events' main fields as a table."""
    return _file(pages, "events.csv", "text/csv; charset=utf-8", render_rows, head=_rows([COLUMNS]))


def render_lines(events: Iterable[Event]) -> bytes:
    """The lines of some events."""
    return b"".join(render_one(event) + b"\n" for event in events)


def render_rows(events: Iterable[Event]) -> bytes:
    """The rows of some events."""
    return _rows(
        (
            render_time(event.time),
            event.type,
            event.source,
            event.actor or "",
            address_of(event.resource) if event.resource is not None else "",
            event.message or "",
            event.scopes[0],
            event.id,
        )
        for event in events
    )


def _rows(rows: Iterable[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([_as_text(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _as_text(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _file(
    pages: AsyncIterator[Page],
    name: str,
    media: str,
    render: Callable[[Iterable[Event]], bytes],
    *,
    head: bytes = b"",
) -> StreamingResponse:
    async def content() -> AsyncIterator[bytes]:
        yield head
        async for page in pages:
            yield render(page)

    headers = {**PAGE_HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(content(), media_type=media, headers=headers)
