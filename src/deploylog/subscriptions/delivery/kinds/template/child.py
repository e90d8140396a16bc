"""The process that renders templates: one task a line, one answer a line."""

import resource
import sys
import traceback

import msgspec

from deploylog.subscriptions.delivery.kinds.template.environment import render
from deploylog.subscriptions.delivery.kinds.template.process import Rendered, Task

#: Bytes of memory of the process, and of a rendered text.
_MAX_MEMORY = 512 * 1024 * 1024
MAX_TEXT = 256 * 1024

#: Characters of an error.
_MAX_ERROR = 300


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    decoder = msgspec.json.Decoder(Task)
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(answer(decoder.decode(line))) + b"\n")
        sys.stdout.buffer.flush()


def answer(task: Task) -> Rendered:
    """Render a task. Anything can go wrong in a template, and all of it is the user's to mend."""
    try:
        text = render(task.template, task.values)
    except Exception as error:
        return Rendered(error=f"template: {_place(error)}{_describe(error)[:_MAX_ERROR]}")
    if len(text.encode("utf-8", "replace")) > MAX_TEXT:
        return Rendered(error=f"template: the text exceeds {MAX_TEXT} bytes")
    return Rendered(text=text)


def _place(error: Exception) -> str:
    """Where in the template: Jinja puts its lines into the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
    return f"line {lines[-1]}: " if lines else ""


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__


if __name__ == "__main__":
    main()
