"""The service and commands with a store in PostgreSQL."""

from pathlib import Path

import pytest

from deploylog.store import shown_url
from support import postgres
from support.cli import deploylog

pytestmark = pytest.mark.process


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("keys", "list"), ("migrate",)])
async def test_a_server_that_cannot_be_reached_is_one_line(command: tuple[str, ...]):
    url = "postgresql://me:secret@127.0.0.1:1/log?connect_timeout=2"

    done = await deploylog(*command, "--store", url)

    assert done.code
    assert len(done.err.splitlines()) == 1
    assert "cannot open the store postgresql://127.0.0.1/log: " in done.err
    assert "secret" not in done.err


async def test_keys_are_added_to_the_database_and_listed(tmp_path: Path):
    url = postgres.empty_url_at(tmp_path / "log.db")

    added = await deploylog("keys", "add", "ci", "--grant", "write:project/acme", "--store", url)
    listed = await deploylog("keys", "list", "--store", url)

    assert added.code == listed.code == 0, added
    assert "ci" in listed.out


async def test_backups_are_postgresqls_own(tmp_path: Path):
    url = postgres.url_at(tmp_path / "log.db")

    done = await deploylog("backup", tmp_path / "file", "--store", url)

    assert done.code
    assert "pg_dump" in done.err


def test_a_url_is_shown_without_what_is_secret():
    assert shown_url("sqlite:////a/b.db?x") == "sqlite:////a/b.db?x"
    shown = shown_url("postgresql://me:p%40ss@db1,db2:5433/log?password=x&sslmode=require")
    assert shown == "postgresql://me@db1,db2:5433/log"
