"""Plans in the text that people send: shells, CI systems and wrappers add lines and prefixes."""

import re
from collections.abc import Iterator

import msgspec

#: The escape sequences of terminals. JSON holds none: it writes control characters in ASCII.
ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")

#: Maximum number of braces within a prefix.
_BRACES = 4

#: The most characters before the JSON of a line.
_LONGEST_PREFIX = 1_024

_DIGITS = re.compile(rb"[0-9]+")


class _Document(msgspec.Struct, frozen=True):
    """An object in the text: a plan, a state, or a line of a log that may hold one."""

    format_version: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    msg: str | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)


def plans_in(text: bytes) -> list[bytes]:
    """The JSON documents of ``text``, each in one line or in many, that say their format.

    Each line may have a prefix, and other lines may stand around them.
    """
    lines = ANSI.sub(b"", text).splitlines()
    return [*_in_one_line(lines)] or [*_in_many_lines(lines)]


def _in_one_line(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        for candidate in _objects_of(line):
            try:
                document = _DOCUMENT.decode(candidate)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                continue
            if document.format_version is not msgspec.UNSET:
                yield candidate
            elif document.msg is not None:
                # Terragrunt's log in JSON holds what the tool says in a text.
                yield from _in_one_line([document.msg.encode()])
            break


def _objects_of(line: bytes) -> Iterator[bytes]:
    """What may be the JSON object of a line, with and without what looks like a prefix."""
    end, start = line.rfind(b"}") + 1, -1
    for _ in range(_BRACES):
        start = line.find(b"{", start + 1, _LONGEST_PREFIX)
        if start < 0 or end <= start:
            return
        yield line[start:end]


def _in_many_lines(lines: list[bytes]) -> Iterator[bytes]:
    """Documents that begin and end with a brace of their own line, as jq prints them."""
    place = 0
    while place < len(lines):
        prefix = _prefix(lines[place])
        place += 1
        if prefix is None:
            continue
        document, end = [b"{"], place
        for line in lines[place:]:
            end += 1
            rest = prefix.sub(b"", line, count=1)
            document.append(rest)
            if rest.rstrip() == b"}":
                yield from _in_one_line([b" ".join(document)])
                place = end
                break


def _prefix(line: bytes) -> re.Pattern[bytes] | None:
    """What stands before the brace that a document begins with, whichever numbers are in it."""
    prefix = line.rstrip().removesuffix(b"{")
    if len(prefix) == len(line.rstrip()) or len(prefix) > _LONGEST_PREFIX or b'"' in prefix:
        return None
    return re.compile(rb"\A" + rb"[0-9]+".join(map(re.escape, _DIGITS.split(prefix))))
