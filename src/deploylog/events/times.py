"""Times: integers of ns since 1970 (UTC) inside, RFC 3339 outside."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from msgspec import Meta

from deploylog.errors import InvalidInput

#: RFC 3339, as JSON has it.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

#: The last time that a store can hold, in the year 2262.
LATEST = (1 << 63) - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9})[0-9]*)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

_AGO = re.compile(r"-?([0-9]{1,9})([smhd])")

_UNITS = {"s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}


def parse_time(text: str) -> int:
    """Parse an RFC 3339 time to ns; digits beyond ns are cut off. Raises InvalidInput.

    A leap second becomes the last ns before it: it stays after second 59 and before the next day.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"{text[:64]!r} is not an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z",
            field="time",
        )
    whole, fraction, offset = match.groups()
    if whole.endswith(":60"):
        return _leap_second(whole, offset)
    return _whole_second(whole, offset) + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=8192)
def _whole_second(text: str, offset: str) -> int:
    """Parse a time without a fraction: many events share a second."""
    try:
        time = datetime.fromisoformat(text[:10] + "T" + text[11:] + offset.upper())
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not a time: {error}", field="time") from error
    return (time - _EPOCH) // timedelta(seconds=1) * SECOND


def _leap_second(text: str, offset: str) -> int:
    end = _whole_second(f"{text[:-2]}59", offset) + SECOND
    if end % (86_400 * SECOND):
        message = f"{text!r} is not a time: only a day's last minute in UTC has a second 60"
        raise InvalidInput(message, field="time")
    return end - 1


def parse_time_or_ago(text: str, *, now: int) -> int:
    """Parse an RFC 3339 time, or a time ago: ``15m``, ``2h``, ``7d``, also ``-30s``."""
    if match := _AGO.fullmatch(text):
        return now - int(match[1]) * _UNITS[match[2]]
    try:
        return parse_time(text)
    except InvalidInput as error:
        raise InvalidInput(f"{error.message}, or a time ago, such as 15m, 2h or 7d") from error


def parse_duration(text: str) -> int:
    """Parse a duration such as ``30d`` or ``12h`` to ns; raises InvalidInput."""
    match = _AGO.fullmatch(text)
    if match is None or text.startswith("-") or not int(match[1]):
        raise InvalidInput(f"{text[:64]!r} is not a duration, such as 30d or 12h")
    return int(match[1]) * _UNITS[match[2]]


def render_time(ns: int) -> str:
    """Render RFC 3339 in UTC, with six digits of a second, or nine where they are needed."""
    seconds, fraction = divmod(ns, SECOND)
    digits = f"{fraction:09d}"
    return f"{_second(seconds)}.{digits[:6] if digits.endswith('000') else digits}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
