"""The collector within this process: time that the test turns, and faults that a seed draws."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from deploylog.auth.api_keys import make_key
from deploylog.client import Client, open_client
from deploylog.client.collect.cloudformation import (
    FoundStack,
    Page,
    RetryingCloudFormation,
    Throttled,
)
from deploylog.client.collect.collector import PollOptions
from deploylog.client.collect.stack_lookup import StackCollection, Wanted
from deploylog.client.retry import Backoff, RetryPolicy, RetryTimeout
from deploylog.errors import OperatorError
from deploylog.events.access import parse_grant
from deploylog.events.times import SECOND
from deploylog.ingest.cloudformation.operations import Operation
from deploylog.ingest.cloudformation.stack_event import STACK_TYPE, StackEvent
from deploylog.store.contract import Store
from support.cloudformation import ScriptedStack, arn_of, own_ids, stack_event
from support.factories import now
from support.servers import Local, running
from support.sns import envelope


class Told:
    """A ``CloudFormation`` that tells what a test lets it."""

    def __init__(self, *stacks: ScriptedStack, page_size: int = 3) -> None:
        self.stacks = list(stacks)
        self.page_size = page_size
        #: What the stacks' status is, if not what their events say.
        self.status: str | None = None
        #: Asked before each answer; may raise.
        self.fault: Callable[[], None] = lambda: None

    async def find(self, stack: str) -> FoundStack | None:
        self.fault()
        for each in self.stacks:
            if stack == each.arn or (stack == each.name and each.status != "DELETE_COMPLETE"):
                return FoundStack(arn=each.arn, status=self.status or each.status, tags=each.tags)
        return None

    async def page(self, arn: str, token: str | None) -> Page:
        self.fault()
        [stack] = [each for each in self.stacks if each.arn == arn]
        newest_first = tuple(reversed(stack.events))
        # The token holds the place from the end, so that what comes meanwhile shifts nothing.
        start = 0 if token is None else len(newest_first) - int(token)
        page = newest_first[start : start + self.page_size]
        left = len(newest_first) - start - len(page)
        return Page(events=page, next=str(left) if left else None)


class Runs:
    """Collects, with a sleep that does what the test says."""

    def __init__(self, told: Told, client: Client, *, follow: bool = False) -> None:
        self._told = told
        self._client = client
        self._follow = follow
        self.said: list[str] = []
        #: What happens in each sleep, beside.
        self.beside: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def __call__(
        self, sleep: Callable[[], None], *, stack: str = "web", groups: tuple[str, ...] = ()
    ) -> Operation | None:
        async def slept(seconds: float) -> None:
            sleep()
            await self.beside()

        return await StackCollection(
            Wanted(stack=stack, project="acme", groups=groups),
            RetryingCloudFormation(
                self._told, patience=1e9, say=self.said.append, sleep=slept, jitter=lambda: 0.5
            ),
            self._client,
            persistence=lambda: RetryPolicy(
                RetryTimeout(first=5, later=5),
                Backoff(lambda: 0.5),
                sleep=asyncio.sleep,
                say=self.said.append,
                again="trying again",
            ),
            pace=PollOptions(interval=1, follow=self._follow, sleep=slept),
            say=self.said.append,
        ).run()


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


@pytest.fixture
async def client(server: Local) -> AsyncIterator[Client]:
    async with open_client(server.url) as client:
        yield client


async def ids(server: Local) -> list[str]:
    path = "/log/v1/events?source=cloudformation&order=oldest&limit=1000"
    events = (await server.get(path)).json["events"]
    return [event["producerid"] for event in events if not event["type"].startswith("stack.")]


async def counts(server: Local) -> list[tuple[str, str, int]]:
    """Operation, end and resources added of each deployment, oldest first."""
    page = (await server.get("/log/v1/deployments?project=acme")).json["deployments"]
    return [(d["operation"], d["status"], d["counts"]["added"]) for d in reversed(page)]


def nothing() -> None:
    """Sleep, and let nothing happen."""


def creation() -> ScriptedStack:
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("CREATE_IN_PROGRESS", 0)
    stack.add("Bucket", "CREATE_COMPLETE", 1)
    stack.own("CREATE_COMPLETE", 2)
    return stack


async def test_what_appears_after_the_end_though_it_happened_before_is_collected(
    server: Local, client: Client
):
    stack = creation()
    late = stack_event(stack.arn, "Queue", "CREATE_COMPLETE", 1.5)
    waiting = [late]

    def sleep() -> None:
        if waiting:
            stack.events.insert(2, waiting.pop())

    await Runs(Told(stack), client)(sleep)

    assert late.event_id in await ids(server)
    assert await counts(server) == [("create", "completed", 2)]


async def test_a_key_that_does_not_see_what_it_records_is_refused(server: Local):
    grants = [parse_grant("read:project/acme"), parse_grant("write:project/acme")]
    keys = [
        make_key(name="ci", groups=groups, grants=grants, now=now()) for groups in ((), ("ops",))
    ]
    for stored, _ in keys:
        await server.store.credentials.add(stored)
    (_, outside), (_, within) = keys

    async with open_client(server.url, outside) as client:
        with pytest.raises(OperatorError, match="--group"):
            await Runs(Told(creation()), client)(nothing, groups=("ops",))
    async with open_client(server.url, within) as client:
        operation = await Runs(Told(creation()), client)(nothing, groups=("ops",))

    assert operation is not None
    assert (operation.verb, operation.status) == ("create", "completed")


async def test_an_operation_that_no_event_tells_yet_is_awaited(server: Local, client: Client):
    stack = creation()
    told = Told(stack)
    told.status = "UPDATE_IN_PROGRESS"
    looks: list[int] = []

    def sleep() -> None:
        looks.append(len(looks))
        if len(looks) == 3:
            told.status = None
            stack.own("UPDATE_IN_PROGRESS", 100)
            stack.own("UPDATE_FAILED", 101)

    operation = await Runs(told, client)(sleep)

    assert operation is not None
    assert (operation.verb, operation.status) == ("update", "failed")


async def test_the_stacks_own_events_tell_its_tags_as_they_are_then(server: Local, client: Client):
    stack = creation()
    stack.tags = {"team": "a"}
    looks = iter(range(100))

    def update() -> None:
        if next(looks) == 0:
            stack.tags = {"team": "b"}
            stack.own("UPDATE_IN_PROGRESS", 10)
            stack.add("Bucket", "UPDATE_COMPLETE", 11)
            stack.own("UPDATE_COMPLETE", 12)

    await Runs(Told(stack), client)(update)

    events = (await server.get("/log/v1/events?source=cloudformation&limit=100")).json["events"]
    said = {event["producerid"]: event["data"].get("Tags") for event in events}
    assert [said[event.event_id] for event in stack.events] == [
        {"team": "a"}, None, {"team": "a"}, {"team": "b"}, None, {"team": "b"},
    ]  # fmt: skip


REASON = "web-bucket already exists"


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_create_that_is_cleaned_up_is_a_failure_with_its_reason(
    server: Local, client: Client, at_once: bool, follow: bool
):
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("CREATE_IN_PROGRESS", 0)
    following: list[tuple[str, str, str | None]] = [
        ("Bucket", "CREATE_FAILED", REASON),
        ("web", "DELETE_IN_PROGRESS", "The following resource(s) failed to create: [Bucket]."),
        ("web", "DELETE_COMPLETE", None),
    ]

    def sleep() -> None:
        if following:
            logical, status, reason = following.pop(0)
            stack.add(logical, status, 5 - len(following), resource_status_reason=reason)

    while at_once and following:
        sleep()

    wanted = stack.arn if follow or at_once else "web"
    operation = await Runs(Told(stack), client, follow=follow)(sleep, stack=wanted)

    assert operation is not None
    assert (operation.verb, operation.status, operation.message) == ("create", "failed", REASON)
    assert await counts(server) == [("create", "failed", 0)]


async def test_a_failure_is_the_end_once_nothing_follows_it(server: Local, client: Client):
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("UPDATE_IN_PROGRESS", 0)
    stack.own("UPDATE_FAILED", 1)

    operation = await Runs(Told(stack), client)(nothing)

    assert operation is not None
    assert operation.status == "failed"
    assert await counts(server) == [("update", "failed", 0)]


async def test_a_rollback_that_follows_later_is_awaited(server: Local, client: Client):
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("CREATE_IN_PROGRESS", 0)
    stack.own("CREATE_FAILED", 1)
    following = ["ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"]

    def sleep() -> None:
        if following:
            stack.own(following.pop(0), 5 - len(following))

    await Runs(Told(stack), client)(sleep)

    events = (await server.get("/log/v1/events?source=cloudformation&order=oldest")).json["events"]
    assert [event["type"] for event in events[1:]] == [
        "deployment.started", "deployment.log", "deployment.log", "deployment.failed",
    ]  # fmt: skip


async def test_what_is_no_longer_retained_is_not_collected_anew(
    server: Local, client: Client, store: Store
):
    stack = creation()
    await Runs(Told(stack), client)(nothing)
    await store.log.prune(now() + SECOND)
    stack.own("UPDATE_IN_PROGRESS", 1_000)
    stack.own("UPDATE_COMPLETE", 1_001)

    await Runs(Told(stack), client)(nothing)

    assert await ids(server) == [event.event_id for event in stack.events[3:]]
    assert await counts(server) == [("create", "completed", 1), ("update", "completed", 0)]


async def test_an_earlier_stack_that_cloudformation_has_forgotten_is_in_nobodys_way(
    server: Local, client: Client
):
    old, new = creation(), ScriptedStack(arn_of("web", 2), {})
    told = Told(old)
    collect = Runs(told, client)
    await collect(nothing)
    told.stacks = [new]
    new.own("CREATE_IN_PROGRESS", 1_000)
    new.own("CREATE_COMPLETE", 1_001)

    await collect(nothing)

    stacks = (await server.get("/log/v1/stacks?project=acme")).json["stacks"]
    assert [stack["name"] for stack in stacks] == [f"web/{new.arn.rpartition('/')[2]}", "web"]
    assert collect.said[-3].startswith(f"CloudFormation does not tell of {old.arn}")


async def test_a_stack_that_only_awaits_its_review_has_no_deployment(server: Local, client: Client):
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("REVIEW_IN_PROGRESS", 0)

    assert await Runs(Told(stack), client)(nothing) is None
    assert await counts(server) == []
    assert await ids(server) == own_ids(stack.events)


class Script:
    """A life that a seed draws: operations on a stack with one nested in it."""

    def __init__(self, seed: int, *, gaps: Sequence[float] = (0.001, 1, 500)) -> None:
        self._random = random.Random(seed)
        #: What happened since somebody asked last.
        self.news: list[StackEvent] = []
        self.root = ScriptedStack(arn_of("web", 1), {})
        self.nested = ScriptedStack(arn_of("web-Nested-X", 2), {})
        #: What happens, in order: the stack, and the event.
        self._life: list[tuple[ScriptedStack, StackEvent]] = []
        seconds = 0.0
        for verb in ["CREATE", *["UPDATE"] * self._random.randint(0, 3), "DELETE"]:
            seconds = self._operation(verb, seconds + self._random.choice(gaps))
        self.all = [event for _, event in self._life]

    def _operation(self, verb: str, seconds: float) -> float:
        def tell(stack: ScriptedStack, logical: str, status: str, **fields: str | None) -> None:
            nonlocal seconds
            seconds += self._random.choice([0, 0.001, 0.4, 3])
            given = {"event_id": f"e-{len(self._life)}", **fields}
            self._life.append((stack, stack_event(stack.arn, logical, status, seconds, **given)))

        nested: dict[str, str | None] = {
            "resource_type": STACK_TYPE, "physical_resource_id": self.nested.arn,
        }  # fmt: skip
        tell(self.root, "web", f"{verb}_IN_PROGRESS")
        # Nothing else happens in the same millisecond as a beginning.
        seconds += 0.001
        tell(self.root, "Nested", f"{verb}_IN_PROGRESS", **nested)
        tell(self.nested, "web-Nested-X", f"{verb}_IN_PROGRESS")
        for number in range(self._random.randint(0, 9)):
            tell(self._random.choice([self.root, self.nested]), f"R{number}", f"{verb}_COMPLETE")
        tell(self.nested, "web-Nested-X", f"{verb}_COMPLETE")
        tell(self.root, "Nested", f"{verb}_COMPLETE", **nested)
        tell(self.root, "web", f"{verb}_COMPLETE")
        return seconds

    def go_on(self) -> None:
        """Let a few more things happen, one of them perhaps seen before another."""
        for _ in range(self._random.randint(0, 5)):
            if self._life:
                late = len(self._life) > 1 and self._may_swap() and self._random.random() < 0.3
                stack, event = self._life.pop(1 if late else 0)
                stack.events.append(event)
                self.news.append(event)
                stack.events.sort(key=lambda each: each.timestamp)

    def _may_swap(self) -> bool:
        """A beginning, or an end, is not overtaken: what follows it waits for it."""
        return not any(event.logical_resource_id == "web" for _, event in self._life[:2])

    def fault(self) -> None:
        if self._random.random() < 0.2:
            raise Throttled("Rate exceeded", retry_after=self._random.choice([None, 3]))

    @property
    def is_over(self) -> bool:
        return not self._life


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_every_event_is_collected_once(
    server: Local, client: Client, seed: int
):
    script = Script(seed)
    told = Told(script.root, script.nested, page_size=random.Random(seed).randint(1, 9))
    told.fault = script.fault
    collect = Runs(told, client)
    dice = random.Random(-seed)

    def sleep() -> None:
        script.go_on()
        if dice.random() < 0.15:
            raise asyncio.CancelledError

    while True:
        script.go_on()
        if not script.root.events:
            continue
        # Whoever is stopped begins anew.
        with suppress(asyncio.CancelledError):
            await collect(sleep, stack=script.root.arn)
            if script.is_over:
                break

    recorded = await ids(server)
    statuses = [e.resource_status for e in script.root.events if e.logical_resource_id == "web"]
    begun = [status[:6].lower() for status in statuses if status.endswith("_IN_PROGRESS")]
    assert sorted(recorded) == sorted(event.event_id for event in script.all)
    assert [(verb, status) for verb, status, _ in await counts(server)] == [
        (verb, "completed") for verb in begun
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_what_eventbridge_tells_beside_is_there_once(
    server: Local, client: Client, seed: int
):
    script = Script(seed, gaps=(7, 500))
    collect = Runs(Told(script.root, script.nested), client)
    dice = random.Random(seed)

    async def tell() -> None:
        news, script.news = script.news, []
        for event in news:
            if event.stack_id == script.root.arn and dice.random() < 0.5:
                answer = await server.post(
                    as_eventbridge_tells(event), "application/json", f"{EVENTBRIDGE}?project=acme"
                )
                assert answer.status == 201, answer.body

    collect.beside = tell
    while not script.is_over:
        script.go_on()
        await tell()
        if script.root.events:
            await collect(script.go_on, stack=script.root.arn)

    # Without those that open what was seen before it began.
    recorded = [id for id in await ids(server) if not id.endswith("/started")]
    assert len(recorded) == len(script.all)
    assert {status for _, status, _ in await counts(server)} == {"completed"}
    begun = [e for e in script.all if e.is_stack_itself and e.stack_id == script.root.arn]
    assert 2 * len(await counts(server)) == len(begun)


EVENTBRIDGE = "/log/v1/ingest/eventbridge"


def as_eventbridge_tells(event: StackEvent) -> dict[str, object]:
    """The event, in whole seconds and without its id."""
    told = envelope(
        event.stack_id,
        event.resource_status,
        logical=None if event.is_stack_itself else event.logical_resource_id,
        id=f"eb-{event.event_id}",
        time=f"{event.timestamp[:19]}Z",
    )
    if not event.is_stack_itself:
        told["detail"] |= {
            "physical-resource-id": event.physical_resource_id,
            "resource-type": event.resource_type,
        }
    return told
