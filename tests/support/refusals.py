"""A server that refuses to start: its exit code, and what it printed."""

import asyncio
import signal
import sys

from support.waiting import PATIENCE


async def refused(*options: str) -> tuple[int, str]:
    """The exit code of a service that cannot start, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploylog", "serve", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            out, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out == b""
    assert process.returncode is not None
    return process.returncode, said.decode()


def assert_one_plain_line(refusal: tuple[int, str], *words: str) -> None:
    code, said = refusal
    assert code not in (0, -signal.SIGKILL)
    assert said.count("\n") == 1, said
    assert said.endswith("\n")
    assert "Traceback" not in said
    for word in words:
        assert word in said
