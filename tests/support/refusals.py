"""A server that refuses to start: its exit code, and what it printed."""

import asyncio
import signal

from support.forked import fork
from support.waiting import PATIENCE


async def refused(*options: str) -> tuple[int, str]:
    """The exit code of a service that cannot start, and what it says."""
    process = await fork("serve", *options)
    try:
        async with asyncio.timeout(PATIENCE):
            out, said = await process.communicate()
    finally:
        process.kill()
        code = await process.wait()
    assert out == b""
    return code, said.decode()


def assert_one_plain_line(refusal: tuple[int, str], *words: str) -> None:
    code, said = refusal
    assert code not in (0, -signal.SIGKILL)
    assert said.count("\n") == 1, said
    assert said.endswith("\n")
    assert "Traceback" not in said
    for word in words:
        assert word in said
