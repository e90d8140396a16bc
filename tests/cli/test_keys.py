"""``deploylog keys``: add, list and revoke keys, and rotate the encryption of secrets."""

import getpass
import re
from pathlib import Path

import pytest

from deploylog.auth.encryption import parse_encryptor
from deploylog.auth.source_signatures import SCHEMES
from deploylog.auth.store import SourceKind
from deploylog.events.scope import scope
from deploylog.events.store import Query
from deploylog.store import open_store
from deploylog.store.contract import Store
from deploylog.subscriptions.subscription import SigningSecret
from support.cli import Cli, Result
from support.factories import Commits, subscription
from support.keys import Keys
from support.servers import running
from support.subscribers import add_key

GRANT = ("--grant", "read:project/acme")
BLUELINK = ("--kind", "bluelink")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    keys.write_encryption_keys(keys("new-encryption-key", DEPLOYLOG_SECRET_KEY_FILE="").out)
    return keys


def assert_one_line(result: Result, *parts: str) -> None:
    assert result.code == 2, result
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("deploylog: ")
    for part in parts:
        assert part in result.err


async def test_a_new_access_key_is_printed_once_and_accepted(keys: Keys):
    added = keys("add", "web", *BLUELINK, *GRANT, "--group", "ops")

    pair = added.fields
    principal = await keys.signed_by(pair["keyId"], pair["secretKey"])
    assert added.code == 0
    assert list(pair) == ["keyId", "secretKey"]
    assert (len(pair["keyId"]), len(pair["secretKey"])) == (32, 64)
    assert principal is not None
    assert (principal.name, principal.groups) == ("web", {"ops"})
    assert pair["secretKey"] not in keys("list").out
    for file in keys.directory.glob("log.db*"):
        assert pair["secretKey"].encode() not in file.read_bytes()


@pytest.mark.parametrize("source", ["-", "secret"])
async def test_an_existing_access_key_is_imported(keys: Keys, source: str):
    secret = "an-old-secret-that-a-client-has-long-had"
    (keys.directory / "secret").write_text(f"{secret}\n")

    added = keys(
        "add", "web", *BLUELINK, *GRANT, "--id", "old-client", "--secret-file", source,
        stdin=f"{secret}\r\n",
    )  # fmt: skip

    assert (added.code, added.out) == (0, "keyId: old-client\n")
    assert secret not in added.err
    assert await keys.signed_by("old-client", secret) is not None


async def test_a_short_secret_is_imported_with_a_warning(keys: Keys):
    options = ("--id", "a", "--secret-file", "-")

    added = keys("add", "web", *BLUELINK, *GRANT, *options, stdin="test-secret_key")

    assert added.code == 0
    assert added.err.startswith("deploylog: warning: the secret ")
    assert "can be guessed" in added.err
    assert await keys.signed_by("a", "test-secret_key") is not None


@pytest.mark.parametrize("kind", ["huawei", "aws"])
async def test_an_access_key_of_each_vendor_is_added_listed_reencrypted_and_revoked(
    keys: Keys, kind: str
):
    created = keys("add", "web", "--kind", kind, *GRANT).fields
    id, secret = created["keyId"], created["secretKey"]
    # Base64, which some secrets of AWS are, too.
    old = "an/old+secret/that+a/client+has/long/had"
    imported = keys(
        "add", "old", "--kind", kind, *GRANT, "--id", "OLDCLIENT", "--secret-file", "-", stdin=old
    )
    accepted = [await keys.accepts(kind, id, secret), await keys.accepts(kind, "OLDCLIENT", old)]

    rows = [line.split()[:3] for line in keys("list").out.splitlines()[1:]]
    keys.write_encryption_keys(keys("new-encryption-key").out, keys.key_file.read_text())
    rotated = keys("rotate-encryption")
    keys.write_encryption_keys(keys.key_file.read_text().splitlines()[0])
    still_accepted = await keys.accepts(kind, id, secret)
    revoked = keys("revoke", id)

    assert accepted == [True, True]
    assert (imported.code, imported.out) == (0, "keyId: OLDCLIENT\n")
    assert rows == [[id, kind, "web"], ["OLDCLIENT", kind, "old"]]
    assert (rotated.out, still_accepted) == ("re-encrypted 2\n", True)
    assert (revoked.code, revoked.out) == (0, "")
    assert not await keys.accepts(kind, id, secret)
    assert await keys.accepts(kind, "OLDCLIENT", old)


@pytest.mark.parametrize("source", SCHEMES)
async def test_a_secret_of_a_source_is_added_imported_reencrypted_and_revoked(
    keys: Keys, source: SourceKind
):
    created = keys("add", "hook", "--kind", source, *GRANT).fields
    id, secret = created["keyId"], created["secretKey"]
    old = "a-secret-that-the-source-has-long-had"
    imported = keys("add", "old", "--kind", source, *GRANT, "--secret-file", "-", stdin=old)
    accepted = [await keys.verifies(source, each) for each in (secret, old)]

    keys.write_encryption_keys(keys("new-encryption-key").out, keys.key_file.read_text())
    rotated = keys("rotate-encryption")
    keys.write_encryption_keys(keys.key_file.read_text().splitlines()[0])
    still_accepted = await keys.verifies(source, secret)
    revoked = keys("revoke", id)

    assert (accepted, list(imported.fields)) == ([True, True], ["keyId"])
    assert (rotated.out, still_accepted) == ("re-encrypted 2\n", True)
    assert (revoked.code, revoked.out) == (0, "")
    assert [await keys.verifies(source, each) for each in (secret, old)] == [False, True]
    assert secret not in keys("list").out


async def test_keys_of_both_kinds_are_listed_and_revoked(keys: Keys):
    key = keys("add", "ci", *GRANT).out.strip()
    pair = keys("add", "web", *BLUELINK, *GRANT).fields

    rows = [line.split()[:3] for line in keys("list").out.splitlines()[1:]]
    revoked = [keys("revoke", id) for id in (key.split("_")[1], pair["keyId"])]

    assert rows == [[key.split("_")[1], "key", "ci"], [pair["keyId"], "bluelink", "web"]]
    assert [(each.code, each.out) for each in revoked] == [(0, "")] * 2
    assert await keys.principal_of(key) is None
    assert await keys.signed_by(pair["keyId"], pair["secretKey"]) is None
    unknown = keys("revoke", "nobody")
    assert (unknown.code, unknown.err) == (1, "deploylog: there is no key 'nobody'\n")


async def test_an_encryption_key_is_replaced(keys: Keys):
    old = keys.key_file.read_text()
    pair = keys("add", "web", *BLUELINK, *GRANT).fields
    new = keys("new-encryption-key").out

    keys.write_encryption_keys(new, old)
    rotated = keys("rotate-encryption")
    keys.write_encryption_keys(new)

    assert (rotated.code, rotated.out) == (0, "re-encrypted 1\n")
    assert parse_encryptor(new)
    assert await keys.signed_by(pair["keyId"], pair["secretKey"]) is not None


async def test_the_secrets_of_subscriptions_are_reencrypted_too(keys: Keys):
    old, new = keys.key_file.read_text(), keys("new-encryption-key").out
    encryptor = parse_encryptor(old)
    stored = subscription(
        target=encryptor.encrypt("target"),
        secrets=(
            SigningSecret(sealed=encryptor.encrypt("second"), created=2),
            SigningSecret(sealed=encryptor.encrypt("first"), created=1, expires=3),
        ),
    )
    async with open_store(keys.store, observer=Commits()) as store:
        await store.subscriptions.add(stored)

    keys.write_encryption_keys(new, old)
    rotated = keys("rotate-encryption")

    async with open_store(keys.store, observer=Commits()) as store:
        [after] = await store.subscriptions.list()
    new_encryptor = parse_encryptor(new)
    assert rotated.out == "re-encrypted 1\n"
    assert new_encryptor.decrypt(after.target) == "target"
    assert [new_encryptor.decrypt(secret.sealed) for secret in after.secrets] == ["second", "first"]
    assert [(secret.created, secret.expires) for secret in after.secrets] == [(2, None), (1, 3)]


async def test_a_subscription_that_cannot_be_decrypted_is_deleted(keys: Keys):
    stored = subscription()
    async with open_store(keys.store, observer=Commits()) as store:
        await store.subscriptions.add(stored)

    deleted, again = (keys.delete_subscription(stored.id) for _ in range(2))

    async with open_store(keys.store, observer=Commits()) as store:
        assert await store.subscriptions.list() == []
        [event] = await store.log.read(Query())
    assert deleted.code == 0
    assert (event.type, event.subject) == ("subscription.deleted", stored.name)
    assert event.scopes == (scope("subscription", stored.id),)
    assert event.actor == getpass.getuser()
    assert (again.code, again.out) == (1, "")
    assert stored.id in again.err


async def test_nothing_is_reencrypted_unless_everything_can_be_decrypted(keys: Keys):
    first = keys.key_file.read_text()
    one = keys("add", "one", *BLUELINK, *GRANT).fields
    second = keys("new-encryption-key").out
    keys.write_encryption_keys(second)
    other = keys("add", "other", *BLUELINK, *GRANT).fields
    third = keys("new-encryption-key").out

    keys.write_encryption_keys(third, second)
    failed = keys("rotate-encryption")
    revoked = keys("revoke", one["keyId"])
    rotated = keys("rotate-encryption")

    assert_one_line(failed, one["keyId"])
    assert first.strip() not in failed.err
    assert revoked.code == 0
    assert rotated.out == "re-encrypted 1\n"
    keys.write_encryption_keys(third)
    assert await keys.signed_by(other["keyId"], other["secretKey"]) is not None


def test_without_an_encryption_key_no_secret_is_stored(keys: Keys):
    added = keys("add", "web", *BLUELINK, *GRANT, DEPLOYLOG_SECRET_KEY_FILE="")

    assert_one_line(added, "--secret-key-file", "DEPLOYLOG_SECRET_KEY_FILE", "new-encryption-key")
    assert added.out == ""
    assert not (keys.directory / "log.db").exists()


def test_the_encryption_key_file_is_named_by_option_or_settings_file(keys: Keys):
    config = keys.directory / "deploylog.toml"
    config.write_text(f'secret_key_file = "{keys.key_file}"\n')
    sources = (("--secret-key-file", str(keys.key_file)), ("--config", str(config)))

    for option, value in sources:
        environ = {"DEPLOYLOG_SECRET_KEY_FILE": ""} if option == "--secret-key-file" else {}
        added = keys("add", "web", *BLUELINK, *GRANT, option, value, **environ)

        assert added.code == 0, added.err


def test_an_api_key_needs_no_encryption_key(keys: Keys):
    assert keys("add", "ci", *GRANT, DEPLOYLOG_SECRET_KEY_FILE="").code == 0


def test_ids_and_grants_are_listed_uncut_with_plain_times(keys: Keys):
    grants = [f"read:project/{'x' * 60}/{number}" for number in range(9)]
    added = keys("add", "ci", *(word for grant in grants for word in ("--grant", grant)))

    _header, row = keys("list", COLUMNS="80").out.splitlines()

    assert added.out.split("_")[1] in row
    assert " ".join(grants) in row
    assert re.search(r" 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ", row)


@pytest.mark.parametrize(
    "arguments",
    [("", *GRANT), ("a\nb", *GRANT), ("a", "--grant", "read:"), ("a", "--grant", "read:a b")],
)
def test_an_invalid_name_or_grant_is_refused(keys: Keys, arguments: tuple[str, ...]):
    added = keys("add", *arguments)

    assert (added.code, added.out) == (2, "")
    assert not (keys.directory / "log.db").exists()


MISTAKES = {
    "an id alone": ((*BLUELINK, "--id", "a"), "together"),
    "a secret alone": ((*BLUELINK, "--secret-file", "-"), "together"),
    "a pair as an API key": (("--id", "a", "--secret-file", "-"), "--kind bluelink"),
    "a bad id of AWS": (("--kind", "aws", "--id", "a/b", "--secret-file", "-"), "key id of aws"),
    "a bad id": ((*BLUELINK, "--id", "a,b", "--secret-file", "-"), "key id"),
    "no such file": ((*BLUELINK, "--id", "a", "--secret-file", "nowhere"), "nowhere"),
    "an empty file": ((*BLUELINK, "--id", "a", "--secret-file", "empty"), "empty is empty"),
    "no text": ((*BLUELINK, "--id", "a", "--secret-file", "binary"), "binary is not UTF-8 text"),
    "no such encryption key file": ((*BLUELINK, "--secret-key-file", "nowhere"), "nowhere"),
    "a bad encryption key file": ((*BLUELINK, "--secret-key-file", "secret"), "line 1"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_plain_line(keys: Keys, case: str):
    options, message = MISTAKES[case]
    secret = "s3cret-that-is-never-shown-to-anyone"
    (keys.directory / "empty").write_text("\n")
    (keys.directory / "binary").write_bytes(b"\xff\xfe")
    (keys.directory / "secret").write_text(secret)

    result = keys("add", "web", *GRANT, *options, stdin=secret)

    assert_one_line(result, message)
    assert secret not in result.err


def test_an_id_is_unique(keys: Keys):
    key = keys("add", "ci", *GRANT).out.strip().split("_")[1]
    secret = "a" * 32

    def add(id: str, kind: str) -> Result:
        options = ("--kind", kind, "--id", id, "--secret-file", "-")
        return keys("add", "w", *GRANT, *options, stdin=secret)

    assert add("mine", "huawei").code == 0
    for id, kind in (("mine", "huawei"), ("mine", "aws"), ("mine", "bluelink"), (key, "aws")):
        again = add(id, kind)
        assert again.code != 0
        assert len(again.err.splitlines()) == 1
        assert id in again.err


async def test_an_admin_adds_lists_and_revokes_keys_from_elsewhere(store: Store, tmp_path: Path):
    async with running(store) as service:
        _, headers = await add_key(store, "admin:project/acme", name="admin")
        cli = Cli(tmp_path, service.url)
        cli.environ["DEPLOYLOG_KEY"] = headers["Authorization"].removeprefix("Bearer ")

        added = await cli("keys", "add", "ci", "--grant", "write:project/acme", "--remote")
        id = added.out.split("_")[1]
        revoked = await cli("keys", "revoke", id, "--remote")
        listed = await cli("keys", "list", "--remote")
        refused = await cli("keys", "add", "ci", "--grant", "admin:/", "--remote")
        other = await cli("keys", "add", "ci", *BLUELINK, *GRANT, "--remote")

    assert (added.code, revoked.code) == (0, 0)
    assert re.fullmatch(r"dlk_[0-9a-f]{16}_[0-9a-f]{64}\n", added.out)
    row = listed.out.splitlines()[2].split()
    assert row[:4] == [id, "key", "ci", "write:project/acme"]
    assert listed.out.count("Z") == 3
    assert (refused.code, other.code) == (1, 2)
    assert "may not administer the whole log" in refused.err
