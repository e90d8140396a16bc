"""Slack messages: within the limits, and harmless, whatever an event contains."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploylog.deployments.catalog import Counts, Deployment
from deploylog.deployments.details import Commit, Details
from deploylog.events.event import Event, Resource
from deploylog.subscriptions.delivery.kinds.slack.messages import (
    deployment_payload,
    digest_payload,
    event_payload,
    events_payload,
    with_sender,
)
from deploylog.subscriptions.delivery.kinds.slack.mrkdwn import (
    code,
    code_blocks,
    escape,
    split,
    timestamp,
    width,
)
from deploylog.subscriptions.delivery.kinds.wording import duration
from deploylog.subscriptions.subscription import Endpoint
from support.factories import deployment as new_deployment
from support.factories import event
from support.fake_slack import problem_of, unescaped

SECOND = 10**9
STARTED = 1_795_000_000 * SECOND
ENDED = STARTED + 7_500 * SECOND

#: Text that could break out of its context.
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
    """A deployment with everything that a message shows."""
    details: dict[str, Any] = {
        "started": STARTED, "tool": "terraform", "operation": "apply",
        "environment": "production", "actor": "alice",
    }  # fmt: skip
    return new_deployment(**(details | fields))


def visible_text(payload: dict[str, Any]) -> str:
    """The text that a reader sees."""
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
def test_slack_accepts_the_message_of_any_event(event: Event):
    assert_harmless(event_payload(event))


@given(st.lists(EVENTS, min_size=1, max_size=40))
@settings(max_examples=30)
def test_slack_accepts_the_digest_of_any_events(events: list[Event]):
    assert_harmless(digest_payload(events))
    assert_harmless(events_payload(events))


@given(NAME, st.none() | NAME, st.none() | LONG, st.sampled_from(["running", "failed"]))
def test_slack_accepts_the_message_of_any_deployment(
    name: str, other: str | None, message: str | None, status: Any
):
    current = deployment(
        stack=name, project=name, actor=other, environment=other, tool=other, operation=other,
        message=message, status=status,
    )  # fmt: skip

    assert_harmless(deployment_payload(current, now=current.started + SECOND))


@given(NASTY, st.text(max_size=200), st.text(max_size=200))
def test_slack_accepts_any_sender(message: str, name: str, icon: str):
    endpoint = Endpoint(username=name, icon=icon)

    assert_harmless(with_sender(event_payload(event(message=message)), endpoint))


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


def test_a_message_has_the_subject_and_the_actor():
    failed = event(
        type="resource.create.failed",
        resource="web",
        actor="alice",
        elapsed=42 * SECOND,
        message="no such zone\nmore",
        time=1_795_000_000 * SECOND,
    )

    payload = event_payload(failed)

    text = visible_text(payload)
    assert ":x: `resource.create.failed` `terraform_data.web` by `alice` after 42 s" in text
    assert "```\nno such zone\nmore\n```" in text
    assert "<!date^1795000000^" in text
    assert "`project/acme`" in text
    assert payload["text"] == "resource.create.failed terraform_data.web: no such zone"


def test_an_event_without_a_message_has_no_colon():
    silent = event(type="state.project.created", subject="acme")

    assert event_payload(silent)["text"] == "state.project.created acme"


def test_a_digest_lists_a_failure_without_a_message():
    events = [event(n, type="resource.create.failed", resource="web") for n in range(11)]

    assert ':x: `terraform_data.web`"' in visible_text(digest_payload(events)).replace("\n", '"')


def test_no_user_can_be_mentioned():
    payload = event_payload(event(message="<!channel> <@U1> & `code`", actor="<!here>"))

    text = visible_text(payload)
    assert "&lt;!channel&gt; &lt;@U1&gt; &amp; `code`" in text
    assert "by `&lt;!here&gt;`" in text
    assert not payload["unfurl_links"]


def test_a_code_span_cannot_be_closed():
    payload = event_payload(event(actor="a`*b*`", message="```\n<!channel>\n```"))

    assert_harmless(payload)
    assert "by `a\u02cb*b*\u02cb`" in visible_text(payload)


def test_a_long_message_is_split_after_lines_and_truncated():
    message = "".join(f"line {number} & more\n" for number in range(3000))

    blocks = [text for text in texts(event_payload(event(message=message))) if "line" in text]

    assert len(blocks) == 3
    assert [block[:9] for block in blocks] == ["```\nline "] * 3
    assert all(width(block) <= 3000 for block in blocks)
    assert not blocks[0].endswith("…\n```")
    assert blocks[2].endswith("…\n```")


def test_a_digest_counts_and_lists_failures():
    events = [event(n, type="resource.create.completed", resource=f"r{n}") for n in range(30)]
    events += [event(31, type="resource.create.failed", resource="web", message="no zone\nx")]

    text = visible_text(digest_payload(events))

    assert "31 events, 1 failed" in text
    assert "30 x `resource.create.completed`" in text
    assert ":x: `terraform_data.web` `no zone`" in text
    assert text.count("<!date^") == 2


def test_a_few_events_have_excerpts_of_their_messages():
    events = [
        event(n, type="build.failed", subject=f"b{n}", message=f"{n}\n" * 500) for n in (1, 2)
    ]

    payload = events_payload(events)

    text = visible_text(payload)
    assert payload["text"] == "2 events, 2 failed"
    assert ":x: `build.failed` `b1`" in text
    assert "```\n1\n1\n" in text
    assert "```\n2\n2\n" in text
    assert len(text) < 1500


@pytest.mark.parametrize("number", [1, 2, 10, 11, 500])
def test_any_number_of_the_worst_events_is_one_message(number: int):
    worst = event(
        type="x" * 1000, actor="&" * 1000, subject="<" * 1000, message="&" * 65_000, elapsed=2**62
    )

    assert_harmless(events_payload([worst] * number))


def test_a_digest_lists_some_failures_and_counts_the_rest():
    events = [event(type="resource.create.failed", resource=f"r{n}") for n in range(100)]

    text = visible_text(digest_payload(events))

    assert text.count(":x:") == 15
    assert "and 85 more failures" in text


@pytest.mark.parametrize(
    ("fields", "icon", "state"),
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
def test_a_deployment_has_its_current_state(fields: dict[str, Any], icon: str, state: str):
    current = deployment(counts=Counts(added=3, failed=1), **fields)

    payload = deployment_payload(current, now=current.started + 62 * SECOND)

    text = visible_text(payload)
    assert f"{icon} *Deployment of* `web` to `production`: {state}" in text
    assert "3 added, 0 changed, 0 destroyed, 1 failed" in text
    assert "`apply with terraform`\nby `alice`\nproject `acme`" in text
    assert state in payload["text"]


def test_unknown_fields_of_a_deployment_are_omitted():
    current = deployment(environment=None, actor=None, tool=None, operation=None)

    text = visible_text(deployment_payload(current, now=current.started))

    assert "to `" not in text
    assert "by" not in text
    assert "None" not in text
    assert "``" not in text


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
def test_a_sender_has_a_name_and_an_icon_and_no_empty_keys(
    target: dict[str, Any], sender: dict[str, str]
):
    payload = with_sender(event_payload(event()), Endpoint(**target))

    assert {
        key: value for key, value in payload.items() if key.startswith("icon") or key == "username"
    } == sender


@given(LONG, st.integers(10, 400), st.integers(1, 4))
def test_pieces_fit_and_have_the_whole_text_or_an_ellipsis(text: str, limit: int, number: int):
    pieces = split(text, limit=limit, max_pieces=number)

    assert len(pieces) <= number
    assert all(0 < width(piece) <= limit for piece in pieces)
    assert not re.search("&(?!amp;|lt;|gt;)", "".join(pieces))
    whole = "".join(split(text, limit=10**6, max_pieces=1))
    joined = "".join(pieces)
    assert joined == whole or (joined.endswith("…") and whole.startswith(joined[:-1]))


def test_an_escape_or_a_character_is_never_split():
    assert escape("aaaa&", limit=8) == "aaaa…"
    assert escape("aaaa&", limit=9) == "aaaa&amp;"
    assert escape("aa😀", limit=3) == "aa…"
    assert escape("aa😀", limit=4) == "aa😀"
    assert escape("\ud83d\x00\x1b[31m\u202e", limit=20) == "\ufffd\ufffd\ufffd[31m\ufffd"


def test_a_span_has_one_line_and_is_never_empty():
    assert code(" a\n\tb ") == "`a b`"
    assert code("") == code(" \n") == "`-`"
    assert code_blocks("  ", limit=100, max_blocks=3) == []


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
def test_a_duration_has_two_units(ns: int, text: str):
    assert duration(ns) == text


def test_a_timestamp_has_a_fallback():
    assert timestamp(1_392_734_382 * SECOND + 5) == (
        "<!date^1392734382^{date_short_pretty} {time_secs}|2014-02-18 14:39Z>"
    )


def test_a_deployment_message_names_what_it_carries():
    details = Details(
        version="1.4.2",
        commits=(Commit(sha="4be37088307940"),),
        url="https://ci.example/1?a=1&b=<2|3>",
        change_request="https://git.example/pull/7",
        approvers=("bob", "carol"),
    )
    current = new_deployment(environment="prod", details=details)

    payload = deployment_payload(current, now=current.started)

    shown = msgspec.json.encode(payload).decode()
    assert "`web` `1.4.2` to `prod`: running" in shown
    assert "commit `4be370883079`" in shown
    assert "approved by `bob, carol`" in shown
    assert "<https://ci.example/1?a=1&amp;b=&lt;2%7C3&gt;|run>" in shown
    assert "<https://git.example/pull/7|change request>" in shown
    assert len(payload["blocks"][-1]["elements"]) <= 10
