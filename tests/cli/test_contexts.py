"""``login`` and ``context``: which server a command calls, and with which key."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from support.cli import NOWHERE, Cli
from support.fake_server import FakeServer, fake_server, refuse

pytestmark = pytest.mark.process

KEY = "dl_ci_very-secret"


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A command line that only its contexts tell a server."""
    cli = Cli(tmp_path, "")
    del cli.environ["DEPLOYLOG_SERVER"]
    return cli


def keys_of(server: FakeServer) -> list[str | None]:
    return [request.headers.get("Authorization") for request in server.requests]


async def login(cli: Cli, server: FakeServer, name: str) -> None:
    done = await cli("login", server.url, "--context", name, "--key-file", "-", stdin=KEY.encode())
    assert done.code == 0, done.err


async def test_a_command_uses_the_server_and_the_key_of_the_current_context(
    cli: Cli, server: FakeServer
):
    await login(cli, server, "prod")

    listed = await cli("projects")

    assert (listed.code, listed.out) == (0, "acme\n")
    assert keys_of(server) == [f"Bearer {KEY}"] * 2


async def test_options_and_variables_win_over_the_context(cli: Cli, server: FakeServer):
    await login(cli, server, "prod")

    by_option = await cli("projects", "--server", NOWHERE)
    cli.environ["DEPLOYLOG_KEY"] = "another"
    by_variable = await cli("projects")

    assert NOWHERE in by_option.err
    assert by_variable.code == 0
    assert keys_of(server)[-1] == "Bearer another"


async def test_a_saved_key_is_sent_to_its_own_server_only(cli: Cli, server: FakeServer):
    await login(cli, server, "prod")

    async with fake_server() as other:
        done = await cli("projects", "--server", other.url)

        assert done.code == 0
        assert keys_of(other) == [None]


async def test_a_server_and_a_context_together_are_refused(cli: Cli, server: FakeServer):
    await login(cli, server, "prod")
    cli.environ["DEPLOYLOG_SERVER"] = NOWHERE

    done = await cli("projects", "--context", "prod")

    assert done.code == 2
    assert "DEPLOYLOG_SERVER" in done.err


async def test_no_command_prints_a_saved_key(cli: Cli, server: FakeServer):
    await login(cli, server, "prod")

    shown = [
        await cli("context", "list"),
        await cli("context", "list", "--json"),
        await cli("context", "show"),
        await cli("context", "show", "prod", "--json"),
    ]

    assert [each.code for each in shown] == [0] * 4
    assert not any(KEY in each.out + each.err for each in shown)
    assert msgspec.json.decode(shown[3].out) == {
        "name": "prod", "server": server.url, "has_key": True, "keyring": False,
        "current": True,
    }  # fmt: skip


async def test_a_key_that_the_server_refuses_is_not_saved(cli: Cli, server: FakeServer):
    server.script.append(refuse(401, "The key is unknown."))

    done = await cli("login", server.url, "--key-file", "-", stdin=KEY.encode())

    assert done.code == 1
    assert KEY not in done.err
    assert (await cli("context", "list", "--json")).out == ""


async def test_a_key_that_may_only_write_is_saved(cli: Cli, server: FakeServer):
    server.script.append(refuse(403, "The key may not read."))

    done = await cli("login", server.url, "--key-file", "-", stdin=KEY.encode())

    assert done.code == 0


async def test_a_login_without_a_terminal_and_without_a_key_saves_none(
    cli: Cli, server: FakeServer
):
    await cli("login", server.url)

    shown = await cli("context", "show")

    assert shown.fields["key"] == "none"
    assert keys_of(server) == [None]


async def test_a_context_is_chosen_and_removed(cli: Cli, server: FakeServer):
    await login(cli, server, "prod")
    await login(cli, server, "staging")

    await cli("context", "use", "prod")
    await cli("context", "remove", "staging")

    left = msgspec.json.decode((await cli("context", "list", "--json")).out)
    assert (left["name"], left["current"]) == ("prod", True)


async def test_keys_that_others_may_read_are_used_with_a_warning(cli: Cli, server: FakeServer):
    await login(cli, server, "prod")
    file = f"{cli.environ['HOME']}/.config/deploylog/contexts.json"
    os.chmod(file, 0o644)

    done = await cli("projects")

    assert done.code == 0
    assert f"other users can read the keys in {file}" in done.err
