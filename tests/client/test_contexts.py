"""The file of contexts: who may read it, and what it says."""

import stat
from pathlib import Path

import pytest

from deploylog.client.contexts import Context, ContextFile, Contexts
from deploylog.errors import OperatorError

PROD = Context(server="https://prod.example.com", key="dl_secret")
LOCAL = Context(server="http://127.0.0.1:8325")
BOTH = Contexts().add("local", LOCAL).add("prod", PROD)


def test_the_context_that_was_added_last_is_current():
    assert BOTH.select(None) == ("prod", PROD)


def test_a_context_that_is_named_is_used_instead_of_the_current_one():
    assert BOTH.select("local") == ("local", LOCAL)


def test_without_a_context_none_is_used():
    assert Contexts().select(None) is None


def test_after_the_current_context_is_removed_none_is_current():
    left = BOTH.remove("prod")

    assert (left.current, left.contexts) == (None, {"local": LOCAL})


def test_the_current_context_stays_when_another_one_is_removed():
    assert BOTH.remove("local").current == "prod"


def test_an_unknown_context_is_refused_and_a_similar_one_named():
    with pytest.raises(OperatorError, match=r"no context 'prdo'.*did you mean 'prod'"):
        BOTH.use("prdo")


def test_a_file_that_does_not_exist_has_no_contexts(tmp_path: Path):
    assert ContextFile(tmp_path / "none" / "contexts.json").read() == Contexts()


def test_contexts_are_read_as_they_were_written(tmp_path: Path):
    file = ContextFile(tmp_path / "deploylog" / "contexts.json")

    file.write(BOTH)

    assert file.read() == BOTH


def test_only_the_user_may_read_the_file_and_its_folder(tmp_path: Path):
    file = ContextFile(tmp_path / "deploylog" / "contexts.json")

    file.write(BOTH)

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file.path, file.path.parent)]
    assert modes == [0o600, 0o700]
    assert not file.is_exposed


def test_a_file_that_others_may_read_is_closed_when_it_is_written(tmp_path: Path):
    file = ContextFile(tmp_path / "contexts.json")
    file.path.write_text("{}")
    file.path.chmod(0o644)
    assert file.is_exposed

    file.write(BOTH)

    assert not file.is_exposed


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch):
    file = ContextFile(tmp_path / "contexts.json")
    file.write(BOTH)

    def fail(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OperatorError, match="No space left"):
        file.write(Contexts())

    assert file.read() == BOTH
    assert [path.name for path in tmp_path.iterdir()] == ["contexts.json"]


def test_a_file_that_is_no_file_of_contexts_is_refused_without_its_content(tmp_path: Path):
    file = ContextFile(tmp_path / "contexts.json")
    file.path.write_text('{"contexts": {"prod": {"server": 1, "key": "dl_secret"}}}')

    with pytest.raises(OperatorError) as raised:
        file.read()

    assert "dl_secret" not in str(raised.value)
