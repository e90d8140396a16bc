"""Audiences: readers at the head, to which each batch is written in one loop."""

from collections.abc import Callable
from typing import Protocol

from deploylog.events.batch import Batch
from deploylog.events.outlet import Outlet, View
from deploylog.events.ring import Ring


class Member(Protocol):
    """A reader in an audience."""

    def wake(self) -> None:
        """Leave the audience, and read on alone."""
        ...


class Audience:
    """The readers of one ring and view that are at the same position.

    A task to wake, a message to the server and a check of its buffer for each reader cost several
    times what the write itself does. So nobody is woken: a batch is rendered once and written to
    every connection. A reader whose connection cannot take it leaves, at the position before it.
    """

    def __init__(self, ring: Ring, view: View, position: int) -> None:
        self.ring = ring
        self.view = view
        #: The position of every member.
        self.position = position
        self._writes: dict[Member, Callable[[bytes], bool]] = {}

    def __len__(self) -> int:
        return len(self._writes)

    def add(self, member: Member, outlet: Outlet) -> None:
        """Add a member that is at ``position``."""
        self._writes[member] = outlet.writer.write

    def discard(self, member: Member) -> None:
        """Remove a member, if it is one."""
        self._writes.pop(member, None)

    def write(self, batch: Batch, end: int) -> None:
        """Write the batch that ends at ``end`` to every member."""
        data = batch.rendered(self.view.render)
        full = [member for member, write in self._writes.items() if not write(data)]
        for member in full:
            member.wake()
        self.position = end
        self.view.sent(len(batch.events), end, len(self._writes))

    def dismiss(self) -> None:
        """Make every member leave."""
        for member in list(self._writes):
            member.wake()
