"""Times: RFC 3339 to ns and back."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.errors import InvalidInput
from deploylog.events.times import SECOND, parse_time, parse_time_or_ago, render_time


@given(ns=st.integers(0, (1 << 63) - 1))
def test_a_time_round_trips(ns: int):
    assert parse_time(render_time(ns)) == ns


@given(
    time=st.datetimes(datetime(1970, 1, 2), datetime(2262, 1, 1)),
    minutes=st.integers(-23 * 60, 23 * 60),
)
def test_an_offset_is_subtracted(time: datetime, minutes: int):
    text = time.replace(tzinfo=timezone(timedelta(minutes=minutes))).isoformat()

    shown = datetime.fromisoformat(render_time(parse_time(text)))
    assert shown == datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_000, "1970-01-01T00:00:00.000001Z"),
        (1_795_234_346_944_050_000, "2026-11-21T04:12:26.944050Z"),
    ],
)
def test_six_digits_are_rendered_or_nine_where_they_are_needed(ns: int, text: str):
    assert render_time(ns) == text


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01t00:00:01z", SECOND),
        ("1970-01-01 00:00:01Z", SECOND),
        ("1970-01-01T01:00:01+01:00", SECOND),
        ("1969-12-31T23:00:01-01:00", SECOND),
        ("1970-01-01T00:00:00.5Z", SECOND // 2),
        ("1970-01-01T00:00:00.1234567899999Z", 123_456_789),
    ],
)
def test_every_form_of_a_time_is_parsed(text: str, ns: int):
    assert parse_time(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60Z", "2016-12-31t23:59:60.5z", "2017-01-01T01:59:60+02:00",
        "2016-12-31T18:29:60-05:30",
    ],
)  # fmt: skip
def test_a_leap_second_is_the_last_ns_before_the_next_day(text: str):
    assert parse_time(text) == parse_time("2017-01-01T00:00:00Z") - 1


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T22:59:60Z", "2016-12-31T23:59:60+01:00", "2016-12-31T23:59:61Z",
        "", "now", "2026-11-21", "2026-11-21T04:12:26", "2026-11-21T04:12Z",
        "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:00+99:99", "2026-01-01T00:00:00.Z", "٢٠٢٦-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\n", "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_an_invalid_time_is_refused(text: str):
    with pytest.raises(InvalidInput) as raised:
        parse_time(text)

    assert raised.value.field == "time"


@given(text=st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[+-][0-9:]{5}"))
def test_text_that_resembles_a_time_is_one_or_refused(text: str):
    with suppress(InvalidInput):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("-30s", 30), ("-15m", 900), ("-2h", 7200), ("-7d", 604_800), ("-0s", 0)]
)
def test_a_time_may_be_a_time_ago(text: str, seconds: int):
    now = parse_time("2026-11-21T04:12:26Z")

    assert parse_time_or_ago(text, now=now) == now - seconds * SECOND


@pytest.mark.parametrize("text", ["15m", "-15", "-m", "-1w", "-1.5h", "- 1h", "-1h "])
def test_an_invalid_time_or_time_ago_is_refused(text: str):
    with pytest.raises(InvalidInput):
        parse_time_or_ago(text, now=0)


def test_now_can_be_rendered():
    now = datetime.now(UTC).replace(microsecond=0)

    assert render_time(int(now.timestamp()) * SECOND) == now.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
