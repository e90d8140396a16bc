"""Lines in the output that are not of the UI: from a shell, a provider's log, a wrapper."""

import re
from collections.abc import Mapping

import msgspec

#: Maximum number of lines buffered before the first UI line, and of their characters together.
MAX_BUFFERED = 1_000
MAX_BUFFERED_BYTES = 256 * 1024

#: Length of the excerpt of the first line in an error.
_EXCERPT_LENGTH = 60

#: Members of a JSON line that may contain its message.
_MESSAGE_FIELDS = ("@message", "message", "msg", "log")

_BLOCKS = {"{": "}", "[": "]"}

_RECOGNIZED = (
    (
        re.compile(r'"format_version"\s*:'),
        "this is a plan or a state, not a run: give plans to deploylog ingest plan",
    ),
    (
        re.compile(
            r"(?:Terraform|OpenTofu) (?:will perform|used the selected)|: (?:Creating|Destroying"
            r"|Modifying|Refreshing state)\.\.\.|^(?:Apply|Destroy) complete!|^Plan: [0-9]+ to "
        ),
        "this is human-readable output: run the tool with -json",
    ),
)


class OtherLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line, or the lines of one JSON document."""

    #: The number of the last line.
    number: int
    message: str
    #: Module and level, if stated.
    module: str | None = None
    level: str | None = None


class OtherLines:
    """Parses other lines, and buffers those before the first UI line.

    A JSON document is mentioned, never copied: it may be a plan or a state, with secrets.
    """

    def __init__(self) -> None:
        #: What the input is, once recognized.
        self._recognized: str | None = None
        self._first: str | None = None
        self._buffered: list[OtherLine] = []
        self._bytes = 0
        self._dropped = 0
        self._block_end: str | None = None
        self._block_lines = 0

    @property
    def has_any(self) -> bool:
        """Whether there was a line that is not blank."""
        return self._first is not None

    @property
    def description(self) -> str:
        """What arrived instead of a run."""
        if self._first is None:
            return "no input"
        excerpt = self._first[:_EXCERPT_LENGTH]
        return self._recognized or (
            "the input has no line of terraform apply -json; its first line starts with"
            f" {excerpt!r}"
        )

    def parse(self, text: str, fields: Mapping[str, object], *, number: int) -> OtherLine | None:
        """Parse a line with the JSON object ``fields``; ``None`` if it is blank, or inside a JSON
        document.
        """
        line = text.rstrip()
        if not line:
            return None
        self._recognize(line)
        if self._block_end is not None:
            return self._continue_block(line, number)
        if line in _BLOCKS:
            self._block_end, self._block_lines = _BLOCKS[line], 1
            return None
        if not fields:
            return OtherLine(number=number, message=line)
        return OtherLine(
            number=number,
            message=_message(fields),
            module=_text(fields.get("@module")),
            level=_text(fields.get("@level")),
        )

    def _recognize(self, line: str) -> None:
        if self._first is None:
            self._first = line.strip()
        if self._recognized is None:
            matches = (what for pattern, what in _RECOGNIZED if pattern.search(line))
            self._recognized = next(matches, None)

    def _continue_block(self, line: str, number: int) -> OtherLine | None:
        self._block_lines += 1
        return self.end_block(number) if line == self._block_end else None

    def end_block(self, number: int) -> OtherLine | None:
        """Close the JSON document at this line, if one is open."""
        if self._block_end is None:
            return None
        self._block_end = None
        return OtherLine(number=number, message=f"(JSON in {self._block_lines} lines)")

    def buffer(self, line: OtherLine) -> None:
        """Buffer a line; drops the oldest beyond the limits."""
        self._buffered.append(line)
        self._bytes += len(line.message)
        while len(self._buffered) > MAX_BUFFERED or self._bytes > MAX_BUFFERED_BYTES:
            self._bytes -= len(self._buffered.pop(0).message)
            self._dropped += 1

    def drain(self) -> list[OtherLine]:
        """Return the buffered lines, and clear the buffer."""
        buffered, self._buffered = self._buffered, []
        if self._dropped:
            dropped = OtherLine(number=0, message=f"({self._dropped} more lines before these)")
            buffered, self._dropped = [dropped, *buffered], 0
        return buffered


def _message(fields: Mapping[str, object]) -> str:
    message = next((text for name in _MESSAGE_FIELDS if (text := _text(fields.get(name)))), None)
    return message or f"(JSON: {', '.join(sorted(fields))[:200]})"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
