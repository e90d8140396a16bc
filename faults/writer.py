"""A process that appends numbered events to a store, beside others that do the same.

The arguments are the URL of the store, the number of the writer, how many events, how many a
batch, and the protection to take out, or ``-``.
"""

import asyncio
import sys
import time

import uvloop

from deploylog.errors import StoreUnavailable
from deploylog.events.event import NewEvent
from deploylog.events.scope import scope
from deploylog.events.store import EventLog
from deploylog.store import open_store
from faults.unobserved import Unobserved
from faults.weakened import PROTECTIONS

#: Batches on their way at once.
_IN_FLIGHT = 4

_PAUSE_SECONDS = 0.05


def event(writer: int, number: int) -> NewEvent:
    """The event with this number."""
    return NewEvent(
        type="order.test",
        source="order",
        scopes=(scope("project", "order"),),
        time=time.time_ns(),
        producer_id=f"{writer}/{number}",
        actor=f"writer-{writer}",
        subject=str(number),
    )


async def write(url: str, writer: int, events: int, batch: int) -> None:
    """Append all events; those of each lane are in order."""
    async with open_store(url, observer=Unobserved()) as store:
        starts = iter(range(0, events, batch))

        async def lane() -> None:
            for start in starts:
                numbers = range(start, min(start + batch, events))
                await _append(store.log, [event(writer, number) for number in numbers])

        await asyncio.gather(*(lane() for _ in range(_IN_FLIGHT)))


async def _append(log: EventLog, events: list[NewEvent]) -> None:
    while True:
        try:
            await log.append(events)
        except StoreUnavailable:
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


if __name__ == "__main__":
    url, writer, events, batch, without = sys.argv[1:]
    if without in PROTECTIONS:
        PROTECTIONS[without]()
    uvloop.run(write(url, int(writer), int(events), int(batch)))
