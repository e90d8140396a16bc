"""``login --keyring``: keys in the keyring of the operating system, or said to be in the file."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import file_keyring
from support.cli import Cli, Result
from support.fake_server import FakeServer, fake_server

pytestmark = pytest.mark.process

KEY = "dl_ci_very-secret"


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with fake_server() as server:
        yield server


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    """The file that holds what is in the keyring."""
    return tmp_path / "keyring.json"


@pytest.fixture
def cli(tmp_path: Path, keyring: Path) -> Cli:
    cli = Cli(tmp_path, "")
    del cli.environ["DEPLOYLOG_SERVER"]
    cli.environ["PYTHON_KEYRING_BACKEND"] = "support.file_keyring.FileKeyring"
    cli.environ[file_keyring.VARIABLE] = str(keyring)
    return cli


async def login(cli: Cli, server: str, *options: str, key: str = KEY) -> Result:
    done = await cli(
        "login", server, "--context", "prod", "--key-file", "-", *options, stdin=key.encode()
    )
    assert done.code == 0, done.err
    return done


def kept(keyring: Path) -> dict[str, str]:
    return json.loads(keyring.read_text())["deploylog"]


def contexts_file(cli: Cli) -> Path:
    return Path(cli.environ["HOME"], ".config/deploylog/contexts.json")


async def test_a_key_in_the_keyring_is_used_and_is_in_no_file(
    cli: Cli, server: FakeServer, keyring: Path
):
    await login(cli, server.url, "--keyring")

    listed = await cli("projects")

    assert (listed.code, listed.out) == (0, "acme\n")
    assert server.requests[-1].headers["Authorization"] == f"Bearer {KEY}"
    assert kept(keyring) == {f"prod {server.url}": KEY}
    assert KEY not in contexts_file(cli).read_text()
    assert (await cli("context", "show")).fields["key"] == "keyring"


async def test_without_a_keyring_the_key_is_saved_in_the_file_and_that_is_said(
    cli: Cli, server: FakeServer
):
    cli.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"

    done = await login(cli, server.url, "--keyring")

    assert "the keyring cannot be used: No recommended backend was available" in done.err
    assert "saving the key in the file of contexts instead" in done.err
    assert (await cli("projects")).code == 0
    assert (await cli("context", "show")).fields["key"] == "saved"


async def test_a_removed_context_leaves_no_key(cli: Cli, server: FakeServer, keyring: Path):
    await login(cli, server.url, "--keyring")

    removed = await cli("context", "remove", "prod")

    assert removed.code == 0, removed.err
    assert kept(keyring) == {}


async def test_a_context_that_is_saved_again_in_the_file_leaves_no_key_in_the_keyring(
    cli: Cli, server: FakeServer, keyring: Path
):
    await login(cli, server.url, "--keyring")

    await login(cli, server.url, key="another")

    assert kept(keyring) == {}
    assert (await cli("context", "show")).fields["key"] == "saved"


async def test_a_key_in_the_keyring_belongs_to_its_server(
    cli: Cli, server: FakeServer, keyring: Path
):
    await login(cli, server.url, "--keyring")
    async with fake_server() as other:
        file = contexts_file(cli)
        file.write_text(file.read_text().replace(server.url, other.url))

        done = await cli("projects")

        assert other.requests == []
    assert done.code == 2
    assert done.err == (
        "deploylog: the keyring has no key of context 'prod': run deploylog login\n"
    )
