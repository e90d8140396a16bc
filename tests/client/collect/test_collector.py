"""The collector in this process, with the test's own time, and faults that a seed draws."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from deploylog.auth.api_keys import make_key
from deploylog.client import Client, Timing, open_client
from deploylog.client.collect.cloudformation import (
    FoundStack,
    Page,
    RetryingCloudFormation,
    Throttled,
)
from deploylog.client.collect.collector import PollOptions
from deploylog.client.collect.stack_lookup import CollectOptions, StackCollection
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


class FakeCloudFormation:
    """A ``CloudFormation`` of scripted stacks."""

    def __init__(self, *stacks: ScriptedStack, page_size: int = 3) -> None:
        self.stacks = list(stacks)
        self.page_size = page_size
        #: The status of the stacks, if it is not that of their last event.
        self.status: str | None = None
        #: Called before each response; may raise.
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
        # The token counts from the end, so that new events do not shift the pages.
        start = 0 if token is None else len(newest_first) - int(token)
        page = newest_first[start : start + self.page_size]
        left = len(newest_first) - start - len(page)
        return Page(events=page, next=str(left) if left else None)


class Runs:
    """Collects, and calls the test in each sleep."""

    def __init__(
        self, cloudformation: FakeCloudFormation, client: Client, *, follow: bool = False
    ) -> None:
        self._cloudformation = cloudformation
        self._client = client
        self._follow = follow
        self.log: list[str] = []
        #: What another producer does in each sleep.
        self.meanwhile: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def __call__(
        self, sleep: Callable[[], None], *, stack: str = "web", groups: tuple[str, ...] = ()
    ) -> Operation | None:
        async def slept(seconds: float) -> None:
            sleep()
            await self.meanwhile()

        timing = Timing(sleep=slept, jitter=lambda: 0.5)
        return await StackCollection(
            CollectOptions(stack=stack, project="acme", groups=groups),
            RetryingCloudFormation(
                self._cloudformation, retry_timeout=1e9, timing=timing, log=self.log.append
            ),
            self._client,
            poll=PollOptions(interval=1, follow=self._follow),
            retry_timeout=5,
            timing=timing,
            log=self.log.append,
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
    """The operation, status and added resources of each deployment, oldest first."""
    page = (await server.get("/log/v1/deployments?project=acme")).json["deployments"]
    return [(d["operation"], d["status"], d["counts"]["added"]) for d in reversed(page)]


def nothing() -> None:
    """Do nothing in a sleep."""


def creation() -> ScriptedStack:
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("CREATE_IN_PROGRESS", 0)
    stack.add("Bucket", "CREATE_COMPLETE", 1)
    stack.own("CREATE_COMPLETE", 2)
    return stack


async def test_an_event_from_before_the_end_that_appears_after_it_is_collected(
    server: Local, client: Client
):
    stack = creation()
    late = stack_event(stack.arn, "Queue", "CREATE_COMPLETE", 1.5)
    waiting = [late]

    def sleep() -> None:
        if waiting:
            stack.events.insert(2, waiting.pop())

    await Runs(FakeCloudFormation(stack), client)(sleep)

    assert late.event_id in await ids(server)
    assert await counts(server) == [("create", "completed", 2)]


async def test_a_key_that_cannot_read_what_it_records_is_refused(server: Local):
    grants = [parse_grant("read:project/acme"), parse_grant("write:project/acme")]
    keys = [
        make_key(name="ci", groups=groups, grants=grants, now=now()) for groups in ((), ("ops",))
    ]
    for stored, _ in keys:
        await server.store.credentials.add(stored)
    (_, outside), (_, within) = keys

    async with open_client(server.url, outside) as client:
        with pytest.raises(OperatorError, match="--group"):
            await Runs(FakeCloudFormation(creation()), client)(nothing, groups=("ops",))
    async with open_client(server.url, within) as client:
        operation = await Runs(FakeCloudFormation(creation()), client)(nothing, groups=("ops",))

    assert operation is not None
    assert (operation.verb, operation.status) == ("create", "completed")


async def test_a_running_operation_without_an_event_is_awaited(server: Local, client: Client):
    stack = creation()
    cloudformation = FakeCloudFormation(stack)
    cloudformation.status = "UPDATE_IN_PROGRESS"
    polls: list[int] = []

    def sleep() -> None:
        polls.append(len(polls))
        if len(polls) == 3:
            cloudformation.status = None
            stack.own("UPDATE_IN_PROGRESS", 100)
            stack.own("UPDATE_FAILED", 101)

    operation = await Runs(cloudformation, client)(sleep)

    assert operation is not None
    assert (operation.verb, operation.status) == ("update", "failed")


async def test_the_stacks_own_events_have_its_tags_of_that_time(server: Local, client: Client):
    stack = creation()
    stack.tags = {"team": "a"}
    polls = iter(range(100))

    def update() -> None:
        if next(polls) == 0:
            stack.tags = {"team": "b"}
            stack.own("UPDATE_IN_PROGRESS", 10)
            stack.add("Bucket", "UPDATE_COMPLETE", 11)
            stack.own("UPDATE_COMPLETE", 12)

    await Runs(FakeCloudFormation(stack), client)(update)

    events = (await server.get("/log/v1/events?source=cloudformation&limit=100")).json["events"]
    tags = {event["producerid"]: event["data"].get("Tags") for event in events}
    assert [tags[event.event_id] for event in stack.events] == [
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
    operation = await Runs(FakeCloudFormation(stack), client, follow=follow)(sleep, stack=wanted)

    assert operation is not None
    assert (operation.verb, operation.status, operation.message) == ("create", "failed", REASON)
    assert await counts(server) == [("create", "failed", 0)]


async def test_a_failure_ends_an_operation_if_nothing_follows(server: Local, client: Client):
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("UPDATE_IN_PROGRESS", 0)
    stack.own("UPDATE_FAILED", 1)

    operation = await Runs(FakeCloudFormation(stack), client)(nothing)

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

    await Runs(FakeCloudFormation(stack), client)(sleep)

    events = (await server.get("/log/v1/events?source=cloudformation&order=oldest")).json["events"]
    assert [event["type"] for event in events[1:]] == [
        "deployment.started", "deployment.log", "deployment.log", "deployment.failed",
    ]  # fmt: skip


async def test_pruned_events_are_not_collected_again(server: Local, client: Client, store: Store):
    stack = creation()
    await Runs(FakeCloudFormation(stack), client)(nothing)
    await store.log.prune(now() + SECOND)
    stack.own("UPDATE_IN_PROGRESS", 1_000)
    stack.own("UPDATE_COMPLETE", 1_001)

    await Runs(FakeCloudFormation(stack), client)(nothing)

    assert await ids(server) == [event.event_id for event in stack.events[3:]]
    assert await counts(server) == [("create", "completed", 1), ("update", "completed", 0)]


async def test_an_earlier_stack_that_cloudformation_no_longer_has_does_not_block_a_new_one(
    server: Local, client: Client
):
    old, new = creation(), ScriptedStack(arn_of("web", 2), {})
    cloudformation = FakeCloudFormation(old)
    collect = Runs(cloudformation, client)
    await collect(nothing)
    cloudformation.stacks = [new]
    new.own("CREATE_IN_PROGRESS", 1_000)
    new.own("CREATE_COMPLETE", 1_001)

    await collect(nothing)

    stacks = (await server.get("/log/v1/stacks?project=acme")).json["stacks"]
    assert [stack["name"] for stack in stacks] == [f"web/{new.arn.rpartition('/')[2]}", "web"]
    assert collect.log[-3].startswith(f"CloudFormation no longer has {old.arn}")


async def test_a_stack_in_review_has_no_deployment(server: Local, client: Client):
    stack = ScriptedStack(arn_of("web"), {})
    stack.own("REVIEW_IN_PROGRESS", 0)

    assert await Runs(FakeCloudFormation(stack), client)(nothing) is None
    assert await counts(server) == []
    assert await ids(server) == own_ids(stack.events)


class Script:
    """Operations on a stack and its nested stack, drawn by a seed."""

    def __init__(self, seed: int, *, gaps: Sequence[float] = (0.001, 1, 500)) -> None:
        self._random = random.Random(seed)
        #: The events since the last delivery.
        self.news: list[StackEvent] = []
        self.root = ScriptedStack(arn_of("web", 1), {})
        self.nested = ScriptedStack(arn_of("web-Nested-X", 2), {})
        #: The events to come, each with its stack.
        self._coming: list[tuple[ScriptedStack, StackEvent]] = []
        seconds = 0.0
        for verb in ["CREATE", *["UPDATE"] * self._random.randint(0, 3), "DELETE"]:
            seconds = self._operation(verb, seconds + self._random.choice(gaps))
        self.all = [event for _, event in self._coming]

    def _operation(self, verb: str, seconds: float) -> float:
        def add(stack: ScriptedStack, logical: str, status: str, **fields: str | None) -> None:
            nonlocal seconds
            seconds += self._random.choice([0, 0.001, 0.4, 3])
            given = {"event_id": f"e-{len(self._coming)}", **fields}
            self._coming.append((stack, stack_event(stack.arn, logical, status, seconds, **given)))

        nested: dict[str, str | None] = {
            "resource_type": STACK_TYPE, "physical_resource_id": self.nested.arn,
        }  # fmt: skip
        add(self.root, "web", f"{verb}_IN_PROGRESS")
        # Nothing else happens in the millisecond in which an operation starts.
        seconds += 0.001
        add(self.root, "Nested", f"{verb}_IN_PROGRESS", **nested)
        add(self.nested, "web-Nested-X", f"{verb}_IN_PROGRESS")
        for number in range(self._random.randint(0, 9)):
            add(self._random.choice([self.root, self.nested]), f"R{number}", f"{verb}_COMPLETE")
        add(self.nested, "web-Nested-X", f"{verb}_COMPLETE")
        add(self.root, "Nested", f"{verb}_COMPLETE", **nested)
        add(self.root, "web", f"{verb}_COMPLETE")
        return seconds

    def advance(self) -> None:
        """Let a few more events happen, and perhaps appear out of order."""
        for _ in range(self._random.randint(0, 5)):
            if self._coming:
                late = len(self._coming) > 1 and self._may_swap() and self._random.random() < 0.3
                stack, event = self._coming.pop(1 if late else 0)
                stack.events.append(event)
                self.news.append(event)
                stack.events.sort(key=lambda each: each.timestamp)

    def _may_swap(self) -> bool:
        """Whether the next two events may appear out of order: no start or end of an operation."""
        return not any(event.logical_resource_id == "web" for _, event in self._coming[:2])

    def fault(self) -> None:
        if self._random.random() < 0.2:
            raise Throttled("Rate exceeded", retry_after=self._random.choice([None, 3]))

    @property
    def is_over(self) -> bool:
        return not self._coming


@pytest.mark.parametrize("seed", range(12))
async def test_every_event_is_collected_once_despite_faults_and_restarts(
    server: Local, client: Client, seed: int
):
    script = Script(seed)
    page_size = random.Random(seed).randint(1, 9)
    cloudformation = FakeCloudFormation(script.root, script.nested, page_size=page_size)
    cloudformation.fault = script.fault
    collect = Runs(cloudformation, client)
    dice = random.Random(-seed)

    def sleep() -> None:
        script.advance()
        if dice.random() < 0.15:
            raise asyncio.CancelledError

    while True:
        script.advance()
        if not script.root.events:
            continue
        # A collector that was stopped is started again.
        with suppress(asyncio.CancelledError):
            await collect(sleep, stack=script.root.arn)
            if script.is_over:
                break

    recorded = await ids(server)
    statuses = [e.resource_status for e in script.root.events if e.logical_resource_id == "web"]
    started = [status[:6].lower() for status in statuses if status.endswith("_IN_PROGRESS")]
    assert sorted(recorded) == sorted(event.event_id for event in script.all)
    assert [(verb, status) for verb, status, _ in await counts(server)] == [
        (verb, "completed") for verb in started
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_events_that_eventbridge_also_delivers_are_recorded_once(
    server: Local, client: Client, seed: int
):
    script = Script(seed, gaps=(7, 500))
    collect = Runs(FakeCloudFormation(script.root, script.nested), client)
    dice = random.Random(seed)

    async def deliver() -> None:
        news, script.news = script.news, []
        for event in news:
            if event.stack_id == script.root.arn and dice.random() < 0.5:
                answer = await server.post(
                    eventbridge_event(event), "application/json", f"{EVENTBRIDGE}?project=acme"
                )
                assert answer.status == 201, answer.body

    collect.meanwhile = deliver
    while not script.is_over:
        script.advance()
        await deliver()
        if script.root.events:
            await collect(script.advance, stack=script.root.arn)

    # Without those that open what was seen before it began.
    recorded = [id for id in await ids(server) if not id.endswith("/started")]
    assert len(recorded) == len(script.all)
    assert {status for _, status, _ in await counts(server)} == {"completed"}
    starts = [e for e in script.all if e.is_stack_itself and e.stack_id == script.root.arn]
    assert 2 * len(await counts(server)) == len(starts)


EVENTBRIDGE = "/log/v1/ingest/eventbridge"


def eventbridge_event(event: StackEvent) -> dict[str, object]:
    """Return the event as EventBridge delivers it: in whole seconds, and without its id."""
    delivered = envelope(
        event.stack_id,
        event.resource_status,
        logical=None if event.is_stack_itself else event.logical_resource_id,
        id=f"eb-{event.event_id}",
        time=f"{event.timestamp[:19]}Z",
    )
    if not event.is_stack_itself:
        delivered["detail"] |= {
            "physical-resource-id": event.physical_resource_id,
            "resource-type": event.resource_type,
        }
    return delivered
