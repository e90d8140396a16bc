"""The native API from the other side: a client for one server."""

import asyncio
import gzip
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial

import aiohttp
import msgspec

from deploylog.client.connection import (
    CONNECT_SECONDS,
    ClientError,
    Connection,
    ServerUnreachable,
    decode,
    parse,
    segment,
)
from deploylog.client.models import (
    ChangesetPage,
    ChangesetState,
    DeploymentPage,
    DeploymentState,
    EventPage,
    LoggedEvent,
    NewDeployment,
    Params,
    Receipt,
    StackState,
)
from deploylog.client.retry import (
    Backoff,
    Jitter,
    RetryPolicy,
    RetryTimeout,
    Say,
    Sleep,
    Unanswered,
    is_transient,
    retry,
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
from deploylog.deployments.changeset import Changes, decode_changes
from deploylog.deployments.lifecycle import CHANGESET_ENDS
from deploylog.errors import OperatorError

__all__ = [
    "CHANGESET_ENDS",
    "MAX_WAIT",
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
    "EventPage",
    "Jitter",
    "LoggedEvent",
    "Message",
    "MessageParser",
    "NewDeployment",
    "Params",
    "Receipt",
    "Say",
    "ServerUnreachable",
    "Sleep",
    "StackState",
    "SubscriptionCalls",
    "SubscriptionFields",
    "SubscriptionState",
    "Unanswered",
    "open_client",
    "parse_event",
]

#: The longest that one request may wait for a deployment to end, in seconds.
MAX_WAIT = 300


# The server reads a plan of many megabytes for a while before it answers.
_STAGING = aiohttp.ClientTimeout(total=180, sock_connect=CONNECT_SECONDS)


class _Appended(msgspec.Struct):
    events: tuple[Receipt, ...]


class _Stacks(msgspec.Struct):
    stacks: tuple[StackState, ...]


class _Projects(msgspec.Struct):
    projects: tuple[str, ...]


def parse_event(raw: msgspec.Raw | str) -> LoggedEvent:
    """What a person is shown of an event that the server sent."""
    return decode(LoggedEvent, raw if isinstance(raw, str) else bytes(raw))


@asynccontextmanager
async def open_client(
    server: str,
    key: str | None = None,
    *,
    sleep: Sleep = asyncio.sleep,
    jitter: Jitter = random.random,
) -> AsyncIterator["Client"]:
    """A client for ``server``, such as ``http://127.0.0.1:8325``."""
    if not server.startswith(("http://", "https://")):
        raise OperatorError(f"{server!r} is not a server's address: write http://HOST:PORT")
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise OperatorError("the key holds characters that no key has")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers, auto_decompress=True) as session:
        yield Client(session, server.rstrip("/"), sleep=sleep, jitter=jitter)


def _silent(sentence: str) -> None:
    """Say nothing."""


class Client:
    """Speaks the native API to one server. Every call raises ServerUnreachable or ClientError."""

    def __init__(
        self, session: aiohttp.ClientSession, server: str, *, sleep: Sleep, jitter: Jitter
    ) -> None:
        """Use ``session``, which carries the key."""
        self.server = server
        self._connection = Connection(session, server)
        self._call = self._connection.call
        self.subscriptions = SubscriptionCalls(self._connection)
        self._sleep = sleep
        self._jitter = jitter

    async def append(self, events: bytes, *, deployment: str | None = None) -> tuple[Receipt, ...]:
        """Record events, one CloudEvents JSON object a line: those that name no scopes in an
        open deployment.
        """
        appended = await self._call(
            "POST", "/log/v1/events", _Appended,
            params=[("deployment", deployment)] if deployment is not None else [],
            body=events, headers={"Content-Type": "application/x-ndjson"},
        )  # fmt: skip
        return appended.events

    async def events(self, params: Params) -> EventPage:
        """One page of the events that ``params`` select."""
        return await self._call("GET", "/log/v1/events", EventPage, params=params)

    async def event(self, id: str) -> msgspec.Raw:
        """One event."""
        return await self._call("GET", f"/log/v1/events/{segment(id)}", msgspec.Raw)

    async def stream(
        self, params: Params, *, after: str | None = None, say: Say = _silent
    ) -> AsyncGenerator[Message]:
        """Follow the events that ``params`` select, without end.

        When the connection is lost it says so, connects again and goes on after the last
        message; only the first connection's failure is raised, and a refusal.
        """
        persistence = self._persistence(ENDLESS, say, "connecting again")
        tail = Tail(self._connection, params, after=after, persistence=persistence)
        async with aclosing(tail.messages()) as messages:
            async for message in messages:
                yield message

    async def open_deployment(self, opening: NewDeployment) -> DeploymentState:
        """Open a deployment, and its stack if there is none of that name."""
        return await self._call(
            "POST", "/log/v1/deployments", DeploymentState,
            body=msgspec.json.encode(opening), headers={"Content-Type": "application/json"},
        )  # fmt: skip

    async def deployment(self, id: str) -> DeploymentState:
        """One deployment."""
        return await self._call("GET", f"/log/v1/deployments/{segment(id)}", DeploymentState)

    async def wait(self, id: str, timeout: int) -> DeploymentState:
        """The deployment once it has ended, or as it is after ``timeout`` seconds."""
        return await self._call(
            "GET", f"/log/v1/deployments/{segment(id)}/wait", DeploymentState,
            params=[("timeout", str(timeout))],
            timeout=aiohttp.ClientTimeout(total=timeout + 15, sock_connect=CONNECT_SECONDS),
        )  # fmt: skip

    async def deployments(self, params: Params) -> DeploymentPage:
        """One page of the deployments of a ``project`` or ``stack``, last started first."""
        return await self._call("GET", "/log/v1/deployments", DeploymentPage, params=params)

    async def stage(
        self, plan: bytes, params: Params, *, id: str, patience: float, say: Say = _silent
    ) -> ChangesetState:
        """Stage a plan, the JSON of ``terraform show -json``, as the change set ``id``, a UUID.

        The id makes that sending it again stages nothing twice, so it is sent until there is an
        answer; raises Unanswered after ``patience`` seconds without one.
        """
        body = await asyncio.to_thread(gzip.compress, plan)
        stage = partial(
            self._call, "POST", "/log/v1/changesets", ChangesetState,
            params=[*params, ("id", id)], body=body, timeout=_STAGING,
            headers={
                "Content-Type": "application/json",
                "Content-Encoding": "gzip",
                "Idempotency-Key": id,
            },
        )  # fmt: skip
        with _giving_up(f"change set {id} may not be staged"):
            return await retry(stage, self._impatient(patience, say))

    async def follow_changeset(
        self, id: str, *, patience: float, say: Say = _silent
    ) -> AsyncGenerator[Message]:
        """Follow a change set from its first event to its end, over lost connections.

        Raises Unanswered after ``patience`` seconds without an answer, and ClientError (404) when
        it may not be read.
        """
        params = [("scope", f"changeset/{segment(id)}"), ("from", "start")]
        persistence = self._impatient(patience, say)
        tail = Tail(self._connection, params, after=None, persistence=persistence)
        with _giving_up(f"change set {id} is staged all the same"):
            # The stream of what may not be read is silent for ever.
            await retry(partial(self.changeset, id), persistence)
            async with aclosing(tail.messages()) as messages:
                async for message in messages:
                    yield message
                    if message.event in CHANGESET_ENDS:
                        return

    async def changeset(self, id: str) -> ChangesetState:
        """One change set."""
        return await self._call("GET", f"/log/v1/changesets/{segment(id)}", ChangesetState)

    async def changesets(self, params: Params) -> ChangesetPage:
        """One page of the change sets of a ``project`` or ``stack``, last added first."""
        return await self._call("GET", "/log/v1/changesets", ChangesetPage, params=params)

    async def changes(self, id: str) -> Changes:
        """Everything that a change set would change."""
        content = await self._connection.fetch("GET", f"/log/v1/changesets/{segment(id)}/changes")
        return parse(lambda: decode_changes(content))

    async def stacks(self, params: Params) -> tuple[StackState, ...]:
        """The stacks, of a ``project`` or of all."""
        return (await self._call("GET", "/log/v1/stacks", _Stacks, params=params)).stacks

    async def projects(self) -> tuple[str, ...]:
        """The names of the projects."""
        return (await self._call("GET", "/log/v1/projects", _Projects)).projects

    async def delete_stack(self, project: str, name: str) -> None:
        """End a stack: its name is free again, its events stay."""
        params = [("project", project), ("name", name)]
        await self._call("DELETE", "/log/v1/stacks", msgspec.Raw, params=params)

    def _impatient(self, seconds: float, say: Say) -> RetryPolicy:
        return self._persistence(RetryTimeout(first=seconds, later=seconds), say, "trying again")

    def _persistence(self, patience: RetryTimeout, say: Say, again: str) -> RetryPolicy:
        return RetryPolicy(patience, Backoff(self._jitter), sleep=self._sleep, say=say, again=again)


@contextmanager
def _giving_up(consequence: str) -> Iterator[None]:
    """Raise Unanswered for what would pass, but has lasted too long."""
    try:
        yield
    except (ServerUnreachable, ClientError) as error:
        if not is_transient(error):
            raise
        raise Unanswered(f"{error.message}; {consequence}") from error
