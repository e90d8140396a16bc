"""The encryption key that a service creates beside its store, with real processes."""

import stat
from pathlib import Path

import pytest

from support.cli import deploylog
from support.keys import Keys
from support.servers import Spawned, spawned

PATH = "/api/v1/events/subscriptions/project/acme/"
WANTED = {"s1": {"id": "s1", "type": "webhook", "url": "https://hooks.example.com/secret"}}


class KeyFile:
    """The key beside the store of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "log.db.key"

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def exists(self) -> bool:
        return self.path.exists()

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    @property
    def neighbours(self) -> set[str]:
        return {each.name for each in self.folder.iterdir()} - {self.path.name}

    def put(self, text: str) -> None:
        self.path.write_text(text)

    def lose(self) -> str:
        """Delete it; what it held."""
        text = self.text
        self.path.unlink()
        return text


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path)


async def refused(url: str) -> str:
    """The one line of a service that does not start."""
    done = await deploylog("serve", "--store", url, "--port", "0")
    assert done.code not in (0, -9)
    assert done.err.count("\n") == 1, done.err
    return done.err


async def put(service: Spawned, **headers: str) -> int:
    return (await service.ask("PUT", PATH, json=WANTED, headers=headers)).status


async def test_a_default_service_keeps_subscriptions(url: str, key: KeyFile):
    async with spawned(url) as service:
        assert await put(service) == 200
        said = service.said

    made = key.text
    async with spawned(url) as service:
        found = (await service.get(PATH)).json
        said_again = service.said

    assert found == WANTED
    assert said.count(str(key.path)) == 1
    assert str(key.path) not in said_again
    assert made.strip() not in said
    assert key.mode == 0o600
    assert key.text == made
    assert key.neighbours <= {"log.db", "log.db-wal", "log.db-shm", "log.db.serving"}


async def test_a_key_is_created_though_api_keys_were_added_before(
    url: str, key: KeyFile, tmp_path: Path
):
    admin = {"X-Escape-Token": Keys(tmp_path)("add", "admin", "--grant", "admin:/").out.strip()}

    async with spawned(url) as service:
        status = await put(service, **admin)

    assert status == 200
    assert key.exists


async def test_a_lost_key_is_not_replaced(url: str, key: KeyFile):
    async with spawned(url) as service:
        assert await put(service) == 200
    made = key.lose()

    refusal = await refused(url)

    assert "put the encryption key back" in refusal
    assert "DEPLOYLOG_SECRET_KEY_FILE" in refusal
    assert not key.exists
    key.put(made)
    async with spawned(url) as service:
        assert (await service.get(PATH)).json == WANTED


async def test_no_key_is_created_where_one_is_named(url: str, key: KeyFile, tmp_path: Path):
    keys = Keys(tmp_path)
    keys.write_encryption_keys(keys("new-encryption-key").out)

    async with spawned(url, secret_key_file=str(keys.key_file)) as service:
        assert await put(service) == 200

    assert "put the encryption key back" in await refused(url)
    assert not key.exists


async def test_what_is_there_is_never_overwritten(url: str, key: KeyFile):
    key.put("mine\n")

    refusal = await refused(url)

    assert str(key.path) in refusal
    assert "mine" not in refusal
    assert key.text == "mine\n"


async def test_a_store_with_only_revoked_secrets_gets_no_other_key(
    url: str, key: KeyFile, tmp_path: Path
):
    keys = Keys(tmp_path)
    keys.write_encryption_keys(keys("new-encryption-key").out)
    pair = keys("add", "web", "--kind", "bluelink", "--grant", "admin:/").fields
    keys("revoke", pair["keyId"])
    admin = {"X-Escape-Token": keys("add", "admin", "--grant", "admin:/").out.strip()}

    async with spawned(url) as service:
        assert await put(service, **admin) == 409
        _, said = await service.end()

    assert "no encryption key" in said
    assert not key.exists


async def test_keys_add_seals_with_the_key_of_the_service(url: str, key: KeyFile, tmp_path: Path):
    async with spawned(url):
        pass
    keys = Keys(tmp_path)

    added = keys(
        "add", "web", "--kind", "bluelink", "--grant", "read:project/acme",
        DEPLOYLOG_SECRET_KEY_FILE="",
    )  # fmt: skip
    resealed = keys("rotate-encryption", DEPLOYLOG_SECRET_KEY_FILE="")

    assert (added.code, resealed.out) == (0, "re-encrypted 1\n")
    keys.write_encryption_keys(key.text)
    assert await keys.signed_by(added.fields["keyId"], added.fields["secretKey"]) is not None
