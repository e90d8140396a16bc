"""A client of the native API, for one server."""

import asyncio
import gzip
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial

import msgspec

from deploylog.client.connection import (
    ClientError,
    Connection,
    ServerUnreachable,
    TransientError,
    decode,
    parse,
    segment,
)
from deploylog.client.keys import KeyCalls, KeyState
from deploylog.client.models import (
    ChangesetPage,
    ChangesetState,
    DeploymentPage,
    DeploymentState,
    DoraState,
    EventCount,
    EventPage,
    Explanation,
    Facet,
    FacetList,
    LoggedEvent,
    NewDeployment,
    Params,
    Receipt,
    StackState,
)
from deploylog.client.retry import (
    Backoff,
    Log,
    RetryPolicy,
    RetryTimeout,
    Timing,
    Unanswered,
    is_transient,
    retry,
    same_timeout,
)
from deploylog.client.sse import Message, MessageParser
from deploylog.client.subscriptions import (
    AttemptPage,
    AttemptState,
    DeadLetterPage,
    DeadLetterState,
    SubscriptionCalls,
    SubscriptionFields,
    SubscriptionState,
)
from deploylog.client.tail import ENDLESS, Tail
from deploylog.client.transport import Timeouts, Transport, open_transport
from deploylog.deployments.changeset import Changes, decode_changes
from deploylog.deployments.lifecycle import CHANGESET_ENDS
from deploylog.errors import OperatorError

__all__ = [
    "CHANGESET_ENDS",
    "AttemptPage",
    "AttemptState",
    "Backoff",
    "ChangesetPage",
    "ChangesetState",
    "Client",
    "ClientError",
    "DeadLetterPage",
    "DeadLetterState",
    "DeploymentPage",
    "DeploymentState",
    "DoraState",
    "EventCount",
    "EventPage",
    "Explanation",
    "Facet",
    "FacetList",
    "KeyState",
    "Log",
    "LoggedEvent",
    "Message",
    "MessageParser",
    "NewDeployment",
    "Params",
    "Receipt",
    "ServerUnreachable",
    "StackState",
    "SubscriptionCalls",
    "SubscriptionFields",
    "SubscriptionState",
    "Timing",
    "TransientError",
    "Unanswered",
    "open_client",
    "parse_dora",
    "parse_event",
]

#: Seconds that one request may wait for a deployment to end.
_MAX_WAIT = 300

# The server takes a while to read a plan of many megabytes.
_STAGING = Timeouts(total=180)


class _Appended(msgspec.Struct):
    events: tuple[Receipt, ...]


class _Stacks(msgspec.Struct):
    stacks: tuple[StackState, ...]


class _Projects(msgspec.Struct):
    projects: tuple[str, ...]


def parse_event(raw: msgspec.Raw | str) -> LoggedEvent:
    """Decode an event that the server sent; raises ClientError."""
    return decode(LoggedEvent, raw if isinstance(raw, str) else bytes(raw))


def parse_dora(raw: msgspec.Raw) -> DoraState:
    """Decode DORA's metrics that the server sent; raises ClientError."""
    return decode(DoraState, bytes(raw))


@asynccontextmanager
async def open_client(
    server: str, key: str | None = None, *, timing: Timing | None = None
) -> AsyncIterator["Client"]:
    """Open a client of ``server``, such as ``http://127.0.0.1:8325``; raises OperatorError."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise OperatorError("the key contains invalid characters")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    server = server.rstrip("/")
    async with open_transport(server, headers) as transport:
        yield Client(transport, server, timing=timing or Timing())


def _silent(line: str) -> None:
    """Log nothing."""


class Client:
    """Calls the native API of one server. Each call raises ServerUnreachable or ClientError."""

    def __init__(self, transport: Transport, server: str, *, timing: Timing) -> None:
        self.server = server
        self._connection = Connection(transport, server)
        self._call = self._connection.call
        self.keys = KeyCalls(self._connection)
        self.subscriptions = SubscriptionCalls(self._connection)
        self._timing = timing

    async def append(self, events: bytes, *, deployment: str | None = None) -> tuple[Receipt, ...]:
        """Record events, one CloudEvents JSON object per line.

        Events without scopes get those of ``deployment``, which must be open.
        """
        appended = await self._call(
            "POST", "/log/v1/events", _Appended,
            params=[("deployment", deployment)] if deployment is not None else [],
            body=events, headers={"Content-Type": "application/x-ndjson"},
        )  # fmt: skip
        return appended.events

    async def events(self, params: Params) -> EventPage:
        """Return one page of the events that ``params`` select."""
        return await self._call("GET", "/log/v1/events", EventPage, params=params)

    async def count(self, params: Params) -> EventCount:
        """Return how many events ``params`` select."""
        return await self._call("GET", "/log/v1/events/count", EventCount, params=params)

    async def facets(self, params: Params) -> FacetList:
        """Return the ``top`` values of a ``field`` among the events that ``params`` select."""
        return await self._call("GET", "/log/v1/events/facets", FacetList, params=params)

    async def dora(self, params: Params) -> msgspec.Raw:
        """Return DORA's metrics of the deployments that ``params`` select, in the server's JSON."""
        return await self._call("GET", "/log/v1/metrics/dora", msgspec.Raw, params=params)

    async def event(self, id: str) -> msgspec.Raw:
        return await self._call("GET", f"/log/v1/events/{segment(id)}", msgspec.Raw)

    async def stream(
        self, params: Params, *, after: str | None = None, log: Log = _silent
    ) -> AsyncGenerator[Message]:
        """Tail the events that ``params`` select, without end.

        When the connection is lost it logs so, reconnects, and resumes after the last message. It
        raises an error only when the first connection fails or the server refuses one.
        """
        policy = self._policy(ENDLESS, log, action="reconnecting")
        tail = Tail(self._connection, params, after=after, policy=policy)
        async with aclosing(tail.messages()) as messages:
            async for message in messages:
                yield message

    async def open_deployment(self, new: NewDeployment) -> DeploymentState:
        """Open a deployment, and create its stack if none has that name."""
        return await self._call(
            "POST", "/log/v1/deployments", DeploymentState,
            body=msgspec.json.encode(new), headers={"Content-Type": "application/json"},
        )  # fmt: skip

    async def deployment(self, id: str) -> DeploymentState:
        return await self._call("GET", f"/log/v1/deployments/{segment(id)}", DeploymentState)

    async def wait(self, id: str, timeout: float, *, log: Log = _silent) -> DeploymentState:
        """Return the deployment once it ends, or in its state after ``timeout`` seconds.

        Retries failures that are transient until then.
        """
        deadline = self._timing.monotonic() + timeout

        def remaining() -> float:
            return max(deadline - self._timing.monotonic(), 0)

        while True:
            seconds = remaining()
            state = await retry(
                lambda: self._poll_end(id, min(math.ceil(remaining()), _MAX_WAIT)),
                self._policy(same_timeout(seconds), log),
            )
            if state.status != "running" or not seconds:
                return state

    async def _poll_end(self, id: str, seconds: int) -> DeploymentState:
        return await self._call(
            "GET", f"/log/v1/deployments/{segment(id)}/wait", DeploymentState,
            params=[("timeout", str(seconds))],
            timeouts=Timeouts(total=seconds + 15),
        )  # fmt: skip

    async def deployments(self, params: Params) -> DeploymentPage:
        """Return one page of the deployments of a ``project`` or ``stack``, newest first."""
        return await self._call("GET", "/log/v1/deployments", DeploymentPage, params=params)

    async def stage(
        self, plan: bytes, params: Params, *, id: str, retry_timeout: float, log: Log = _silent
    ) -> ChangesetState:
        """Stage a plan, the JSON of ``terraform show -json``, as the change set ``id``, a UUID.

        Because of the id a retry stages nothing twice. Raises Unanswered after ``retry_timeout``
        seconds without a response.
        """
        body = await asyncio.to_thread(gzip.compress, plan)
        stage = partial(
            self._call, "POST", "/log/v1/changesets", ChangesetState,
            params=[*params, ("id", id)], body=body, timeouts=_STAGING,
            headers={
                "Content-Type": "application/json",
                "Content-Encoding": "gzip",
                "Idempotency-Key": id,
            },
        )  # fmt: skip
        with _unanswered(f"change set {id} may not have been staged"):
            return await retry(stage, self._policy(same_timeout(retry_timeout), log))

    async def follow_changeset(
        self, id: str, *, retry_timeout: float, log: Log = _silent
    ) -> AsyncGenerator[Message]:
        """Follow a change set from its first event to its end, across lost connections.

        Raises Unanswered after ``retry_timeout`` seconds without a response, and ClientError (404)
        when the key may not read it.
        """
        params = [("scope", f"changeset/{segment(id)}"), ("from", "start")]
        policy = self._policy(same_timeout(retry_timeout), log)
        tail = Tail(self._connection, params, after=None, policy=policy)
        with _unanswered(f"the server continues to stage change set {id}"):
            # The stream of a change set that the key may not read stays silent forever.
            await retry(partial(self.changeset, id), policy)
            async with aclosing(tail.messages()) as messages:
                async for message in messages:
                    yield message
                    if message.event in CHANGESET_ENDS:
                        return

    async def changeset(self, id: str) -> ChangesetState:
        return await self._call("GET", f"/log/v1/changesets/{segment(id)}", ChangesetState)

    async def changesets(self, params: Params) -> ChangesetPage:
        """Return one page of the change sets of a ``project`` or ``stack``, newest first."""
        return await self._call("GET", "/log/v1/changesets", ChangesetPage, params=params)

    async def changes(self, id: str) -> Changes:
        """Return everything that a change set would change."""
        content = await self._connection.fetch("GET", f"/log/v1/changesets/{segment(id)}/changes")
        return parse(lambda: decode_changes(content))

    async def stacks(self, params: Params) -> tuple[StackState, ...]:
        """Return the stacks of a ``project``, or of all projects."""
        return (await self._call("GET", "/log/v1/stacks", _Stacks, params=params)).stacks

    async def projects(self) -> tuple[str, ...]:
        return (await self._call("GET", "/log/v1/projects", _Projects)).projects

    async def delete_stack(self, project: str, name: str) -> None:
        """Delete a stack: its name becomes free, its events stay."""
        params = [("project", project), ("name", name)]
        await self._call("DELETE", "/log/v1/stacks", msgspec.Raw, params=params)

    def _policy(self, timeout: RetryTimeout, log: Log, action: str = "retrying") -> RetryPolicy:
        return RetryPolicy(timeout, self._timing, log=log, action=action)


@contextmanager
def _unanswered(consequence: str) -> Iterator[None]:
    """Raise Unanswered when retries of a transient error ran out."""
    try:
        yield
    except (ServerUnreachable, ClientError) as error:
        if not is_transient(error):
            raise
        raise Unanswered(f"{error.message}; {consequence}") from error
