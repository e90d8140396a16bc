"""Rendering the templates of users, in a process of its own that can be killed.

The sandbox keeps a template from everything but its values. It limits neither time nor memory: a
nested loop runs for days, and a string that is repeated fills the machine. So the process has a
limit on its memory, and is killed when it takes too long.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from deploylog.subscriptions.delivery.kinds.kind import TemplateFailed

#: Seconds for one template, and for the start of the process.
RENDER_SECONDS = 1.0
START_SECONDS = 30.0

#: Bytes of one line between the processes: the values of a template, or what it rendered.
_MAX_LINE = 8 * 1024 * 1024

_COMMAND = (sys.executable, "-m", "deploylog.subscriptions.delivery.kinds.template.child")


class Task(msgspec.Struct, frozen=True):
    """A template and its values."""

    template: str
    values: dict[str, Any]


class Rendered(msgspec.Struct, frozen=True):
    """What became of a task: a text, or an error."""

    text: str = ""
    error: str = ""


class TemplateProcess:
    """Renders one template at a time; ``open_templates`` opens one."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def render(self, template: str, values: dict[str, Any]) -> str:
        """Render a template; raises TemplateFailed."""
        async with self._turn:
            answer = await self._exchange(Task(template, values))
        if answer.error:
            raise TemplateFailed(answer.error)
        return answer.text

    async def _exchange(self, task: Task) -> Rendered:
        is_answered = False
        try:
            process = await self._started()
            async with asyncio.timeout(RENDER_SECONDS):
                answer = await _ask(process, task)
            is_answered = True
        except TimeoutError:
            raise TemplateFailed(f"template: not rendered within {RENDER_SECONDS:g} s") from None
        except (OSError, EOFError, ValueError) as error:
            raise TemplateFailed("template: rendering it failed") from error
        finally:
            # What is still to come would be taken for the answer to the next task.
            if not is_answered:
                await self.close()
        return answer

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                *_COMMAND,
                stdin=pipe,
                stdout=pipe,
                limit=_MAX_LINE,
                start_new_session=True,
                # No other variable: they may hold secrets of the service.
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
            )
            async with asyncio.timeout(START_SECONDS):
                await _ask(self._process, Task("", {}))
        return self._process

    async def close(self) -> None:
        """Kill the process, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _ask(process: asyncio.subprocess.Process, task: Task) -> Rendered:
    """Send a task, and wait for the answer; raises EOFError, OSError or ValueError."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(task) + b"\n")
    await process.stdin.drain()
    line = await process.stdout.readuntil(b"\n")
    return msgspec.json.decode(line, type=Rendered)


@asynccontextmanager
async def open_templates() -> AsyncIterator[TemplateProcess]:
    """Open what renders templates; its process starts with the first of them."""
    templates = TemplateProcess()
    try:
        yield templates
    finally:
        await templates.close()
