"""A run of any command: each line of its output is an event, and its exit code ends it."""

import re
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec

from deploylog.events.event import NewEvent, is_reserved
from deploylog.ingest.terraform.lines import decode_line, is_ui_line
from deploylog.ingest.terraform.other_lines import recognize
from deploylog.ingest.terraform.plan_text import ANSI
from deploylog.ingest.terraform.run import UNKNOWN_RESULT, TerraformRun

#: The lines that are recorded from the start of the output, and their characters together.
MAX_LINES = 10_000
MAX_CHARACTERS = 4 * 1024 * 1024
#: Of what exceeds these, the last lines are recorded.
MAX_LAST_LINES = 100
#: Characters of one line.
MAX_LINE_LENGTH = 4096

Stream = Literal["stdout", "stderr"]

_NOT_IN_A_SOURCE = re.compile(r"[^A-Za-z0-9._-]+")

#: The source of a command whose name is reserved or has no usable character.
_OTHER_SOURCE = "deploylog-client"

#: Shells exit with this and the number of the signal that ended a command.
_SIGNALLED = 128


def _same(text: str) -> str:
    return text


class CommandRun:
    """Turns the output of one command into events.

    If a line of Terraform's JSON arrives, the command runs Terraform: the rest of its output is
    read as such. The events have no scopes yet.
    """

    def __init__(
        self,
        *,
        deployment_id: str,
        tool: str,
        operation: str | None,
        redact: Callable[[str], str] = _same,
    ) -> None:
        """``deployment_id`` prefixes the id of every event; ``redact`` gets each line."""
        self._deployment_id = deployment_id
        self._tool = tool
        self._source = _source_of(tool)
        self._operation = operation
        self._redact = redact
        self._terraform = TerraformRun(deployment_id=deployment_id)
        self._lines = 0
        self._recorded = 0
        self._characters = 0
        self._last: deque[NewEvent] = deque(maxlen=MAX_LAST_LINES)
        self._omitted = 0
        #: Why Terraform's output cannot be read, once a line shows that.
        self._unreadable: str | None = None
        #: The last line of standard error that is not blank.
        self._complaint: str | None = None

    @property
    def tool(self) -> str:
        return self._tool

    @property
    def runs_terraform(self) -> bool:
        """Whether a line of Terraform's JSON has arrived."""
        return self._terraform.has_started

    @property
    def has_started(self) -> bool:
        """Whether the output says what was done, as far as is known."""
        return self._unreadable is None or self.runs_terraform

    @property
    def unrecognized_input(self) -> str:
        """What the output is, if it is Terraform's but not its JSON."""
        return self._unreadable or ""

    def feed(self, line: bytes, *, now: int, stream: Stream = "stdout") -> list[NewEvent]:
        """Return the events of the next line."""
        if stream == "stdout" and self._is_terraform(line):
            return self._terraform.feed(line, now=now)
        self._lines += 1
        text = _text_of(line)
        if not text:
            return []
        if self._unreadable is None and stream == "stdout":
            self._unreadable = recognize(text)
        message = self._redact(text)
        if stream == "stderr":
            self._complaint = message
        return self._bounded(self._log(message, stream, now))

    def _is_terraform(self, line: bytes) -> bool:
        if self._terraform.has_started:
            return True
        if b'{"@' not in line:
            return False
        fields, _ = decode_line(line.decode("utf-8-sig", errors="replace"))
        return is_ui_line(fields)

    def _bounded(self, event: NewEvent) -> list[NewEvent]:
        """The event, or none if it must wait: too many were recorded."""
        size = len(event.message or "")
        if self._recorded < MAX_LINES and self._characters + size <= MAX_CHARACTERS:
            self._recorded += 1
            self._characters += size
            return [event]
        self._omitted += len(self._last) == MAX_LAST_LINES
        self._last.append(event)
        return []

    def _log(self, message: str, stream: Stream, now: int) -> NewEvent:
        return self._event(
            f"output/{self._lines}", "deployment.log", now, message, {"stream": stream}
        )

    def close(self, *, now: int, exit_code: int | None) -> list[NewEvent]:
        """Return the events of the end; the last one ends the deployment."""
        last = [*self._omission(now), *self._last]
        if self._terraform.has_started:
            return [*last, *self._terraform.close(now=now, exit_code=exit_code)]
        return [*last, *self._unknown(now), self._end(now, exit_code)]

    def _unknown(self, now: int) -> list[NewEvent]:
        if self._unreadable is None:
            return []
        # Otherwise readers would take counts of zero for the result.
        return [self._event("end/unknown", "deployment.log", now, UNKNOWN_RESULT, None)]

    def _omission(self, now: int) -> list[NewEvent]:
        if not self._omitted:
            return []
        message = f"({self._omitted} lines are not recorded)"
        return [self._event("output/omitted", "deployment.log", now, message, None)]

    def _end(self, now: int, exit_code: int | None) -> NewEvent:
        has_completed = exit_code == 0
        message = f"{self._tool} {_ended(exit_code)}"
        if not has_completed and self._complaint is not None:
            message = f"{message}: {self._complaint}"
        data: dict[str, object] = {"operation": self._operation, "exit_code": exit_code}
        type_ = "deployment.completed" if has_completed else "deployment.failed"
        return self._event("end", type_, now, message, data)

    def _event(
        self, id: str, type_: str, time: int, message: str, data: dict[str, object] | None
    ) -> NewEvent:
        return NewEvent(
            type=type_,
            source=self._source,
            scopes=(),
            time=time,
            producer_id=f"{self._deployment_id}/{id}",
            message=message,
            data=msgspec.Raw(msgspec.json.encode(data)) if data is not None else None,
        )


def _text_of(line: bytes) -> str:
    """The line without colors and controls; after a carriage return a line is written anew."""
    text = ANSI.sub(b"", line).decode("utf-8", errors="replace").rstrip()
    text = text.rpartition("\r")[2].replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= MAX_LINE_LENGTH:
        return text
    return f"{text[:MAX_LINE_LENGTH]}… ({len(text) - MAX_LINE_LENGTH} more characters)"


def _ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code > _SIGNALLED:
        with suppress(ValueError):
            name = signal.Signals(exit_code - _SIGNALLED).name
            return f"was ended by {name} (exit code {exit_code})"
    return f"ended with exit code {exit_code}"


def _source_of(tool: str) -> str:
    source = _NOT_IN_A_SOURCE.sub("-", tool)[:64].strip("-")
    return source if source and not is_reserved(source) else _OTHER_SOURCE
