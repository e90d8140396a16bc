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


def timestamp(ns: int) -> str:
    """A time, which Slack shows in the reader's time zone."""
    seconds = ns // SECOND
    fallback = f"{render_time(seconds * SECOND)[:16]}Z".replace("T", " ")
    return f"<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{fallback}>"


def duration(ns: int) -> str:
    """``850 ms``, ``42 s``, ``3 min 5 s`` or ``2 h 7 min``."""
    if ns < SECOND:
        return f"{max(ns, 0) // 1_000_000} ms"
    minutes, seconds = divmod(ns // SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


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
