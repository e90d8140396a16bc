"""Redaction of secrets in lines of output, by their form and by their value.

A pattern finds what is written as secrets usually are. It cannot find every secret: a command that
prints one in another form should not record its output.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from deploylog.deployments.changeset import SENSITIVE

#: Shorter values of environment variables are words rather than secrets.
MIN_SECRET_LENGTH = 8

#: Each replaces its last group, or all of the match if it has none. Repetitions are bounded, so
#: that no line takes long.
PATTERNS: tuple[re.Pattern[str], ...] = (
    # Tokens whose form says what they are.
    re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|glpat-[\w-]{20,255}"
        r"|xox[abeprs]-[\w-]{10,255}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|npm_[A-Za-z0-9]{36}"
        r"|[sr]k_(?:live|test)_\w{16,255}|hvs\.[\w-]{20,255}|pul-[0-9a-f]{40})\b"
    ),
    re.compile(r"\beyJ[\w-]{8,4096}\.[\w-]{8,4096}\.[\w-]{0,4096}"),
    re.compile(r"(?i)\b(?:bearer|basic)\s{1,4}([\w.~+/=-]{8,4096})"),
    # Passwords in URLs.
    re.compile(r"://[^\s/:@]{0,256}:([^\s/@]{1,512})@"),
    # name=value and "name": "value".
    re.compile(
        r"(?i)(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
        r"|credential|authorization)[\w.-]{0,40}[\"']?\s{0,4}[=:]\s{0,4}"
        r"(\"[^\"]{1,4096}\"|'[^']{1,4096}'|[^\s,;&\"']{1,4096})"
    ),
)

_SECRET_NAME = re.compile(
    r"(?i)passw(?:or)?d|passphrase|secret|token|credential|private_?key|access_?key|api_?key|_key$"
)

_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY-----")
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,32}PRIVATE KEY-----")


def secrets_in(environ: Mapping[str, str]) -> list[str]:
    """The values of environment variables whose names say that they are secrets."""
    return [
        value
        for name, value in environ.items()
        if _SECRET_NAME.search(name) and len(value) >= MIN_SECRET_LENGTH
    ]


class LineRedactor:
    """Replaces secrets in the lines of one stream, in order."""

    def __init__(self, *, secrets: Iterable[str] = (), patterns: Sequence[re.Pattern[str]] = ()):
        """``secrets`` are values; ``patterns`` are more than ``PATTERNS``."""
        values = sorted({line for value in secrets for line in value.splitlines()}, key=len)
        known = [re.escape(each) for each in reversed(values) if len(each) >= MIN_SECRET_LENGTH]
        first = (re.compile("|".join(known)),) if known else ()
        self._patterns = (*first, *patterns, *PATTERNS)
        self._in_key = False

    def line(self, text: str) -> str:
        """``text`` without secrets."""
        if self._in_key or _KEY_BEGINS.search(text):
            self._in_key = not _KEY_ENDS.search(text)
            return SENSITIVE
        for pattern in self._patterns:
            text = pattern.sub(_redacted, text)
        return text


def _redacted(match: re.Match[str]) -> str:
    if not match.re.groups or match[match.re.groups] is None:
        return SENSITIVE
    start, end = match.span(match.re.groups)
    return f"{match.string[match.start() : start]}{SENSITIVE}{match.string[end : match.end()]}"
