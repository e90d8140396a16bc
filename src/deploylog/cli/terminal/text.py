"""Text that is safe to print: an event can come from anywhere."""

import re

# Left in, an escape sequence could rewrite the screen, and a directional mark could reverse text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_BREAKS = re.compile(r"[\t\n\u2028\u2029]")


def plain(text: str | None) -> str:
    """Return ``text`` with control characters replaced."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text or "")


def one_line(text: str | None) -> str:
    """Return ``text`` with control characters and line breaks replaced."""
    return _BREAKS.sub("\N{REPLACEMENT CHARACTER}", plain(text))
