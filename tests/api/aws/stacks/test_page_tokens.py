"""Page tokens: valid for one list of one log, and impossible to forge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.api.aws.stacks.page_tokens import MAX_LENGTH, PageTokens
from deploylog.errors import InvalidCursor

TOKENS = PageTokens(b"k" * 32)


@given(list_name=st.text(), cursor=st.binary(max_size=200))
def test_a_token_contains_its_cursor(list_name: str, cursor: bytes):
    token = TOKENS.render(list_name, cursor)

    assert TOKENS.parse(list_name, token) == cursor
    assert token.replace("-", "a").replace("_", "a").isalnum()
    assert len(token) <= MAX_LENGTH


def test_another_process_accepts_a_token():
    token = TOKENS.render("events of x", b"12345678")

    assert PageTokens(b"k" * 32).parse("events of x", token) == b"12345678"


def test_a_token_of_another_stack_or_another_log_is_refused():
    token = TOKENS.render("events of x", b"12345678")

    with pytest.raises(InvalidCursor):
        TOKENS.parse("events of y", token)
    with pytest.raises(InvalidCursor):
        PageTokens(b"l" * 32).parse("events of x", token)


@given(data=st.data())
def test_a_modified_token_is_refused(data: st.DataObject):
    token = TOKENS.render("events of x", b"12345678")
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("AZaz09-_").filter(lambda letter: letter != token[at]))

    with pytest.raises(InvalidCursor):
        TOKENS.parse("events of x", token[:at] + other + token[at + 1 :])


@pytest.mark.parametrize("token", ["", "a", "====", "é", "not a token", "A" * 32, "\0", "a+b/c="])
def test_other_text_is_not_a_token(token: str):
    with pytest.raises(InvalidCursor):
        TOKENS.parse("events of x", token)
