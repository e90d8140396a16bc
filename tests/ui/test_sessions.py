"""Sessions: sealed, short, and bound to their form."""

import pytest

from deploylog.auth.code_flow import start_sign_in
from deploylog.auth.encryption import make_encryption_key, parse_encryptor
from deploylog.errors import Forbidden
from deploylog.ui.sessions import Session, Sessions, new_session
from deploylog.ui.sign_in import Pending


def make_sessions() -> Sessions:
    encryptor = parse_encryptor(make_encryption_key())
    authentication, open_sessions = None, None
    return Sessions(
        authentication,  # type: ignore[arg-type]
        encryptor,
        open_sessions,  # type: ignore[arg-type]
        clock=lambda: 0,
        hours=1,
        is_https=True,
    )


def test_what_was_sealed_is_opened():
    sessions, session = make_sessions(), new_session()

    assert sessions.open(sessions.seal(session), Session) == session


@pytest.mark.parametrize("text", ["", "x", "gAAAAAB", "é\0", "a" * 5000])
def test_anything_else_is_no_session(text: str):
    assert make_sessions().open(text, Session) is None


def test_what_another_service_sealed_is_no_session():
    assert make_sessions().open(make_sessions().seal(new_session()), Session) is None


def test_one_kind_of_cookie_is_not_taken_for_another():
    sessions = make_sessions()
    pending = Pending(sign_in=start_sign_in("https://deploylog.example"), next="")

    assert sessions.open(sessions.seal(pending), Session) is None


def test_a_form_token_varies_and_is_accepted():
    session = new_session()
    one, other = session.form_token, session.form_token

    assert one != other
    session.require_form_token(one)
    session.require_form_token(other)


@pytest.mark.parametrize("shown", ["", "00", "zz", "00" * 48, "ab" * 48])
def test_any_other_form_token_is_refused(shown: str):
    with pytest.raises(Forbidden):
        new_session().require_form_token(shown)


def test_the_form_token_of_another_session_is_refused():
    with pytest.raises(Forbidden):
        new_session().require_form_token(new_session().form_token)
