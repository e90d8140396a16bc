"""Lines among a tool's own that something else wrote: a shell, a provider's log, a wrapper."""

import re
from collections.abc import Mapping

import msgspec

#: Before the tool's first line so many other lines are kept, of so many bytes together.
KEPT = 1_000
KEPT_BYTES = 256 * 1024

#: The characters of the first line that an error shows.
_SHOWN = 60

#: The members of a line in JSON that hold its text.
_TEXTS = ("@message", "message", "msg", "log")

_BLOCKS = {"{": "}", "[": "]"}

_LOOKS = (
    (
        re.compile(r'"format_version"\s*:'),
        "this is a plan or a state, not a run: give plans to deploylog ingest plan",
    ),
    (
        re.compile(
            r"(?:Terraform|OpenTofu) (?:will perform|used the selected)|: (?:Creating|Destroying"
            r"|Modifying|Refreshing state)\.\.\.|^(?:Apply|Destroy) complete!|^Plan: [0-9]+ to "
        ),
        "this is the text for people: run the tool with -json",
    ),
)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One other line, or some that belong together."""

    #: The number of the last.
    number: int
    message: str
    #: Who wrote it and how important it is, if it says so.
    module: str | None = None
    level: str | None = None


class OtherLines:
    """Takes the other lines of a run, and keeps those that come before the run has begun.

    A document in JSON is named only, never copied: it may be a plan or a state, with secrets.
    """

    def __init__(self) -> None:
        """Begin before the first line."""
        #: What came, in words, once it looks like something.
        self._looks_like: str | None = None
        self._first: str | None = None
        self._kept: list[Said] = []
        self._bytes = 0
        self._left_out = 0
        self._block_end: str | None = None
        self._block_lines = 0

    @property
    def came(self) -> bool:
        """Whether there was any that is not blank."""
        return self._first is not None

    @property
    def instead(self) -> str:
        """What came instead of a run, in words."""
        if self._first is None:
            return "nothing came in"
        shown = self._first[:_SHOWN]
        return self._looks_like or (
            "nothing came in that terraform apply -json would say; the first line begins with"
            f" {shown!r}"
        )

    def take(self, text: str, fields: Mapping[str, object], *, number: int) -> Said | None:
        """What the line says, ``fields`` being the JSON object in it; nothing if it is blank, or
        within a document that has not ended.
        """
        line = text.rstrip()
        if not line:
            return None
        self._look_at(line)
        if self._block_end is not None:
            return self._go_on(line, number)
        if line in _BLOCKS:
            self._block_end, self._block_lines = _BLOCKS[line], 1
            return None
        if not fields:
            return Said(number=number, message=line)
        return Said(
            number=number,
            message=_message(fields),
            module=_text(fields.get("@module")),
            level=_text(fields.get("@level")),
        )

    def _look_at(self, line: str) -> None:
        if self._first is None:
            self._first = line.strip()
        if self._looks_like is None:
            looks = (what for pattern, what in _LOOKS if pattern.search(line))
            self._looks_like = next(looks, None)

    def _go_on(self, line: str, number: int) -> Said | None:
        self._block_lines += 1
        return self.end_block(number) if line == self._block_end else None

    def end_block(self, number: int) -> Said | None:
        """The document that is under way, if there is one: it ends here."""
        if self._block_end is None:
            return None
        self._block_end = None
        return Said(number=number, message=f"(JSON in {self._block_lines} lines)")

    def keep(self, said: Said) -> None:
        """Keep it until the run has begun; the oldest make room for more."""
        self._kept.append(said)
        self._bytes += len(said.message)
        while len(self._kept) > KEPT or self._bytes > KEPT_BYTES:
            self._bytes -= len(self._kept.pop(0).message)
            self._left_out += 1

    def release(self) -> list[Said]:
        """What was kept."""
        kept, self._kept = self._kept, []
        if self._left_out:
            left_out = Said(number=0, message=f"({self._left_out} more lines before these)")
            kept, self._left_out = [left_out, *kept], 0
        return kept


def _message(fields: Mapping[str, object]) -> str:
    said = next((text for name in _TEXTS if (text := _text(fields.get(name)))), None)
    return said or f"(JSON: {', '.join(sorted(fields))[:200]})"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
