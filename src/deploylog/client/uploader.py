"""The uploader: sends the events of a spool until the server has acknowledged them."""

import asyncio
from collections.abc import Sequence

import msgspec

from deploylog.client import Client, ClientError, Log, Timing
from deploylog.client.retry import FOREVER, RetryPolicy, retry
from deploylog.client.spool import Batch, Spool
from deploylog.deployments.lifecycle import ends_deployment
from deploylog.errors import DeploylogError
from deploylog.events.cloudevents import render_new_event
from deploylog.events.event import NewEvent
from deploylog.events.times import parse_time

#: The limits of one request; the server accepts more.
MAX_EVENTS = 500
MAX_BYTES = 1024 * 1024

#: Seconds between the starts of two requests, so that a busy tool fills them.
INTERVAL = 0.02

#: The source of the events that the recorder itself reports.
_SOURCE = "deploylog-client"


class Undelivered(DeploylogError):
    """The server did not respond within the retry timeout: events remain in the spool."""


class Refused(DeploylogError):
    """The server refused the events permanently."""


class Uploader:
    """Sends a spool to the server: opens the deployment, then appends its events in order."""

    def __init__(self, client: Client, spool: Spool, *, log: Log, timing: Timing) -> None:
        #: The error that stopped it before everything was acknowledged.
        self.failure: DeploylogError | None = None
        self._client = client
        self._spool = spool
        self._log = log
        self._timing = timing
        self._policy = RetryPolicy(
            FOREVER,
            timing,
            log=log,
            action=f"retrying, events are buffered in {spool.path}",
            recovery=f"{client.server} responds again",
        )

    async def run(self) -> None:
        """Send until everything is acknowledged or the server refuses a request."""
        try:
            await self._send_all()
        except DeploylogError as error:
            self.failure = error
            self._spool.abandon()
            self._log(f"{error.message}; no more events are sent")

    def announce_limit(self, seconds: float) -> None:
        """Say, if the server does not respond, for how long it is waited for."""
        self._policy.change_action(
            f"waiting up to {seconds:.0f} s for it. Ctrl-C ends that; the events remain in"
            f" {self._spool.path}"
        )

    async def _send_all(self) -> None:
        deployment = self._spool.header.deployment
        await retry(lambda: self._client.open_deployment(deployment), self._policy)
        while batch := await self._spool.next(max_events=MAX_EVENTS, max_bytes=MAX_BYTES):
            start = self._timing.monotonic()
            await self._send(batch)
            if batch.count < MAX_EVENTS:
                rest = start + INTERVAL - self._timing.monotonic()
                await self._timing.sleep(max(rest, 0))

    async def _send(self, batch: Batch) -> None:
        id = self._spool.header.deployment.id
        await retry(lambda: self._client.append(batch.body, deployment=id), self._policy)
        self._spool.acknowledge(batch)


class Upload:
    """A spool, and the task that sends it."""

    def __init__(self, spool: Spool, uploader: Uploader, task: asyncio.Task[None]) -> None:
        self.spool = spool
        self._uploader = uploader
        self._task = task

    async def wait(self, retry_timeout: float) -> DeploylogError | None:
        """Wait until everything is acknowledged; return the error if it is not.

        It gives up after ``retry_timeout`` seconds in which no event was acknowledged.
        """
        self._uploader.announce_limit(retry_timeout)
        pending = -1
        while not self._task.done() and pending != self.spool.pending:
            pending = self.spool.pending
            await asyncio.wait([self._task], timeout=retry_timeout)
        if self._uploader.failure is not None:
            return self._stopped_by(self._uploader.failure)
        if self._task.done() and not self._task.cancelled():
            return None
        return Undelivered(
            f"no response from {self.spool.header.server}; {self._remainder()}. To send"
            f" {self._pronoun()}, run: deploylog ingest resume"
        )

    def _stopped_by(self, failure: DeploylogError) -> DeploylogError:
        kind = Refused if _is_refusal(failure) else DeploylogError
        return kind(
            f"{failure.message}; {self._remainder()}. To retry, run: deploylog ingest resume"
        )

    def _remainder(self) -> str:
        count = self.spool.pending
        return f"{_counted(count)} {'remains' if count == 1 else 'remain'} in {self.spool.path}"

    def _pronoun(self) -> str:
        return "it" if self.spool.pending == 1 else "them"

    def give_up(self) -> None:
        self.spool.abandon()
        self._task.cancel()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self.spool.close()


async def resume(
    client: Client,
    spool: Spool,
    events: Sequence[bytes],
    *,
    retry_timeout: float,
    log: Log,
    timing: Timing | None = None,
) -> DeploylogError | None:
    """Send the ``events`` of an abandoned spool; return the error if not all were recorded."""
    timing = timing or Timing()
    uploader = Uploader(client, spool, log=log, timing=timing)
    spool.finish(_missing_end(spool, events, timing.now()))
    async with asyncio.TaskGroup() as tasks:
        upload = Upload(spool, uploader, tasks.create_task(uploader.run()))
        try:
            failure = await upload.wait(retry_timeout)
            return _quarantine(spool, uploader) if isinstance(failure, Refused) else failure
        finally:
            await upload.close()


def _quarantine(spool: Spool, uploader: Uploader) -> Refused:
    """Move a spool that the server would refuse again to where nothing resumes it."""
    spool.quarantine()
    assert uploader.failure is not None
    return Refused(
        f"the server refused deployment {spool.header.deployment.id}: {uploader.failure.message};"
        f" moved {_counted(spool.pending)} to {spool.path}, which is not retried"
    )


def _is_refusal(failure: DeploylogError) -> bool:
    return isinstance(failure, ClientError) and failure.is_permanent


def _counted(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"


class _Line(msgspec.Struct):
    type: str
    time: str


def _missing_end(spool: Spool, events: Sequence[bytes], now: int) -> list[bytes]:
    """Return a failed end if the events have none: else their deployment would run forever."""
    last = msgspec.json.decode(events[-1], type=_Line) if events else None
    if last is not None and ends_deployment(last.type):
        return []
    return [
        render_new_event(
            NewEvent(
                type="deployment.failed",
                source=_SOURCE,
                scopes=(),
                # The replay of an old recording ends at its own time. If the server already has
                # every event of the run, the time of the last one is unknown.
                time=parse_time(last.time) if last is not None else now,
                producer_id=f"{spool.header.deployment.id}/lost",
                message="Deploylog was stopped before it saw the end of the run",
            )
        )
    ]
