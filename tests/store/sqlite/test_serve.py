"""A file that is no store, or not one of this program: the server refuses to start."""

import asyncio
from pathlib import Path

import apsw
import pytest

from support.refusals import assert_one_plain_line, refused


@pytest.fixture
def letter(file: Path) -> bytes:
    """What the store's file holds, which is no store."""
    letter = b"This is a letter to my aunt. " * 1000
    file.write_bytes(letter)
    return letter


async def test_a_file_that_is_no_store_is_one_plain_line(file: Path, url: str, letter: bytes):
    assert_one_plain_line(await refused("--store", url, "--port", "0"), "store")
    assert await asyncio.to_thread(file.read_bytes) == letter


async def test_a_folder_in_the_file_s_place_is_one_plain_line(tmp_path: Path):
    url = f"sqlite:///{tmp_path}"

    assert_one_plain_line(await refused("--store", url, "--port", "0"), "store")


async def test_a_newer_schema_is_one_plain_line(file: Path, url: str):
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    assert_one_plain_line(await refused("--store", url, "--port", "0"), "99", "newer")
