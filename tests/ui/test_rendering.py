"""How values appear on pages."""

import re

import pytest

from deploylog.events.times import SECOND, parse_time
from deploylog.ui.rendering import TEMPLATES, duration, latency, make_environment, time_element

NANOSECONDS = parse_time("2026-01-31T12:00:00.25Z")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.96, "10.0 s"),
        (12.9, "12 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
        (-5, "0.0 s"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str):
    assert duration(int(seconds * SECOND)) == text


def test_a_latency_has_milliseconds():
    assert [latency(int(ms * 1e6)) for ms in (0, 2.4, 999, 1_500)] == [
        "0 ms",
        "2 ms",
        "999 ms",
        "1.5 s",
    ]


def test_a_time_is_machine_readable_and_in_utc_until_the_script_runs():
    element = time_element(NANOSECONDS)

    assert 'datetime="2026-01-31T12:00:00.250000Z"' in element
    assert 'title="2026-01-31 12:00:00 UTC">2026-01-31 12:00:00 UTC<' in element


def test_every_value_is_escaped():
    template = make_environment().from_string("<p title={{ x }}>{{ x }}</p>")

    assert (
        template.render(x='"><script>')
        == "<p title=&#34;&gt;&lt;script&gt;>&#34;&gt;&lt;script&gt;</p>"
    )


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.name)
def test_a_template_switches_off_no_escaping_and_has_nothing_inline(path):
    text = path.read_text(encoding="utf-8")

    assert not re.search(r"\|\s*safe|autoescape|Markup", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r"<script(?![^>]* src=)", text)
    assert not re.search(r"\s[\w-]+=\{\{", text), "an attribute without quotes"
