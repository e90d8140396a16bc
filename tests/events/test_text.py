"""Full text: what is parsed, and what a phrase finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.errors import InvalidFilter
from deploylog.events.event import NewEvent, Resource
from deploylog.events.text import MAX_LENGTH, MAX_PHRASES, Phrase, parse_text, render_text
from support.factories import new_event


def finds(text: str, event: NewEvent) -> bool:
    return all(phrase.matches(event) for phrase in parse_text(text))


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Timeout", (Phrase("timeout"),)),
        ("time* out", (Phrase("time", True), Phrase("out"))),
        ('"Access  denied" x', (Phrase("access denied"), Phrase("x"))),
        ('"access den*"', (Phrase("access den", True),)),
        ("a a", (Phrase("a"),)),
        ('a"b c"d', (Phrase("a"), Phrase("b c"), Phrase("d"))),
        ("arn:aws:s3:::b/k", (Phrase("arn:aws:s3:::b/k"),)),
        ("", ()),
    ],
)
def test_a_text_is_words_and_phrases(text: str, phrases: tuple[Phrase, ...]):
    assert parse_text(text) == phrases
    assert parse_text(render_text(phrases)) == phrases


@pytest.mark.parametrize(
    "text",
    [
        '"open',
        "-",
        "*",
        '""',
        '"*"',
        "x" * (MAX_LENGTH + 1),
        "İ" * MAX_LENGTH,
        " ".join(f"w{number}" for number in range(MAX_PHRASES + 1)),
    ],
)
def test_a_text_without_a_meaning_is_refused(text: str):
    with pytest.raises(InvalidFilter) as refused:
        parse_text(text)

    assert refused.value.field == "q"


@pytest.mark.parametrize("text", ["ΟΔΟΣ", "οδοσ", "οδος", "οδος*", "οδοσ*", '"νεα ΟΔΟΣ"'])
@pytest.mark.parametrize("message", ["Νεα ΟΔΟΣ", "νεα οδος 7", "νεα οδοσ", "νεα ΟΔΟΣ.x"])
def test_a_final_sigma_is_a_sigma(text: str, message: str):
    assert finds(text, new_event(message=message))


def test_a_blank_after_an_asterisk_changes_nothing():
    assert parse_text('"Access Den* "') == (Phrase("access den", is_prefix=True),)


@given(st.text(st.sampled_from('ab İß*" .-'), max_size=40))
def test_what_is_rendered_is_parsed_into_the_same(text: str):
    try:
        phrases = parse_text(text)
    except InvalidFilter:
        return

    assert parse_text(render_text(phrases)) == phrases


GROUP = Resource(
    type="aws_security_group",
    name="web",
    address='module.net["eu"].aws_security_group.web',
    id_key="id",
    id_value="sg-0abc12",
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("timeout", True),
        ("TIMEOUT", True),
        ("time", False),
        ("time*", True),
        ("sg-0abc12", True),
        ("0abc12", True),
        ("sg-0abc", False),
        ("sg-0abc*", True),
        ("aws_security_group.web", True),
        ("security web eu", True),
        ('"after 3 s"', True),
        ('"3 s after"', False),
        ("arn:aws:ec2:eu-1", True),
        ("subject-7", True),
        ("timeout elsewhere", False),
    ],
)
def test_a_text_is_found_in_message_subject_and_resource(text: str, found: bool):
    event = new_event(
        message="Timeout after 3\ts: arn:aws:ec2:eu-1", subject="subject-7", resource=GROUP
    )

    assert finds(text, event) == found
