"""Secrets of sources: which webhooks they authenticate, and which not."""

from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.encryption import make_encryption_key, parse_encryptor
from deploylog.auth.source_secrets import SourceSecrets
from deploylog.auth.source_signatures import SCHEMES
from deploylog.auth.standard_webhooks import make_secret
from deploylog.auth.store import SourceKind
from deploylog.store.contract import Store
from support.clocks import Clock
from support.presenting import presented_raw
from support.webhooks import add_secret, signature

BODY = b'{"state": "success"}'


@pytest.fixture
def secrets(store: Store, encryption_key: str) -> SourceSecrets:
    return SourceSecrets(store.credentials, parse_encryptor(encryption_key), clock=Clock())


def webhook(
    source: SourceKind, secret: str, *, body: bytes = BODY, path: str = "", method: str = "POST"
) -> RequestCredentials:
    """A webhook that the source has signed."""
    headers = [(n, v.encode()) for n, v in signature(source, secret, BODY).items()]
    path = path or f"/log/v1/ingest/{source}"
    return presented_raw(headers, method=method, path=path, body=body)


@pytest.mark.parametrize("source", SCHEMES)
async def test_a_webhook_is_authenticated_by_its_own_signature(
    secrets: SourceSecrets, store: Store, encryption_key: str, source: SourceKind
):
    credential, secret = await add_secret(store, source, encryption_key)

    principal = await secrets.principal(webhook(source, secret))

    assert principal is not None
    assert (principal.kind, principal.id) == ("source", credential.id)
    assert principal.grants == credential.grants
    assert await secrets.principal(webhook(source, f"{secret}x")) is None


@pytest.mark.parametrize("source", ["github", "hcp-terraform", "flux", "pulumi"])
async def test_a_body_that_was_changed_is_refused(
    secrets: SourceSecrets, store: Store, encryption_key: str, source: SourceKind
):
    _, secret = await add_secret(store, source, encryption_key)

    assert await secrets.principal(webhook(source, secret, body=BODY + b" ")) is None


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/log/v1/events", "POST"),
        ("/log/v1/ingest/gitlab", "POST"),
        ("/log/v1/ingest/github/x", "POST"),
        ("/log/v1/ingest/github", "GET"),
        ("github", "POST"),
    ],
)
async def test_a_signature_is_worth_nothing_elsewhere(
    secrets: SourceSecrets, store: Store, encryption_key: str, path: str, method: str
):
    _, secret = await add_secret(store, "github", encryption_key)

    assert await secrets.principal(webhook("github", secret, path=path, method=method)) is None


async def test_a_secret_of_one_source_is_worth_nothing_for_another(
    secrets: SourceSecrets, store: Store, encryption_key: str
):
    _, secret = await add_secret(store, "gitlab", encryption_key)

    assert await secrets.principal(webhook("github", secret)) is None


async def test_a_revoked_secret_is_refused(
    secrets: SourceSecrets, store: Store, encryption_key: str
):
    credential, secret = await add_secret(store, "github", encryption_key)
    await store.credentials.revoke(credential.id, 1)

    assert await secrets.principal(webhook("github", secret)) is None
    assert await secrets.find(credential.id) is None


async def test_a_secret_that_cannot_be_decrypted_does_not_shadow_another(
    secrets: SourceSecrets, store: Store, encryption_key: str
):
    _, secret = await add_secret(store, "github", encryption_key)
    await add_secret(store, "github", make_encryption_key())

    assert await secrets.principal(webhook("github", secret)) is not None


@pytest.mark.parametrize(
    "header",
    ["", "sha256=", "sha1=abc", "abc", "sha256=\udcff", "sha256=é", "=", "sha256=" + "0" * 64],
)
async def test_a_malformed_signature_is_refused(
    secrets: SourceSecrets, store: Store, encryption_key: str, header: str
):
    await add_secret(store, "github", encryption_key)
    sent = header.encode("utf-8", "surrogateescape")
    request = presented_raw(
        [("X-Hub-Signature-256", sent)], method="POST", path="/log/v1/ingest/github", body=BODY
    )

    assert await secrets.principal(request) is None


@pytest.mark.parametrize("path", ["/log/v1/ingest/github", "/base/log/v1/ingest/github/"])
async def test_a_base_path_and_a_slash_at_the_end_change_nothing(
    secrets: SourceSecrets, store: Store, encryption_key: str, path: str
):
    _, secret = await add_secret(store, "github", encryption_key)

    assert await secrets.principal(webhook("github", secret, path=path)) is not None


def gitlab_webhook(
    signing_token: str, *, body: bytes = BODY, headers: dict[str, str] | None = None
) -> RequestCredentials:
    """A webhook of GitLab 19 with a signing token."""
    now = datetime.fromtimestamp(1_772_366_400, UTC)
    sent = {
        "Webhook-Id": "f5e5f430", "Webhook-Timestamp": "1772366400",
        "Webhook-Signature": Webhook(signing_token).sign("f5e5f430", now, BODY.decode()),
    } | (headers or {})  # fmt: skip
    raw = [(name, value.encode()) for name, value in sent.items()]
    return presented_raw(raw, method="POST", path="/log/v1/ingest/gitlab", body=body)


async def test_gitlabs_signing_token_authenticates_what_it_signs(
    secrets: SourceSecrets, store: Store, encryption_key: str
):
    credential, secret = await add_secret(store, "gitlab", encryption_key)

    principal = await secrets.principal(gitlab_webhook(secret))

    assert principal is not None
    assert principal.id == credential.id
    assert await secrets.principal(gitlab_webhook(secret, body=BODY + b" ")) is None
    assert await secrets.principal(gitlab_webhook(make_secret())) is None


@pytest.mark.parametrize(
    "header",
    ["", "v1", "v1,", "v2,x", "v1,\u00e9", "v1a,x v1,y", ","],
)
async def test_a_malformed_signature_of_gitlab_is_refused(
    secrets: SourceSecrets, store: Store, encryption_key: str, header: str
):
    _, secret = await add_secret(store, "gitlab", encryption_key)

    request = gitlab_webhook(secret, headers={"Webhook-Signature": header})

    assert await secrets.principal(request) is None


async def test_one_of_several_signatures_of_gitlab_is_enough(
    secrets: SourceSecrets, store: Store, encryption_key: str
):
    _, secret = await add_secret(store, "gitlab", encryption_key)
    good = gitlab_webhook(secret).headers["webhook-signature"]

    both = gitlab_webhook(secret, headers={"Webhook-Signature": f"v1,AAAA {good}"})

    assert await secrets.principal(both) is not None


async def test_gitlabs_secret_token_counts_beside_a_signature_of_another_token(
    secrets: SourceSecrets, store: Store, encryption_key: str
):
    _, secret = await add_secret(store, "gitlab", encryption_key)

    request = gitlab_webhook(make_secret(), headers={"X-Gitlab-Token": secret})

    assert await secrets.principal(request) is not None
