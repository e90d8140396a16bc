"""Outlets: connections that the hub writes to without waking the tasks that serve them."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from deploylog.events.batch import Batch


class Sent(Protocol):
    """Counts what streams have sent."""

    def __call__(self, events: int, position: int, readers: int = 1, /) -> None:
        """Count ``events`` that each of ``readers`` was sent, up to ``position``."""
        ...


class View(msgspec.Struct, frozen=True):
    """How batches look to some readers. Equal views give the same bytes."""

    render: Callable[[Batch], bytes]
    sent: Sent


class Writer(Protocol):
    """A connection with a limited buffer."""

    @property
    def is_full(self) -> bool:
        """Whether the buffer is full, because the client reads more slowly than it is sent to."""
        ...

    def write(self, data: bytes) -> bool:
        """Write all of ``data``, or nothing when the buffer is full or the connection closed.

        Returns whether it was written.
        """
        ...

    async def drain(self) -> None:
        """Return when the buffer is not full, or the connection is closed."""
        ...


class Outlet(msgspec.Struct, frozen=True):
    """Where a reader's batches go, and how they look there."""

    view: View
    writer: Writer
