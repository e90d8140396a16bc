"""The seal: what it opens, and what is said of a bad key."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from deploylog.auth.encryption import (
    Encryptor,
    create_key_file,
    make_encryption_key,
    parse_encryptor,
    read_encryptor,
    require_encryptor,
)
from deploylog.errors import InvalidSettings, OperatorError
from support.waiting import PATIENCE

SECRET = "ein Geheimnis: ü"


@pytest.fixture
def keys() -> list[str]:
    return [make_encryption_key() for _ in range(2)]


def test_what_was_sealed_is_opened(keys: list[str]):
    seal = parse_encryptor(keys[0])

    sealed = seal.encrypt(SECRET)

    assert seal.decrypt(sealed) == SECRET
    assert SECRET.encode() not in sealed
    assert seal.encrypt(SECRET) != sealed


def test_a_new_first_key_seals_and_the_old_one_still_opens(keys: list[str]):
    old, new = keys
    sealed = parse_encryptor(old).encrypt(SECRET)
    both = parse_encryptor(f"{new}\n\n  {old}  \n")

    resealed = both.encrypt(both.decrypt(sealed))

    assert parse_encryptor(new).decrypt(resealed) == SECRET
    with pytest.raises(OperatorError):
        parse_encryptor(old).decrypt(resealed)


@pytest.mark.parametrize("sealed", [b"", b"x", b"gAAAAA", b"\xff"])
def test_what_was_not_sealed_is_not_opened(keys: list[str], sealed: bytes):
    with pytest.raises(OperatorError) as raised:
        parse_encryptor(keys[0]).decrypt(sealed)

    assert "\n" not in raised.value.message


def test_what_was_changed_is_not_opened(keys: list[str]):
    seal: Encryptor = parse_encryptor(keys[0])
    sealed = bytearray(seal.encrypt(SECRET))
    sealed[20] ^= 1

    with pytest.raises(OperatorError):
        seal.decrypt(bytes(sealed))


@pytest.mark.parametrize("bad", ["nonsense", "c2hvcnQ=", "ü" * 44, "a" * 44, "\x00"])
def test_a_bad_key_is_named_by_its_line_and_not_shown(keys: list[str], bad: str):
    with pytest.raises(InvalidSettings) as raised:
        parse_encryptor(f"{keys[0]}\n{bad}\n")

    said = raised.value.message
    assert "line 2 is not an encryption key" in said
    assert bad not in said
    assert "\n" not in said
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_no_key_at_all_is_an_error(text: str):
    with pytest.raises(InvalidSettings, match="no encryption key"):
        parse_encryptor(text)


def test_the_keys_are_read_from_a_file(tmp_path: Path, keys: list[str]):
    file = tmp_path / "sealing"
    file.write_text("\n".join(keys))

    seal = read_encryptor(str(file))

    assert seal is not None
    assert seal.decrypt(parse_encryptor(keys[1]).encrypt(SECRET)) == SECRET


def test_without_a_file_there_is_no_seal_and_it_is_said_how_to_get_one():
    assert read_encryptor("") is None
    with pytest.raises(OperatorError, match="DEPLOYLOG_SECRET_KEY_FILE"):
        require_encryptor(None)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"nonsense"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None):
    file = tmp_path / "sealing"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(InvalidSettings) as raised:
        read_encryptor(str(file))

    assert str(file) in raised.value.message
    assert "\n" not in raised.value.message


def test_of_many_that_create_a_key_at_once_one_does_and_all_read_it(tmp_path: Path):
    file = tmp_path / "log.db.key"
    at_once = Barrier(8)

    def create(_: int) -> tuple[bool, str]:
        at_once.wait(PATIENCE)
        return create_key_file(file), file.read_text()

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(create, range(8)))

    assert sorted(is_new for is_new, _ in created) == [False] * 7 + [True]
    assert {text for _, text in created} == {file.read_text()}
    assert parse_encryptor(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_that_cannot_be_created_is_an_error(tmp_path: Path):
    file = tmp_path / "nowhere" / "log.db.key"

    with pytest.raises(OperatorError, match="secret-key-file") as raised:
        create_key_file(file)

    assert str(file) in raised.value.message
