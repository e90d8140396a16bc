"""A CloudFormation that tests script: the Query API over real HTTP, with its faults on demand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from xml.sax.saxutils import escape
from zlib import crc32

import msgspec
from aiohttp import web

from deploylog.ingest.cloudformation.stack_event import STACK_TYPE, StackEvent

BEGINNING = datetime(2026, 3, 1, 12, tzinfo=UTC)

_NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"

_numbers = count(1)


def arn_of(name: str, number: int = 1, *, region: str = "eu-west-1") -> str:
    uuid = f"00000000-0000-4000-8000-{number:012d}"
    return f"arn:aws:cloudformation:{region}:123456789012:stack/{name}/{uuid}"


def moment(seconds: float) -> str:
    """A time, so many seconds after the beginning."""
    time = BEGINNING + timedelta(seconds=seconds)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stack_event(
    arn: str, logical: str, status: str, seconds: float, **fields: str | None
) -> StackEvent:
    """An event of the stack; of its own if ``logical`` is its name."""
    name = arn.split("/")[1]
    own = logical == name
    given: dict[str, str | None] = {
        "event_id": f"{logical}-{status}-{seconds}" if not own else f"own-{next(_numbers)}",
        "physical_resource_id": arn if own else f"{logical.lower()}-1",
        "resource_type": STACK_TYPE if own else "AWS::S3::Bucket",
    }
    return StackEvent(
        stack_id=arn,
        stack_name=name,
        logical_resource_id=logical,
        resource_status=status,
        timestamp=moment(seconds),
        **(given | fields),  # type: ignore[arg-type]
    )


class ScriptedStack:
    """A stack, and what is told of it."""

    def __init__(self, arn: str, tags: dict[str, str]) -> None:
        self.arn = arn
        self.tags = tags
        #: Oldest first.
        self.events: list[StackEvent] = []

    @property
    def name(self) -> str:
        return self.arn.split("/")[1]

    @property
    def status(self) -> str:
        own = [event.resource_status for event in self.events if event.is_stack_itself]
        return own[-1] if own else "CREATE_IN_PROGRESS"

    def add(self, logical: str, status: str, seconds: float, **fields: str | None) -> StackEvent:
        event = stack_event(self.arn, logical, status, seconds, **fields)
        self.events.append(event)
        return event

    def own(self, status: str, seconds: float, **fields: str | None) -> StackEvent:
        return self.add(self.name, status, seconds, **fields)


class ScriptedCloudFormation:
    """Its stacks, and how it behaves."""

    def __init__(self) -> None:
        self.url = ""
        self.stacks: list[ScriptedStack] = []
        self.page_size = 100
        #: How many requests are throttled next, and after how many seconds it asks to try again.
        self.throttled = 0
        self.retry_after: int | None = None
        #: Statuses with which some proxy answers the next requests, in HTML.
        self.proxied: list[int] = []
        #: Whether events of one second stand in another order in each listing.
        self.shuffles = False
        self._listing = 0
        self.requests: list[str] = []
        #: What is set whenever somebody has looked.
        self.looked = asyncio.Event()

    def stack(
        self, name: str = "web", number: int = 1, *, tags: dict[str, str] | None = None
    ) -> ScriptedStack:
        """A new stack."""
        stack = ScriptedStack(arn_of(name, number), tags or {})
        self.stacks.append(stack)
        return stack

    async def look(self) -> None:
        """Wait until somebody reads events."""
        self.looked.clear()
        async with asyncio.timeout(20):
            await self.looked.wait()

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        action, name = str(form["Action"]), str(form["StackName"])
        self.requests.append(action)
        if self.proxied:
            return web.Response(status=self.proxied.pop(), text="<html>?</html>")
        if self.throttled:
            self.throttled -= 1
            return self._error("Throttling", "Rate exceeded")
        stack = self._find(name)
        if stack is None:
            return self._error("ValidationError", f"Stack [{name}] does not exist")
        if action == "DescribeStacks":
            return _reply(action, _stacks(stack))
        assert action == "DescribeStackEvents"
        told = self._page(stack, str(form.get("NextToken", "0")))
        self.looked.set()
        return _reply(action, told)

    def _find(self, name: str) -> ScriptedStack | None:
        for stack in reversed(self.stacks):
            if stack.arn == name or (stack.name == name and stack.status != "DELETE_COMPLETE"):
                return stack
        return None

    def _page(self, stack: ScriptedStack, token: str) -> str:
        newest_first = list(reversed(stack.events))
        if self.shuffles:
            self._listing += token == "0"
            newest_first.sort(key=self._second_and_noise, reverse=True)
        start = int(token)
        page = newest_first[start : start + self.page_size]
        more = start + self.page_size < len(newest_first)
        following = f"<NextToken>{start + self.page_size}</NextToken>" if more else ""
        return f"<StackEvents>{''.join(map(_member, page))}</StackEvents>{following}"

    def _second_and_noise(self, event: StackEvent) -> tuple[str, int]:
        return event.timestamp[:19], crc32(f"{event.event_id} {self._listing}".encode())

    def _error(self, code: str, message: str) -> web.Response:
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return web.Response(
            status=400,
            headers=headers,
            content_type="text/xml",
            text=f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type>'
            f"<Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            "<RequestId>1</RequestId></ErrorResponse>",
        )


def _stacks(stack: ScriptedStack) -> str:
    tags = "".join(
        f"<member><Key>{escape(key)}</Key><Value>{escape(value)}</Value></member>"
        for key, value in stack.tags.items()
    )
    return (
        f"<Stacks><member><StackId>{stack.arn}</StackId><StackName>{stack.name}</StackName>"
        f"<CreationTime>{moment(0)}</CreationTime><StackStatus>{stack.status}</StackStatus>"
        f"<Tags>{tags}</Tags></member></Stacks>"
    )


def _member(event: StackEvent) -> str:
    fields: dict[str, str] = msgspec.to_builtins(event)
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    return f"<member>{inner}</member>"


def _reply(action: str, result: str) -> web.Response:
    return web.Response(
        content_type="text/xml",
        text=f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>",
    )


@asynccontextmanager
async def scripted_cloudformation() -> AsyncIterator[ScriptedCloudFormation]:
    """One on a free port of loopback."""
    scripted = ScriptedCloudFormation()
    application = web.Application()
    application.router.add_post("/", scripted.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield scripted
    finally:
        await runner.cleanup()


def aws_environ(url: str) -> dict[str, str]:
    """What a process needs to reach a CloudFormation there."""
    return {
        "AWS_ENDPOINT_URL_CLOUDFORMATION": url,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def own_ids(events: Sequence[StackEvent]) -> list[str]:
    """Their ids, in order of time."""
    return [event.event_id for event in sorted(events, key=lambda event: event.timestamp)]
