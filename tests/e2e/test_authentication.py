"""Authentication over HTTP: each kind of credential, on each published API."""

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploylog.auth.access_keys import make_access_key
from deploylog.auth.api_keys import make_key
from deploylog.auth.bluelink import sign
from deploylog.auth.encryption import make_encryption_key, parse_encryptor
from deploylog.events.access import parse_grant
from deploylog.events.times import SECOND
from deploylog.store.contract import Store
from support.factories import now
from support.issuer import RunningIssuer, running_issuer
from support.servers import Answer, Local, line, running
from support.waiting import until

AUDIENCE = "deploylog"

#: Its original's gateway says why somebody is not let in.
RFS = "/v1/acme/stacks/web/events"

#: One path of each API, and what it answers to somebody who may read everything.
PATHS = {
    "/log/v1/events": 200,
    RFS: 404,
    "/v1/deployments/instances": 200,
}

Headers = dict[str, str]


@pytest.fixture(scope="module")
def issuer() -> Iterator[RunningIssuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def sealing_key() -> str:
    return make_encryption_key()


@pytest.fixture
def sealing_file(tmp_path: Path, sealing_key: str) -> str:
    file = tmp_path / "sealing"
    file.write_text(sealing_key)
    return str(file)


@pytest.fixture
async def service(store: Store, issuer: RunningIssuer, sealing_file: str) -> AsyncIterator[Local]:
    await issuer.reset()
    settings: dict[str, Any] = {
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "oidc_leeway_seconds": 0,
        "secret_key_file": sealing_file,
    }
    async with running(store, **settings) as service:
        yield service


async def token(issuer: RunningIssuer, **claims: object) -> Headers:
    """The headers of whoever has a token that says so."""
    seconds = int(time.time())
    said = {
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "ann",
        "iat": seconds,
        "exp": seconds + 600,
        "deploylog_grants": ["read:/", "write:/"],
        **claims,
    }
    signed = await issuer.sign({"alg": "RS256", "kid": "RS256"}, said, "RS256")
    return {"Authorization": f"Bearer {signed}"}


async def key(store: Store, *grants: str) -> str:
    granted = [parse_grant(grant) for grant in grants or ("read:/", "write:/")]
    stored, secret = make_key(name="ann", groups=(), grants=granted, now=now())
    await store.credentials.add(stored)
    return secret


async def pair(store: Store, sealing_key: str) -> tuple[str, str]:
    """A key id and its secret."""
    id, secret = secrets.token_hex(16), secrets.token_hex(32)
    seal = parse_encryptor(sealing_key)
    grants = [parse_grant("read:/")]
    signer = make_access_key(
        kind="bluelink", id=id, secret=secret, name="ann", groups=(), grants=grants, encryptor=seal,
        now=now(),
    )  # fmt: skip
    await store.credentials.add(signer)
    return id, secret


def signed(id: str, secret: str, *, date: int | None = None) -> Headers:
    at = int(time.time()) if date is None else date
    signature = sign(secret, f"{id},bluelink-date={at}".encode())
    value = f'keyId="{id}", headers="bluelink-date", signature="{signature}"'
    return {"Bluelink-Signature-V1": value, "Bluelink-Date": str(at)}


async def ask_everywhere(service: Local, headers: Headers) -> dict[str, int]:
    # RFS asks for one.
    named = {"Client-Request-Id": "aaaaaaaa-0000-4000-8000-000000000000", **headers}
    return {path: (await service.get(path, headers=named)).status for path in PATHS}


async def test_a_key_opens_every_api_in_each_of_its_headers(service: Local, store: Store):
    secret = await key(store)

    for headers in (
        {"Authorization": f"Bearer {secret}"},
        {"X-Api-Key": secret},
        {"Bluelink-Api-Key": secret},
        {"X-Auth-Token": secret},
    ):
        assert await ask_everywhere(service, headers) == PATHS


async def test_a_token_opens_every_api(service: Local, issuer: RunningIssuer):
    headers = await token(issuer)
    bare = headers["Authorization"].removeprefix("Bearer ")

    assert await ask_everywhere(service, headers) == PATHS
    assert await ask_everywhere(service, {"X-Auth-Token": bare}) == PATHS


async def test_a_signature_opens_every_api(service: Local, store: Store, sealing_key: str):
    id, secret = await pair(store, sealing_key)

    assert await ask_everywhere(service, signed(id, secret)) == PATHS


async def test_a_bad_credential_is_not_in_the_way_of_a_good_one(
    service: Local, store: Store, issuer: RunningIssuer
):
    both = {**await token(issuer, aud="another"), "X-Api-Key": await key(store)}

    assert await ask_everywhere(service, both) == PATHS


async def test_whatever_is_wrong_every_refusal_is_the_same(
    service: Local, store: Store, issuer: RunningIssuer, sealing_key: str
):
    id, secret = await pair(store, sealing_key)
    wrong: list[Headers] = [
        {},
        {"Bluelink-Api-Key": "dlk_nobody_nothing"},
        {"Authorization": "Bearer nonsense"},
        await token(issuer, aud="another"),
        await token(issuer, exp=int(time.time()) - 1),
        signed(id, "another secret"),
        signed("nobody", secret),
        signed(id, secret, date=int(time.time()) - 302),
    ]

    for path in PATHS:
        seen = [shape(await service.get(path, headers=headers)) for headers in wrong]
        assert {status for status, _ in seen} == {401}
        if path != RFS:
            assert len(set(seen)) == 1


async def test_the_gateway_of_rfs_tells_what_is_wrong_with_what_is_shown(
    service: Local, issuer: RunningIssuer
):
    expired = (await token(issuer, exp=int(time.time()) - 1))["Authorization"].split()[1]
    wrong = {
        "x-auth-token not found": {},
        "decrypt token fail": {"X-Auth-Token": "dlk_nobody_nothing"},
        "token expires": {"X-Auth-Token": expired},
    }

    for said, headers in wrong.items():
        answer = await service.get(RFS, headers=headers)
        assert answer.json["error_msg"] == f"Incorrect IAM authentication information: {said}"


def shape(answer: Answer) -> tuple[int, bytes]:
    """An answer without what differs each time."""
    request_id = answer.headers.get("x-request-id", "none").encode()
    return answer.status, answer.body.replace(request_id, b"")


async def test_an_address_that_fails_too_often_is_told_to_wait(store: Store):
    good = {"X-Api-Key": await key(store)}
    async with running(store, max_failures_per_minute=10) as service:
        assert (await service.get("/log/v1/events", headers=good)).status == 200

        statuses = [(await service.get("/log/v1/events")).status for _ in range(12)]
        waiting = [await service.get(path) for path in PATHS]
        still_good = await service.get("/log/v1/events", headers=good)
        metrics = (await service.get("/metrics")).body.decode()

    assert statuses == [401] * 10 + [429] * 2
    assert [answer.status for answer in waiting] == [429] * len(PATHS)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in waiting)
    assert still_good.status == 200
    assert "deploylog_failed_attempts_total 10.0" in metrics


async def test_a_stream_ends_when_its_token_does(service: Local, issuer: RunningIssuer):
    expires = int(time.time()) + 2
    headers = await token(issuer, exp=expires)

    async with service.stream(headers=headers) as stream:
        while await stream.block() is not None:
            pass

    assert now() >= expires * SECOND
    assert (await service.get("/log/v1/events", headers=headers)).status == 401


async def test_a_key_that_is_added_or_revoked_counts_without_a_restart(
    service: Local, store: Store
):
    secret = await key(store)
    headers = {"Bluelink-Api-Key": secret}
    assert (await service.get("/v1/deployments/instances", headers=headers)).status == 200

    await store.credentials.revoke(secret.split("_")[1], now())

    async def refused() -> bool:
        return (await service.get("/v1/deployments/instances", headers=headers)).status == 401

    await until(refused)


async def test_a_token_may_do_what_it_is_granted_and_no_more(service: Local, issuer: RunningIssuer):
    mine = await token(issuer, deploylog_grants="read:project/acme write:project/acme")
    theirs = await token(issuer, deploylog_grants=["read:project/other"], groups=["ops"])

    written = await service.post(line(), headers=mine)
    refused = await service.post(line(), headers=theirs)
    seen = await service.get("/log/v1/events", headers=mine)
    hidden = await service.get("/log/v1/events", headers=theirs)

    assert (written.status, refused.status) == (201, 403)
    assert (len(seen.ids), len(hidden.ids)) == (1, 0)


async def test_health_needs_no_credential_and_nothing_else_does_without(service: Local):
    assert (await service.get("/v1/health")).status == 200
    assert (await service.get("/v1/health?x=1")).status == 401
