"""The uploader: sends what a spool holds, until the service has it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from deploylog.client import (
    Backoff,
    Client,
    ClientError,
    Jitter,
    Say,
    ServerUnreachable,
    Sleep,
)
from deploylog.client.spool import Batch, Spool
from deploylog.deployments.lifecycle import ends_deployment
from deploylog.errors import DeploylogError
from deploylog.events.cloudevents import render_new_event
from deploylog.events.event import NewEvent
from deploylog.events.times import parse_time

_T = TypeVar("_T")

#: The most that one request carries; the service takes more of both.
MAX_EVENTS = 500
MAX_BYTES = 1024 * 1024

#: A request begins at most this often, in seconds, so that a busy tool fills them.
INTERVAL = 0.02

#: The source of what the recorder itself reports.
_SOURCE = "deploylog-client"


class Undelivered(DeploylogError):
    """The server did not answer for so long that events were left in the spool."""


class Refused(DeploylogError):
    """The server refused the events for good."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Time, given from outside."""

    #: ns since 1970.
    now: Callable[[], int] = time.time_ns
    #: Seconds since whenever.
    monotonic: Callable[[], float] = time.monotonic
    sleep: Sleep = asyncio.sleep
    jitter: Jitter = random.random


class Uploader:
    """Takes a spool to the server: opens the deployment, then sends its events in order."""

    def __init__(self, client: Client, spool: Spool, *, say: Say, timing: Timing) -> None:
        """Send what is in ``spool``, and what will be."""
        #: Why it stopped before the end, if it did.
        self.failure: DeploylogError | None = None
        self._client = client
        self._spool = spool
        self._say = say
        self._timing = timing
        self._backoff = Backoff(timing.jitter)
        self._is_lost = False

    async def run(self) -> None:
        """Send until everything is acknowledged, or the server refuses something."""
        try:
            await self._send_all()
        except DeploylogError as error:
            self.failure = error
            self._spool.abandon()
            self._say(f"{error.message}; nothing more is sent")

    async def _send_all(self) -> None:
        opening = self._spool.heading.opening
        await self._persist(lambda: self._client.open_deployment(opening))
        while batch := await self._spool.next(count=MAX_EVENTS, size=MAX_BYTES):
            began = self._timing.monotonic()
            await self._send(batch)
            if batch.count < MAX_EVENTS:
                rest = began + INTERVAL - self._timing.monotonic()
                await self._timing.sleep(max(rest, 0))

    async def _send(self, batch: Batch) -> None:
        id = self._spool.heading.opening.id
        await self._persist(lambda: self._client.append(batch.body, deployment=id))
        self._spool.acknowledge(batch)

    async def _persist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """``call`` until the server answers; raises what is final."""
        while True:
            try:
                answer = await call()
            except (ServerUnreachable, ClientError) as error:
                if isinstance(error, ClientError) and not error.transient:
                    raise
                self._lost(error)
                await self._timing.sleep(self._delay(error))
            else:
                self._found()
                return answer

    def _delay(self, error: ServerUnreachable | ClientError) -> float:
        asked = error.retry_after if isinstance(error, ClientError) else None
        return max(self._backoff.next(), asked or 0.0)

    def _lost(self, error: DeploylogError) -> None:
        if not self._is_lost:
            self._say(f"{error.message}; trying again, events wait in {self._spool.path}")
        self._is_lost = True

    def _found(self) -> None:
        if self._is_lost:
            self._say(f"{self._client.server} answers again")
        self._is_lost = False
        self._backoff.reset()


class Upload:
    """A spool, and the task that empties it."""

    def __init__(self, spool: Spool, sender: Uploader, sending: asyncio.Task[None]) -> None:
        self.spool = spool
        self._sender = sender
        self._sending = sending

    async def arrive(self, patience: float) -> DeploylogError | None:
        """Wait until everything is acknowledged; say why it is not."""
        waiting = -1
        while not self._sending.done() and waiting != self.spool.waiting:
            waiting = self.spool.waiting
            await asyncio.wait([self._sending], timeout=patience)
        if self._sender.failure is not None:
            return self._stopped_by(self._sender.failure)
        if self._sending.done() and not self._sending.cancelled():
            return None
        kept = f"{_waiting(self.spool.waiting)} in {self.spool.path}"
        return Undelivered(
            f"{self.spool.heading.server} did not answer; {kept} (deploylog ingest resume sends"
            f" {_them(self.spool.waiting)})"
        )

    def _stopped_by(self, failure: DeploylogError) -> DeploylogError:
        kept = f"{_waiting(self.spool.waiting)} in {self.spool.path}"
        again = f"deploylog ingest resume tries {_them(self.spool.waiting)} once more"
        stopped = Refused if _is_refusal(failure) else DeploylogError
        return stopped(f"{failure.message}; {kept} ({again})")

    def give_up(self) -> None:
        self.spool.abandon()
        self._sending.cancel()

    async def close(self) -> None:
        self._sending.cancel()
        await asyncio.wait([self._sending])
        self.spool.close()


async def resume(
    client: Client,
    spool: Spool,
    events: Sequence[bytes],
    *,
    patience: float,
    say: Say,
    timing: Timing | None = None,
) -> DeploylogError | None:
    """Send what a process that ended has left in ``spool``; return why not all of it, if so."""
    timing = timing or Timing()
    sender = Uploader(client, spool, say=say, timing=timing)
    spool.end(_missing_end(spool, events, timing.now()))
    async with asyncio.TaskGroup() as tasks:
        way = Upload(spool, sender, tasks.create_task(sender.run()))
        try:
            failure = await way.arrive(patience)
            return _set_aside(spool, sender) if isinstance(failure, Refused) else failure
        finally:
            await way.close()


def _set_aside(spool: Spool, sender: Uploader) -> Refused:
    """Put what would be refused again where no one tries it again."""
    spool.set_aside()
    assert sender.failure is not None
    return Refused(
        f"deployment {spool.heading.opening.id} was refused: {sender.failure.message}; it is set"
        f" aside in {spool.path}, with {_counted(spool.waiting)}, and not tried again"
    )


def _is_refusal(failure: DeploylogError) -> bool:
    return isinstance(failure, ClientError) and failure.is_permanent


def _waiting(count: int) -> str:
    return f"{_counted(count)} {'waits' if count == 1 else 'wait'}"


def _counted(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


class _Line(msgspec.Struct):
    type: str
    time: str


def _missing_end(spool: Spool, events: Sequence[bytes], now: int) -> list[bytes]:
    """The end of a run that nobody saw the end of, so that its deployment does not run for ever."""
    last = msgspec.json.decode(events[-1], type=_Line) if events else None
    if last is not None and ends_deployment(last.type):
        return []
    return [
        render_new_event(
            NewEvent(
                type="deployment.failed",
                source=_SOURCE,
                scopes=(),
                # A record of long ago ends in its own time; of a run whose last line has arrived
                # nothing is known.
                time=parse_time(last.time) if last is not None else now,
                producer_id=f"{spool.heading.opening.id}/lost",
                message="Deploylog was stopped before it saw the end of the run",
            )
        )
    ]
