"""Untrusted text in Slack's mrkdwn, within Slack's limits.

Only ``&``, ``<`` and ``>`` are escaped, as Slack documents, so that no text can mention a user or
become a link. Lengths are UTF-16 units after escaping, at least as many as Slack counts.
"""

import re

from deploylog.events.times import SECOND, render_time

#: Marks truncated text.
ELLIPSIS = "…"

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}

#: Control characters except tab and line feed, bidirectional controls, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: A zero-width space, which keeps two backticks apart.
_SEPARATOR = "\u200b"


def width(text: str) -> int:
    """The length in UTF-16 units."""
    return len(text) + sum(character > "\uffff" for character in text)


def escape(text: str, *, limit: int) -> str:
    """Escape ``text``, truncated to ``limit`` units with an ellipsis."""
    return "".join(split(text, limit=limit, max_pieces=1))


def split(text: str, *, limit: int, max_pieces: int) -> list[str]:
    """Escape ``text``, and split it into at most ``max_pieces`` of at most ``limit`` units.

    A piece ends with a line if possible, and never within a character or an escape. The last piece
    ends with an ellipsis if the text is truncated.
    """
    rest = _UNSAFE.sub("\ufffd", text.replace("\r\n", "\n"))
    pieces: list[str] = []
    while rest and len(pieces) < max_pieces:
        is_last = len(pieces) == max_pieces - 1
        piece, rest = _first(rest, limit, is_last=is_last)
        pieces.append(piece)
    return pieces


def code(text: str, *, limit: int = 200) -> str:
    """``text`` as a code span of one line, truncated to ``limit`` units."""
    one_line = " ".join(text.replace("`", "\u02cb").split())
    return f"`{escape(one_line, limit=limit) or '-'}`"


def code_blocks(text: str, *, limit: int, max_blocks: int) -> list[str]:
    """``text`` as at most ``max_blocks`` code blocks of at most ``limit`` units."""
    harmless = text.strip().replace("``", f"`{_SEPARATOR}`")
    return [
        f"```\n{piece}\n```"
        for piece in split(harmless, limit=limit - len("```\n\n```"), max_pieces=max_blocks)
    ]


#: Longer URLs, escaped, are not shown.
MAX_URL = 1000


def link(url: str | None, text: str) -> str:
    """A link to an HTTP URL, if there is one; ``text`` is our own."""
    target = _escaped((url or "").replace("|", "%7C"))
    return f"<{target}|{text}>" if target and width(target) <= MAX_URL else ""


def timestamp(ns: int) -> str:
    """A time, which Slack shows in the reader's time zone."""
    seconds = ns // SECOND
    fallback = f"{render_time(seconds * SECOND)[:16]}Z".replace("T", " ")
    return f"<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{fallback}>"


def _first(text: str, limit: int, *, is_last: bool) -> tuple[str, str]:
    """The first piece of ``text``, escaped, and the rest."""
    fitting = _fitting(text, limit)
    if fitting == len(text):
        return _escaped(text), ""
    if is_last:
        truncated = text[: _fitting(text, limit - len(ELLIPSIS))]
        return _escaped(truncated) + ELLIPSIS, ""
    line = text.rfind("\n", fitting // 2, fitting)
    end = line + 1 if line >= 0 else fitting
    return _escaped(text[:end]), text[end:]


def _fitting(text: str, limit: int) -> int:
    """How many characters of ``text`` fit into ``limit`` units, escaped."""
    units = 0
    for number, character in enumerate(text[:limit]):
        units += len(_ESCAPES.get(character, "x")) + (character > "\uffff")
        if units > limit:
            return number
    return min(len(text), limit)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
