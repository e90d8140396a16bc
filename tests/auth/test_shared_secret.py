"""The shared secret: who knows it, on which paths, and how it is read."""

from pathlib import Path

import pytest

from deploylog.auth.shared_secret import SharedSecret, read_secret
from deploylog.errors import InvalidSettings
from deploylog.events.scope import ROOT
from support.presenting import presented

PATH = "/internal/create-event"
SECRET = SharedSecret("horse", name="escape", paths=[PATH, f"/base{PATH}"])


@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"/base{PATH}"])
async def test_who_shows_it_may_write_everywhere_and_read_nothing(path: str):
    shown = {"authorization": "Bearer horse"}

    principal = await SECRET.principal(presented(shown, method="POST", path=path))

    assert principal is not None
    assert principal.name == "escape"
    assert principal.may("write", ROOT)
    assert principal.visibility.scopes == ()
    assert await SECRET.is_valid(principal)


@pytest.mark.parametrize(
    ("shown", "path"),
    [
        ("Bearer horse", "/log/v1/events"),
        ("Bearer horse", f"{PATH}/x"),
        ("Bearer horse", f"/other{PATH}"),
        ("Bearer horse", f"/api/v1/events/query/inventory{PATH}"),
        ("Bearer Horse", PATH),
        ("Bearer hors", PATH),
        ("Bearer \xff\ud800", PATH),
        ("Bearer", PATH),
        ("Basic horse", PATH),
        ("", PATH),
    ],
)
async def test_elsewhere_and_otherwise_it_opens_nothing(shown: str, path: str):
    headers = {"authorization": shown}

    assert await SECRET.principal(presented(headers, method="POST", path=path)) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH"])
async def test_it_opens_no_other_method(method: str):
    shown = {"authorization": "Bearer horse"}

    assert await SECRET.principal(presented(shown, method=method, path=PATH)) is None


def test_it_is_read_from_a_file_without_the_end_of_its_line(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("horse\n")

    assert read_secret(str(file)) == "horse"
    assert read_secret("") == ""


@pytest.mark.parametrize("text", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe"])
def test_a_file_without_one_word_is_refused(tmp_path: Path, text: bytes):
    file = tmp_path / "secret"
    file.write_bytes(text)

    with pytest.raises(InvalidSettings):
        read_secret(str(file))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InvalidSettings, match="cannot read"):
        read_secret(str(tmp_path / "none"))
