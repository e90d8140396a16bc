"""Text for Slack: untrusted words within its mrkdwn, and within its limits.

Only ``&``, ``<`` and ``>`` are escaped, as Slack asks for; so nothing in a text can mention
anybody or be a link. Lengths are counted in UTF-16 units after escaping, which is never less than
what Slack counts.
"""

import re

from deploylog.events.times import SECOND, render_time

#: What shows that something was left out.
ELLIPSIS = "…"

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}

#: Control characters but tab and line feed, what turns the direction of text, and halves of
#: characters that have no other half.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: Takes no room, so that two backticks are not one sign.
_BETWEEN = "\u200b"


def width(text: str) -> int:
    """Its length in UTF-16 units."""
    return len(text) + sum(character > "\uffff" for character in text)


def escape(text: str, *, most: int) -> str:
    """``text`` escaped, cut to so many units; where it is cut stands an ellipsis."""
    return "".join(split(text, most=most, pieces=1))


def split(text: str, *, most: int, pieces: int) -> list[str]:
    """``text`` escaped, in so many pieces at most, each of so many units at most.

    Broken after a line where there is one, never within a character or an escape; an ellipsis at
    the end shows that there was more.
    """
    rest = _UNSHOWN.sub("\ufffd", text.replace("\r\n", "\n"))
    made: list[str] = []
    while rest and len(made) < pieces:
        is_last = len(made) == pieces - 1
        piece, rest = _first(rest, most, is_last=is_last)
        made.append(piece)
    return made


def code(text: str, *, most: int = 200) -> str:
    """``text`` as a code span of one line, cut to so many units."""
    one_line = " ".join(text.replace("`", "\u02cb").split())
    return f"`{escape(one_line, most=most) or '-'}`"


def code_blocks(text: str, *, most: int, pieces: int) -> list[str]:
    """``text`` as so many code blocks at most, each of so many units at most."""
    harmless = text.strip().replace("``", f"`{_BETWEEN}`")
    return [
        f"```\n{piece}\n```"
        for piece in split(harmless, most=most - len("```\n\n```"), pieces=pieces)
    ]


def moment(ns: int) -> str:
    """A time, which Slack shows in the reader's own zone."""
    seconds = ns // SECOND
    plain = f"{render_time(seconds * SECOND)[:16]}Z".replace("T", " ")
    return f"<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{plain}>"


def duration(ns: int) -> str:
    """``850 ms``, ``42 s``, ``3 min 5 s`` or ``2 h 7 min``."""
    if ns < SECOND:
        return f"{max(ns, 0) // 1_000_000} ms"
    minutes, seconds = divmod(ns // SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _first(text: str, most: int, *, is_last: bool) -> tuple[str, str]:
    """The first piece of ``text``, escaped, and the rest."""
    fitting = _fitting(text, most)
    if fitting == len(text):
        return _escaped(text), ""
    if is_last:
        kept = text[: _fitting(text, most - len(ELLIPSIS))]
        return _escaped(kept) + ELLIPSIS, ""
    line = text.rfind("\n", fitting // 2, fitting)
    end = line + 1 if line >= 0 else fitting
    return _escaped(text[:end]), text[end:]


def _fitting(text: str, most: int) -> int:
    """How many characters of ``text`` have so many units at most, escaped."""
    units = 0
    for number, character in enumerate(text[:most]):
        units += len(_ESCAPES.get(character, "x")) + (character > "\uffff")
        if units > most:
            return number
    return min(len(text), most)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
