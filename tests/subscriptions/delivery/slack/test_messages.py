"""Slack's messages: within its limits, and harmless, whatever an event holds."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploylog.deployments.catalog import Counts, Deployment
from deploylog.events.event import Event, Resource
from deploylog.subscriptions.delivery.slack.messages import (
    deployment_payload,
    digest_payload,
    event_payload,
    events_payload,
    with_sender,
)
from deploylog.subscriptions.delivery.slack.mrkdwn import (
    code,
    code_blocks,
    duration,
    escape,
    moment,
    split,
    width,
)
from deploylog.subscriptions.subscription import Endpoint
from support.factories import event
from support.fake_slack import problem_of, unescaped

SECOND = 10**9
STARTED = 1_795_000_000 * SECOND
ENDED = STARTED + 7_500 * SECOND

#: What could break out of where it is put.
NASTY = st.text(
    st.one_of(st.sampled_from("&<>`*_~|!@#\n\r\t\u202e\u200b\U0001f600 :"), st.characters()),
    max_size=60,
)
LONG = st.builds(lambda text, times: (text * times)[:65_000], NASTY, st.integers(1, 2000))
NAME = st.one_of(NASTY, st.sampled_from(["&" * 1024, "<" * 1024, "`" * 1024, "😀" * 1024]))
WORD = st.sampled_from(["resource.create.failed", "build.finished", "x" * 1024, "<!channel>", "`"])

EVENTS = st.builds(
    lambda kind, subject, actor, message, resource, elapsed: event(
        type=kind,
        subject=subject,
        actor=actor,
        message=message,
        elapsed=elapsed,
        resource=resource and Resource(type=resource, name=resource, address=resource),
    ),
    WORD,
    st.none() | NAME,
    st.none() | NAME,
    st.none() | LONG,
    st.none() | NAME,
    st.none() | st.integers(0, 2**62),
)


def deployment(**fields: Any) -> Deployment:
    begun: dict[str, Any] = {
        "id": "deployment-1",
        "project": "acme",
        "stack_id": "stack-1",
        "stack": "web",
        "status": "running",
        "started": STARTED,
        "ended": None,
        "tool": "terraform",
        "operation": "apply",
        "environment": "production",
        "actor": "alice",
        "message": None,
        "counts": Counts(),
        "scopes": (),
        "groups": (),
    }
    return Deployment(**(begun | fields))


def shown(payload: dict[str, Any]) -> str:
    """All that a reader sees."""
    return "\n".join(texts(payload))


def texts(payload: dict[str, Any]) -> list[str]:
    objects = [
        each
        for block in payload["blocks"]
        for each in (block["elements"] if "elements" in block else [block["text"]])
    ]
    return [each["text"] for each in objects]


def assert_harmless(payload: dict[str, Any]) -> None:
    assert problem_of(msgspec.json.decode(msgspec.json.encode(payload))) is None
    assert unescaped(payload) == []
    for text in texts(payload):
        if text.startswith("```"):
            assert text.count("```") == 2
            assert text.endswith("\n```")
        else:
            assert text.count("`") % 2 == 0
            assert "``" not in text


@given(EVENTS)
@settings(deadline=None)
def test_whatever_an_event_holds_slack_takes_its_message(event: Event):
    assert_harmless(event_payload(event))


@given(st.lists(EVENTS, min_size=1, max_size=40))
@settings(deadline=None, max_examples=30)
def test_whatever_many_events_hold_slack_takes_their_digest(events: list[Event]):
    assert_harmless(digest_payload(events))
    assert_harmless(events_payload(events))


@given(NAME, st.none() | NAME, st.none() | LONG, st.sampled_from(["running", "failed"]))
@settings(deadline=None)
def test_whatever_a_deployment_is_called_slack_takes_its_message(
    name: str, other: str | None, message: str | None, status: Any
):
    begun = deployment(
        stack=name, project=name, actor=other, environment=other, tool=other, operation=other,
        message=message, status=status,
    )  # fmt: skip

    assert_harmless(deployment_payload(begun, now=begun.started + SECOND))


@given(NASTY, st.text(max_size=200), st.text(max_size=200))
def test_whatever_a_target_is_called_slack_takes_its_name(message: str, name: str, icon: str):
    target = Endpoint(username=name, icon=icon)

    assert_harmless(with_sender(event_payload(event(message=message)), target))


def test_the_worst_messages_are_within_the_limits():
    worst = ["&" * 65_000, "<!channel>" * 6_000, "`" * 65_000, "😀" * 16_000, "\n" * 65_000]
    many = [
        event(type="x" * 1000 + str(number), message=text, actor=text[:1024], subject=text[:1024])
        for number in range(100)
        for text in worst
    ]

    for each in many[:5]:
        assert_harmless(event_payload(each))
    assert_harmless(digest_payload(many))
    assert_harmless(events_payload(many))


def test_an_event_is_told_with_what_it_happened_to_and_by_whom():
    failed = event(
        type="resource.create.failed",
        resource="web",
        actor="alice",
        elapsed=42 * SECOND,
        message="no such zone\nmore",
        time=1_795_000_000 * SECOND,
    )

    payload = event_payload(failed)

    said = shown(payload)
    assert ":x: `resource.create.failed` `terraform_data.web` by `alice` after 42 s" in said
    assert "```\nno such zone\nmore\n```" in said
    assert "<!date^1795000000^" in said
    assert "`project/acme`" in said
    assert payload["text"] == "resource.create.failed terraform_data.web: no such zone"


def test_an_event_that_says_nothing_has_no_colon():
    silent = event(type="state.project.created", subject="acme")

    assert event_payload(silent)["text"] == "state.project.created acme"


def test_a_failure_that_says_nothing_is_named_in_a_digest():
    events = [event(n, type="resource.create.failed", resource="web") for n in range(11)]

    assert ':x: `terraform_data.web`"' in shown(digest_payload(events)).replace("\n", '"')


def test_nobody_can_be_mentioned():
    payload = event_payload(event(message="<!channel> <@U1> & `code`", actor="<!here>"))

    said = shown(payload)
    assert "&lt;!channel&gt; &lt;@U1&gt; &amp; `code`" in said
    assert "by `&lt;!here&gt;`" in said
    assert not payload["unfurl_links"]


def test_a_code_span_cannot_be_ended():
    payload = event_payload(event(actor="a`*b*`", message="```\n<!channel>\n```"))

    assert_harmless(payload)
    assert "by `a\u02cb*b*\u02cb`" in shown(payload)


def test_a_long_message_is_told_in_pieces_broken_after_lines_and_cut_at_the_end():
    message = "".join(f"line {number} & more\n" for number in range(3000))

    blocks = [text for text in texts(event_payload(event(message=message))) if "line" in text]

    assert len(blocks) == 3
    assert [block[:9] for block in blocks] == ["```\nline "] * 3
    assert all(width(block) <= 3000 for block in blocks)
    assert not blocks[0].endswith("…\n```")
    assert blocks[2].endswith("…\n```")


def test_a_digest_counts_and_names_what_failed():
    events = [event(n, type="resource.create.completed", resource=f"r{n}") for n in range(30)]
    events += [event(31, type="resource.create.failed", resource="web", message="no zone\nx")]

    said = shown(digest_payload(events))

    assert "31 events, 1 failed" in said
    assert "30 x `resource.create.completed`" in said
    assert ":x: `terraform_data.web` `no zone`" in said
    assert said.count("<!date^") == 2


def test_a_few_events_are_told_with_the_beginnings_of_what_they_say():
    events = [
        event(n, type="build.failed", subject=f"b{n}", message=f"{n}\n" * 500) for n in (1, 2)
    ]

    payload = events_payload(events)

    said = shown(payload)
    assert payload["text"] == "2 events, 2 failed"
    assert ":x: `build.failed` `b1`" in said
    assert "```\n1\n1\n" in said
    assert "```\n2\n2\n" in said
    assert len(said) < 1500


@pytest.mark.parametrize("number", [1, 2, 10, 11, 500])
def test_any_number_of_the_worst_events_is_one_message(number: int):
    worst = event(
        type="x" * 1000, actor="&" * 1000, subject="<" * 1000, message="&" * 65_000, elapsed=2**62
    )

    assert_harmless(events_payload([worst] * number))


def test_of_many_failures_a_digest_names_some_and_counts_the_rest():
    events = [event(type="resource.create.failed", resource=f"r{n}") for n in range(100)]

    said = shown(digest_payload(events))

    assert said.count(":x:") == 15
    assert "and 85 more failures" in said


@pytest.mark.parametrize(
    ("fields", "sign", "said"),
    [
        ({}, ":hourglass_flowing_sand:", "running for 1 min 2 s"),
        (
            {"status": "completed", "ended": ENDED},
            ":white_check_mark:",
            "completed after 2 h 5 min",
        ),
        ({"status": "failed", "ended": ENDED}, ":x:", "failed after 2 h 5 min"),
    ],
)
def test_a_deployment_is_told_as_it_stands(fields: dict[str, Any], sign: str, said: str):
    begun = deployment(counts=Counts(added=3, failed=1), **fields)

    payload = deployment_payload(begun, now=begun.started + 62 * SECOND)

    text = shown(payload)
    assert f"{sign} *Deployment of* `web` to `production`: {said}" in text
    assert "3 added, 0 changed, 0 destroyed, 1 failed" in text
    assert "`apply with terraform`\nby `alice`\nproject `acme`" in text
    assert said in payload["text"]


def test_what_is_not_known_of_a_deployment_is_left_out():
    begun = deployment(environment=None, actor=None, tool=None, operation=None)

    said = shown(deployment_payload(begun, now=begun.started))

    assert "to `" not in said
    assert "by" not in said
    assert "None" not in said
    assert "``" not in said


@pytest.mark.parametrize(
    ("target", "sender"),
    [
        ({}, {}),
        ({"username": "Deploys"}, {"username": "Deploys"}),
        ({"icon": ":rocket:"}, {"icon_emoji": ":rocket:"}),
        ({"icon": "https://example.org/x.png"}, {"icon_url": "https://example.org/x.png"}),
        ({"icon": ":+1::skin-tone-3:"}, {"icon_emoji": ":+1::skin-tone-3:"}),
        ({"icon": "rocket", "username": "  "}, {}),
        ({"icon": "::"}, {}),
        ({"icon": "javascript:x"}, {}),
    ],
)
def test_a_sender_is_a_name_and_an_icon_and_empty_keys_are_left_out(
    target: dict[str, str], sender: dict[str, str]
):
    payload = with_sender(event_payload(event()), Endpoint(**target))

    assert {
        key: value for key, value in payload.items() if key.startswith("icon") or key == "username"
    } == sender


@given(LONG, st.integers(10, 400), st.integers(1, 4))
@settings(deadline=None)
def test_pieces_are_short_enough_and_say_all_or_that_there_is_more(
    text: str, most: int, number: int
):
    made = split(text, most=most, pieces=number)

    assert len(made) <= number
    assert all(0 < width(piece) <= most for piece in made)
    assert not re.search("&(?!amp;|lt;|gt;)", "".join(made))
    whole = "".join(split(text, most=10**6, pieces=1))
    joined = "".join(made)
    assert joined == whole or (joined.endswith("…") and whole.startswith(joined[:-1]))


def test_an_escape_or_a_character_is_never_cut():
    assert escape("aaaa&", most=8) == "aaaa…"
    assert escape("aaaa&", most=9) == "aaaa&amp;"
    assert escape("aa😀", most=3) == "aa…"
    assert escape("aa😀", most=4) == "aa😀"
    assert escape("\ud83d\x00\x1b[31m\u202e", most=20) == "\ufffd\ufffd\ufffd[31m\ufffd"


def test_a_span_has_one_line_and_is_never_empty():
    assert code(" a\n\tb ") == "`a b`"
    assert code("") == code(" \n") == "`-`"
    assert code_blocks("  ", most=100, pieces=3) == []


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (-1, "0 ms"),
        (850 * 10**6, "850 ms"),
        (59 * SECOND, "59 s"),
        (185 * SECOND, "3 min 5 s"),
        (7_620 * SECOND, "2 h 7 min"),
    ],
)
def test_a_duration_is_told_in_two_units(ns: int, text: str):
    assert duration(ns) == text


def test_a_moment_has_a_spelling_for_those_who_cannot_show_it():
    assert moment(1_392_734_382 * SECOND + 5) == (
        "<!date^1392734382^{date_short_pretty} {time_secs}|2014-02-18 14:39Z>"
    )
