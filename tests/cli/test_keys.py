"""``deploylog keys``: what an operator adds, lists, revokes and seals anew."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from deploylog.auth.api_keys import ApiKeys
from deploylog.auth.bluelink import BluelinkSignatures, sign
from deploylog.auth.encryption import load_seal, read_encryptor
from deploylog.auth.huawei import HuaweiScheme
from deploylog.auth.request_signing import RequestSignatures
from deploylog.auth.sigv4 import AwsScheme
from deploylog.errors import Unauthenticated
from deploylog.events.access import Principal
from deploylog.store import open_store
from deploylog.subscriptions.subscription import SigningSecret
from support.backends import store_url_at
from support.clocks import Clock, WallClock
from support.factories import Commits, now, subscription
from support.presenting import presented, presented_raw
from support.servers import EVENTS
from support.signing import signed_by_botocore, signed_by_huawei

GRANT = ("--grant", "read:project/acme")
BLUELINK = ("--kind", "bluelink")
DATE = 1767225600


class Ended(msgspec.Struct, frozen=True):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def pair(self) -> dict[str, str]:
        return dict(line.split(": ") for line in self.out.splitlines())


class Keys:
    """``deploylog keys``, in a process of its own, with a file of encryption keys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sealing = directory / "sealing"
        self.store = store_url_at(directory / "log.db")

    def __call__(self, *args: str, stdin: str = "", **environ: str) -> Ended:
        return self.run("keys", *args, stdin=stdin, **environ)

    def delete_subscription(self, id: str) -> Ended:
        """``deploylog subscriptions delete``, on the store itself."""
        return self.run("subscriptions", "delete", id, "--store", self.store)

    def run(self, *args: str, stdin: str = "", **environ: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "deploylog", *args],
            input=stdin, capture_output=True, text=True, timeout=30, check=False,
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(sys.path),
                "HOME": str(self.directory),
                "COLUMNS": "200",
                "DEPLOYLOG_STORE": self.store,
                "DEPLOYLOG_SECRET_KEY_FILE": str(self.sealing),
                **environ,
            },
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    def seal(self, *texts: str) -> None:
        self.sealing.write_text("".join(texts))

    async def signed_by(self, id: str, secret: str) -> Principal | None:
        """Who signs with this pair, as the service sees it."""
        seal = read_encryptor(str(self.sealing))
        value = sign(secret, f"{id},bluelink-date={DATE}".encode())
        header = f'keyId="{id}", headers="bluelink-date", signature="{value}"'
        shown = {"bluelink-signature-v1": header, "bluelink-date": str(DATE)}
        async with open_store(self.store, observer=Commits()) as store:
            signatures = BluelinkSignatures(
                store.credentials, seal, clock=WallClock(DATE), monotonic=Clock()
            )
            return await signatures.principal(presented(shown))

    async def opens(self, kind: str, id: str, secret: str) -> bool:
        """Whether who signs with this pair, as that vendor's clients do, is let in."""
        url = f"http://a{EVENTS}"
        sign = signed_by_huawei if kind == "huawei" else signed_by_botocore
        headers = [(name, value.encode()) for name, value in sign((id, secret), "GET", url).items()]
        scheme = HuaweiScheme() if kind == "huawei" else AwsScheme()
        async with open_store(self.store, observer=Commits()) as store:
            signatures = RequestSignatures(
                scheme,
                store.credentials,
                read_encryptor(str(self.sealing)),
                clock=now,
                monotonic=Clock(),
            )
            try:
                return await signatures.principal(presented_raw(headers)) is not None
            except Unauthenticated:
                return False

    async def opened_by(self, key: str) -> Principal | None:
        """Who has this API key, as the service sees it."""
        async with open_store(self.store, observer=Commits()) as store:
            keys = ApiKeys(store.credentials, clock=Clock())
            return await keys.principal(presented({"x-api-key": key}))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    keys.seal(keys("new-encryption-key", DEPLOYLOG_SECRET_KEY_FILE="").out)
    return keys


def assert_one_line(ended: Ended, *said: str) -> None:
    assert ended.code == 2, ended
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("deploylog: ")
    for each in said:
        assert each in ended.err


async def test_a_new_pair_is_told_once_and_opens(keys: Keys):
    added = keys("add", "web", *BLUELINK, *GRANT, "--group", "ops")

    pair = added.pair
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
async def test_a_pair_that_there_is_already_is_taken_over(keys: Keys, source: str):
    secret = "an-old-secret-that-a-client-has-long-had"
    (keys.directory / "secret").write_text(f"{secret}\n")

    added = keys(
        "add", "web", *BLUELINK, *GRANT, "--id", "old-client", "--secret-file", source,
        stdin=f"{secret}\r\n",
    )  # fmt: skip

    assert (added.code, added.out) == (0, "keyId: old-client\n")
    assert secret not in added.err
    assert await keys.signed_by("old-client", secret) is not None


async def test_a_short_secret_is_taken_over_with_a_warning(keys: Keys):
    options = ("--id", "a", "--secret-file", "-")

    added = keys("add", "web", *BLUELINK, *GRANT, *options, stdin="test-secret_key")

    assert added.code == 0
    assert added.err.startswith("deploylog: warning: the secret ")
    assert "may be guessed" in added.err
    assert await keys.signed_by("a", "test-secret_key") is not None


@pytest.mark.parametrize("kind", ["huawei", "aws"])
async def test_a_pair_of_each_vendor_is_added_listed_resealed_and_revoked(keys: Keys, kind: str):
    made = keys("add", "web", "--kind", kind, *GRANT).pair
    id, secret = made["keyId"], made["secretKey"]
    # Base64, which some secrets of AWS are, too.
    old = "an/old+secret/that+a/client+has/long/had"
    taken = keys(
        "add", "old", "--kind", kind, *GRANT, "--id", "OLDCLIENT", "--secret-file", "-", stdin=old
    )
    opened = [await keys.opens(kind, id, secret), await keys.opens(kind, "OLDCLIENT", old)]

    rows = [line.split()[:3] for line in keys("list").out.splitlines()[1:]]
    keys.seal(keys("new-encryption-key").out, keys.sealing.read_text())
    resealed = keys("rotate-encryption")
    keys.seal(keys.sealing.read_text().splitlines()[0])
    still = await keys.opens(kind, id, secret)
    revoked = keys("revoke", id)

    assert opened == [True, True]
    assert (taken.code, taken.out) == (0, "keyId: OLDCLIENT\n")
    assert rows == [[id, kind, "web"], ["OLDCLIENT", kind, "old"]]
    assert (resealed.out, still) == ("re-encrypted 2\n", True)
    assert (revoked.code, revoked.out) == (0, "")
    assert not await keys.opens(kind, id, secret)
    assert await keys.opens(kind, "OLDCLIENT", old)


async def test_keys_of_both_kinds_are_listed_and_revoked(keys: Keys):
    key = keys("add", "ci", *GRANT).out.strip()
    pair = keys("add", "web", *BLUELINK, *GRANT).pair

    rows = [line.split()[:3] for line in keys("list").out.splitlines()[1:]]
    revoked = [keys("revoke", id) for id in (key.split("_")[1], pair["keyId"])]

    assert rows == [[key.split("_")[1], "key", "ci"], [pair["keyId"], "bluelink", "web"]]
    assert [(each.code, each.out) for each in revoked] == [(0, "")] * 2
    assert await keys.opened_by(key) is None
    assert await keys.signed_by(pair["keyId"], pair["secretKey"]) is None
    unknown = keys("revoke", "nobody")
    assert (unknown.code, unknown.err) == (1, "deploylog: there is no key 'nobody'\n")


async def test_a_sealing_key_is_replaced(keys: Keys):
    old = keys.sealing.read_text()
    pair = keys("add", "web", *BLUELINK, *GRANT).pair
    new = keys("new-encryption-key").out

    keys.seal(new, old)
    resealed = keys("rotate-encryption")
    keys.seal(new)

    assert (resealed.code, resealed.out) == (0, "re-encrypted 1\n")
    assert load_seal(new)
    assert await keys.signed_by(pair["keyId"], pair["secretKey"]) is not None


async def test_what_subscriptions_keep_is_resealed_too(keys: Keys):
    old, new = keys.sealing.read_text(), keys("new-encryption-key").out
    seal = load_seal(old)
    kept = subscription(
        target=seal.seal("target"),
        secrets=(
            SigningSecret(sealed=seal.seal("second"), created=2),
            SigningSecret(sealed=seal.seal("first"), created=1, expires=3),
        ),
    )
    async with open_store(keys.store, observer=Commits()) as store:
        await store.subscriptions.add(kept)

    keys.seal(new, old)
    resealed = keys("rotate-encryption")

    async with open_store(keys.store, observer=Commits()) as store:
        [after] = await store.subscriptions.list()
    opened = load_seal(new)
    assert resealed.out == "re-encrypted 1\n"
    assert opened.open(after.target) == "target"
    assert [opened.open(term.sealed) for term in after.secrets] == ["second", "first"]
    assert [(term.created, term.expires) for term in after.secrets] == [(2, None), (1, 3)]


async def test_a_subscription_that_nobody_can_open_is_dropped(keys: Keys):
    kept = subscription()
    async with open_store(keys.store, observer=Commits()) as store:
        await store.subscriptions.add(kept)

    dropped, again = (keys.delete_subscription(kept.id) for _ in range(2))

    async with open_store(keys.store, observer=Commits()) as store:
        assert await store.subscriptions.list() == []
    assert dropped.code == 0
    assert (again.code, again.out) == (1, "")
    assert kept.id in again.err


async def test_nothing_is_resealed_unless_everything_opens(keys: Keys):
    first = keys.sealing.read_text()
    one = keys("add", "one", *BLUELINK, *GRANT).pair
    second = keys("new-encryption-key").out
    keys.seal(second)
    other = keys("add", "other", *BLUELINK, *GRANT).pair
    third = keys("new-encryption-key").out

    keys.seal(third, second)
    failed = keys("rotate-encryption")
    revoked = keys("revoke", one["keyId"])
    resealed = keys("rotate-encryption")

    assert_one_line(failed, one["keyId"])
    assert first.strip() not in failed.err
    assert revoked.code == 0
    assert resealed.out == "re-encrypted 1\n"
    keys.seal(third)
    assert await keys.signed_by(other["keyId"], other["secretKey"]) is not None


def test_without_a_sealing_key_no_secret_is_kept(keys: Keys):
    added = keys("add", "web", *BLUELINK, *GRANT, DEPLOYLOG_SECRET_KEY_FILE="")

    assert_one_line(added, "--secret-key-file", "DEPLOYLOG_SECRET_KEY_FILE", "new-encryption-key")
    assert added.out == ""
    assert not (keys.directory / "log.db").exists()


def test_the_sealing_keys_are_named_by_option_or_file_of_settings(keys: Keys):
    config = keys.directory / "deploylog.toml"
    config.write_text(f'secret_key_file = "{keys.sealing}"\n')
    sources = (("--secret-key-file", str(keys.sealing)), ("--config", str(config)))

    for option, value in sources:
        environ = {"DEPLOYLOG_SECRET_KEY_FILE": ""} if option == "--secret-key-file" else {}
        added = keys("add", "web", *BLUELINK, *GRANT, option, value, **environ)

        assert added.code == 0, added.err


def test_an_api_key_needs_no_encryption_key(keys: Keys):
    assert keys("add", "ci", *GRANT, DEPLOYLOG_SECRET_KEY_FILE="").code == 0


def test_ids_and_grants_are_listed_whole_with_plain_times(keys: Keys):
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
def test_what_is_no_name_or_no_grant_is_refused(keys: Keys, arguments: tuple[str, ...]):
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
    "an empty file": ((*BLUELINK, "--id", "a", "--secret-file", "empty"), "no secret"),
    "no text": ((*BLUELINK, "--id", "a", "--secret-file", "binary"), "not text"),
    "no such sealing file": ((*BLUELINK, "--secret-key-file", "nowhere"), "nowhere"),
    "a bad sealing file": ((*BLUELINK, "--secret-key-file", "secret"), "line 1"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_plain_line(keys: Keys, case: str):
    options, said = MISTAKES[case]
    secret = "s3cret-that-is-never-shown-to-anybody"
    (keys.directory / "empty").write_text("\n")
    (keys.directory / "binary").write_bytes(b"\xff\xfe")
    (keys.directory / "secret").write_text(secret)

    ended = keys("add", "web", *GRANT, *options, stdin=secret)

    assert_one_line(ended, said)
    assert secret not in ended.err


def test_an_id_is_given_once(keys: Keys):
    key = keys("add", "ci", *GRANT).out.strip().split("_")[1]
    secret = "a" * 32

    def add(id: str, kind: str) -> Ended:
        options = ("--kind", kind, "--id", id, "--secret-file", "-")
        return keys("add", "w", *GRANT, *options, stdin=secret)

    assert add("mine", "huawei").code == 0
    for id, kind in (("mine", "huawei"), ("mine", "aws"), ("mine", "bluelink"), (key, "aws")):
        again = add(id, kind)
        assert again.code != 0
        assert len(again.err.splitlines()) == 1
        assert id in again.err
