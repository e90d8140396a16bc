"""Every kind of credential on every API: two tables say what becomes of each, and how it is told.

``AMOUNTS`` says what a credential amounts to, the same for every API; ``TELLS`` how each API
tells that. A cell of the whole, such as "Huawei AK/SK, expired, on CloudFormation's API", is the
one looked up in the other.
"""

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from deploylog.auth.access_keys import make_access_key
from deploylog.auth.api_keys import make_key
from deploylog.auth.bluelink import sign
from deploylog.auth.encryption import make_encryption_key, parse_encryptor
from deploylog.auth.request_signing import WINDOW
from deploylog.auth.store import AccessKeyKind
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now
from support.issuer import RunningIssuer, running_issuer
from support.servers import DEPLOYMENTS, Answer, Local, running
from support.signing import send, signed_by_botocore, signed_by_huawei

SECRET = "correct-horse"
AUDIENCE = "deploylog"
REQUEST_ID = "aaaaaaaa-0000-4000-8000-000000000000"

Headers = dict[str, str]


# What is asked


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """A request that an API answers about the stack ``web``."""

    path: str
    method: str = "GET"
    body: bytes = b""
    media: str = ""

    @property
    def headers(self) -> Headers:
        media = {"Content-Type": self.media} if self.media else {}
        return media | ({"Client-Request-Id": REQUEST_ID} if "/stacks/" in self.path else {})


FORM = "application/x-www-form-urlencoded; charset=utf-8"
ACTION = "Action=DescribeStackEvents&Version=2010-05-15&StackName=web"
UPLOAD = (
    b'{"downstream_hooks":[],"event":"NEW_UPLOAD","project":"test","project_hooks":{},'
    b'"release":"test/my-app-v1.0","unit":"my-app","unit_hooks":{},"username":"","version":"v1.0"}'
)

APIS = {
    "native": Api(path="/log/v1/events?scope=project/acme"),
    "RFS": Api(path="/v1/acme/stacks/web/events"),
    "Bluelink": Api(path="/v1/deployments/instances"),
    "Escape": Api(path="/api/v1/events/query/inventory/test/"),
    "Escape, creating": Api(
        method="PUT", path="/internal/create-event", body=UPLOAD, media="application/json"
    ),
    "ParallelCluster": Api(path="/v3/clusters/web/stackevents?region=us-east-1"),
    "CloudFormation": Api(method="POST", path="/", body=ACTION.encode(), media=FORM),
    "CloudFormation, by GET": Api(path=f"/?{ACTION}"),
}


# How each tells what becomes of it


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An answer without what differs each time."""

    status: int
    media: str | None
    #: Of lists, how many members they have.
    body: Any
    #: Those that say something of the refusal, and the ids of requests, which are any.
    headers: Headers = {}


def native(status: int, word: str, detail: str, **headers: str) -> Told:
    type = f"urn:deploylog:problem:{word}"
    body = {
        "type": type,
        "title": word.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    return Told(
        status=status, media="application/problem+json", body=body, headers=_dashed(headers)
    )


def rfs(status: int, body: Any) -> Told:
    media = "application/json;charset=UTF-8"
    return Told(status=status, media=media, body=body, headers={"x-request-id": "any"})


def apigw(why: str) -> Told:
    message = f"Incorrect IAM authentication information: {why}"
    return rfs(401, {"error_code": "APIGW.0301", "error_msg": message, "request_id": "any"})


def bluelink(status: int, body: Any) -> Told:
    return Told(status=status, media="application/json", body=body)


def cluster(status: int, body: Any, type: str | None = None) -> Told:
    headers = {"x-amzn-requestid": "any"} | ({"x-amzn-errortype": type} if type else {})
    return Told(status=status, media="application/json", body=body, headers=headers)


def stacks(status: int, code: str, message: str) -> Told:
    return xml(status, {"Type": "Sender", "Code": code, "Message": message})


def xml(status: int, body: Any) -> Told:
    headers = {"x-amzn-requestid": "any"}
    return Told(status=status, media="text/xml; charset=utf-8", body=body, headers=headers)


def _dashed(headers: Headers) -> Headers:
    return {name.replace("_", "-"): value for name, value in headers.items()}


#: Why somebody is refused, of which four APIs tell nothing.
REASONS = ("missing", "unknown_key", "bad_signature", "expired", "malformed")

NOT_AUTHORIZED = "Not allowed: read of project/acme/stack/web needs read:project/acme/stack/web."
CLUSTER_UNKNOWN = (
    "Cluster 'web' does not exist or belongs to an incompatible ParallelCluster major version."
)
TOKEN_INVALID = "The security token included in the request is invalid."
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your"
    " AWS Secret Access Key and signing method. Consult the service documentation for details."
)
INCOMPLETE = (
    "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters."
)

_CLOUDFORMATION = {
    "in": xml(200, {"StackEvents": 1}),
    "missing": stacks(403, "MissingAuthenticationToken", "Request is missing Authentication Token"),
    "unknown_key": stacks(403, "InvalidClientTokenId", TOKEN_INVALID),
    "bad_signature": stacks(403, "SignatureDoesNotMatch", MISMATCH),
    "expired": stacks(403, "SignatureDoesNotMatch", "Signature expired"),
    "malformed": stacks(403, "IncompleteSignature", INCOMPLETE),
    "other": stacks(400, "ValidationError", "Stack [web] does not exist"),
}

#: ``in`` is who may see and do everything, ``other`` who has rights in another project only.
TELLS: dict[str, dict[str, Told]] = {
    "native": {
        "in": Told(status=200, media="application/json", body={"events": 2, "previous": "any"}),
        # HTTP wants it of every 401. The originals of the other APIs do not send it.
        **dict.fromkeys(
            REASONS,
            native(
                401,
                "unauthenticated",
                "Valid credentials are required.",
                www_authenticate="Bearer",
            ),
        ),
        "other": Told(status=200, media="application/json", body={"events": 0}),
    },
    "RFS": {
        "in": rfs(200, {"page_info": "any", "stack_events": 1}),
        "missing": apigw("x-auth-token not found"),
        "unknown_key": apigw("decrypt token fail"),
        "bad_signature": apigw("decrypt token fail"),
        "expired": apigw("token expires"),
        "malformed": apigw("decrypt token fail"),
        "other": rfs(
            403,
            {
                "error_code": "RF.10012507",
                "error_msg": "Policy doesn't allow action to be performed.",
                "encoded_authorization_message": "any",
                "details": 1,
            },
        ),
    },
    # RFS tells who signs other things than who shows a token.
    "RFS, of a signed request": {
        "unknown_key": apigw("Get secretKey failed,err:ak not exist"),
        "bad_signature": apigw("verify aksk signature fail"),
        "expired": apigw("verify aksk signature fail,signature expired"),
        "malformed": apigw("verify aksk signature fail,authorization header not valid"),
    },
    "Bluelink": {
        "in": bluelink(200, {"instances": 1, "totalCount": 1}),
        **dict.fromkeys(REASONS, bluelink(401, {"message": "Unauthorized"})),
        "other": bluelink(200, {"instances": 0, "totalCount": 0}),
    },
    "Escape": {
        "in": Told(status=200, media="application/json", body=1),
        **dict.fromkeys(REASONS, Told(status=401, media=None, body="")),
        "other": Told(status=200, media="application/json", body=0),
    },
    "Escape, creating": {
        "in": Told(status=200, media=None, body=""),
        **dict.fromkeys(REASONS, Told(status=401, media=None, body="")),
        "other": Told(status=403, media=None, body=""),
    },
    "ParallelCluster": {
        "in": cluster(200, {"events": 1}),
        "missing": cluster(
            403, {"message": "Missing Authentication Token"}, "MissingAuthenticationTokenException"
        ),
        "unknown_key": cluster(403, {"message": TOKEN_INVALID}, "UnrecognizedClientException"),
        "bad_signature": cluster(403, {"message": MISMATCH}, "InvalidSignatureException"),
        "expired": cluster(403, {"message": "Signature expired"}, "InvalidSignatureException"),
        "malformed": cluster(403, {"message": INCOMPLETE}, "IncompleteSignatureException"),
        "other": cluster(404, {"message": CLUSTER_UNKNOWN}),
    },
    "CloudFormation": _CLOUDFORMATION,
    "CloudFormation, by GET": _CLOUDFORMATION,
}


#: What each tells an address that has failed too often, whatever it shows.
TOO_OFTEN = "too many failed attempts"
WAITING: dict[str, Told] = {
    "native": native(429, "too-many", TOO_OFTEN),
    "RFS": rfs(
        429,
        {
            "error_code": "APIGW.0308",
            "error_msg": "The throttling threshold has been reached",
            "request_id": "any",
        },
    ),
    "Bluelink": bluelink(429, {"message": TOO_OFTEN}),
    "Escape": Told(status=429, media="text/plain; charset=utf-8", body=TOO_OFTEN),
    "Escape, creating": Told(status=429, media="text/plain; charset=utf-8", body=TOO_OFTEN),
    "ParallelCluster": cluster(429, {"message": "Too Many Requests"}, "TooManyRequestsException"),
    # CloudFormation's status, and the code for which its clients wait.
    "CloudFormation": stacks(400, "Throttling", "Rate exceeded"),
    "CloudFormation, by GET": stacks(400, "Throttling", "Rate exceeded"),
}


# What each credential amounts to

#: ``-`` is what cannot be: a key or a pair does not expire but is revoked; a token is not revoked
#: but expires; the secret is in a file, does neither, and has no id and no rights of its own.
#: Nobody is told whether a key exists, or what is wrong with a Bluelink signature. A cookie may be
#: anybody's: if it holds no good key, nothing is shown.
AMOUNTS = """
credential                  | valid | wrong         | unknown     | empty       | expired     | revoked     | another's
key, Authorization: Bearer  | in    | unknown_key   | unknown_key | unknown_key | -           | unknown_key | other
key, Authorization: Basic   | in    | unknown_key   | unknown_key | unknown_key | -           | unknown_key | other
key, X-Api-Key              | in    | unknown_key   | unknown_key | unknown_key | -           | unknown_key | other
key, Bluelink-Api-Key       | in    | unknown_key   | unknown_key | unknown_key | -           | unknown_key | other
key, X-Auth-Token           | in    | unknown_key   | unknown_key | unknown_key | -           | unknown_key | other
key, X-Escape-Token         | in    | unknown_key   | unknown_key | unknown_key | -           | unknown_key | other
key, Cookie                 | in    | missing       | missing     | missing     | -           | missing     | other
token, Authorization        | in    | bad_signature | unknown_key | unknown_key | expired     | -           | other
token, X-Auth-Token         | in    | bad_signature | unknown_key | unknown_key | expired     | -           | other
Bluelink signature          | in    | unknown_key   | unknown_key | unknown_key | unknown_key | unknown_key | other
Huawei AK/SK                | in    | bad_signature | unknown_key | malformed   | expired     | unknown_key | other
AWS, execute-api            | in    | bad_signature | unknown_key | malformed   | expired     | unknown_key | other
AWS, cloudformation         | in    | bad_signature | unknown_key | malformed   | expired     | unknown_key | other
secret, creating            | in    | unknown_key   | -           | unknown_key | -           | -           | -
secret, elsewhere           | unknown_key | -       | -           | -           | -           | -           | -
nothing                     | missing     | -       | -           | -           | -           | -           | -
"""  # noqa: E501

_HEAD, *_ROWS = [
    [cell.strip() for cell in line.split("|")] for line in AMOUNTS.strip().splitlines()
]
CASES = _HEAD[1:]
CREDENTIALS = {row[0]: dict(zip(CASES, row[1:], strict=True)) for row in _ROWS}

#: The credentials that sign the whole request, of which RFS tells other things.
SIGNING = ("Huawei AK/SK", "AWS, execute-api", "AWS, cloudformation")


def expected(credential: str, case: str, api: str) -> Told:
    outcome = CREDENTIALS[credential][case]
    if api == "RFS" and credential in SIGNING:
        return TELLS["RFS, of a signed request"].get(outcome, TELLS[api][outcome])
    return TELLS[api][outcome]


def apis_of(credential: str) -> list[str]:
    """The secret opens one path; on the others it is an unknown key."""
    if credential.startswith("secret"):
        return [
            api for api in APIS if (api == "Escape, creating") == (credential[-8:] == "creating")
        ]
    return list(APIS)


def test_the_tables_have_every_credential_case_and_api():
    outcomes = {outcome for row in CREDENTIALS.values() for outcome in row.values()} - {"-"}

    assert set(CREDENTIALS) == set(SHOWN)
    assert outcomes == {"in", "other", *REASONS}
    assert all(set(TELLS[api]) == outcomes for api in APIS)


# Those who show them


class People:
    """Credentials of those who may do everything, and of those who may not."""

    def __init__(self, store: Store, issuer: RunningIssuer, sealing_key: str) -> None:
        self._store = store
        self._issuer = issuer
        self._seal = parse_encryptor(sealing_key)

    async def key(self, case: str) -> str:
        if case == "empty":
            return ""
        grants = [parse_grant(grant) for grant in granted(case)]
        stored, key = make_key(name="ann", groups=(), grants=grants, now=now())
        if case != "unknown":
            await self._store.credentials.add(stored)
        if case == "revoked":
            await self._store.credentials.revoke(stored.id, now())
        return key[:-8] + "00000000" if case == "wrong" else key

    async def pair(self, kind: AccessKeyKind, case: str) -> tuple[str, str]:
        id, secret = secrets.token_hex(16), secrets.token_hex(32)
        grants = [parse_grant(grant) for grant in granted(case)]
        signer = make_access_key(
            kind=kind, id=id, secret=secret, name="ann", groups=(), grants=grants,
            encryptor=self._seal, now=now(),
        )  # fmt: skip
        if case != "unknown":
            await self._store.credentials.add(signer)
        if case == "revoked":
            await self._store.credentials.revoke(id, now())
        return id, secret[::-1] if case == "wrong" else secret

    async def token(self, case: str) -> str:
        if case == "empty":
            return ""
        seconds = int(time.time())
        claims: dict[str, Any] = {
            "iss": self._issuer.url,
            "aud": AUDIENCE,
            "sub": "ann",
            "exp": seconds - 1 if case == "expired" else seconds + 600,
            "deploylog_grants": granted(case),
        }
        kid = "nobody" if case == "unknown" else "RS256"
        token = await self._issuer.sign({"alg": "RS256", "kid": kid}, claims, "RS256")
        return _forged(token) if case == "wrong" else token


def granted(case: str) -> list[str]:
    place = "project/other" if case == "another's" else "/"
    return [f"read:{place}", f"write:{place}"]


def _forged(token: str) -> str:
    """The token with another signature, of the right length."""
    signed, _, signature = token.rpartition(".")
    other = base64.urlsafe_b64encode(b"\1" * 256).rstrip(b"=").decode()
    assert len(other) == len(signature)
    return f"{signed}.{other}"


#: What a request to an API shows, by a case's name.
Show = Callable[[People, str, str, Api], Awaitable[Headers]]


def a_key(form: Callable[[str], Headers]) -> Show:
    async def show(people: People, case: str, url: str, api: Api) -> Headers:
        return form(await people.key(case))

    return show


def a_token(form: Callable[[str], Headers]) -> Show:
    async def show(people: People, case: str, url: str, api: Api) -> Headers:
        return form(await people.token(case))

    return show


def _basic(key: str) -> Headers:
    return {"Authorization": f"Basic {base64.b64encode(f'ann:{key}'.encode()).decode()}"}


async def a_bluelink_signature(people: People, case: str, url: str, api: Api) -> Headers:
    if case == "empty":
        return {"Bluelink-Signature-V1": "", "Bluelink-Date": ""}
    id, secret = await people.pair("bluelink", case)
    date = int(time.time()) - (302 if case == "expired" else 0)
    signature = sign(secret, f"{id},bluelink-date={date}".encode())
    value = f'keyId="{id}", headers="bluelink-date", signature="{signature}"'
    return {"Bluelink-Signature-V1": value, "Bluelink-Date": str(date)}


async def a_huawei_signature(people: People, case: str, url: str, api: Api) -> Headers:
    if case == "empty":
        return {"Authorization": "SDK-HMAC-SHA256"}
    pair = await people.pair("huawei", case)
    headers = {"X-Sdk-Date": _date(case).strftime("%Y%m%dT%H%M%SZ"), **api.headers}
    return signed_by_huawei(pair, api.method, url, body=api.body, **headers)


def an_aws_signature(service: str) -> Show:
    async def show(people: People, case: str, url: str, api: Api) -> Headers:
        if case == "empty":
            return {"Authorization": "AWS4-HMAC-SHA256"}
        pair = await people.pair("aws", case)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("botocore.auth.get_current_datetime", lambda: _date(case))
            return signed_by_botocore(
                pair, api.method, url, body=api.body, service=service, headers=api.headers
            )

    return show


def _date(case: str) -> datetime:
    late = WINDOW + 60 if case == "expired" else 0
    return datetime.now(UTC) - timedelta(seconds=late)


async def the_secret(people: People, case: str, url: str, api: Api) -> Headers:
    shown = {"valid": SECRET, "wrong": SECRET[::-1], "empty": ""}[case]
    return {"Authorization": f"Bearer {shown}"}


async def nothing(people: People, case: str, url: str, api: Api) -> Headers:
    return {}


SHOWN: dict[str, Show] = {
    "key, Authorization: Bearer": a_key(lambda key: {"Authorization": f"Bearer {key}"}),
    "key, Authorization: Basic": a_key(_basic),
    "key, X-Api-Key": a_key(lambda key: {"X-Api-Key": key}),
    "key, Bluelink-Api-Key": a_key(lambda key: {"Bluelink-Api-Key": key}),
    "key, X-Auth-Token": a_key(lambda key: {"X-Auth-Token": key}),
    "key, X-Escape-Token": a_key(lambda key: {"X-Escape-Token": key}),
    "key, Cookie": a_key(lambda key: {"Cookie": f"x-escape-token={key}"}),
    "token, Authorization": a_token(lambda token: {"Authorization": f"Bearer {token}"}),
    "token, X-Auth-Token": a_token(lambda token: {"X-Auth-Token": token}),
    "Bluelink signature": a_bluelink_signature,
    "Huawei AK/SK": a_huawei_signature,
    "AWS, execute-api": an_aws_signature("execute-api"),
    "AWS, cloudformation": an_aws_signature("cloudformation"),
    "secret, creating": the_secret,
    "secret, elsewhere": the_secret,
    "nothing": nothing,
}


# The service


@pytest.fixture(scope="module")
def issuer() -> Iterator[RunningIssuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
async def people(
    store: Store, issuer: RunningIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> People:
    # Importing Huawei Cloud's SDK writes into the home directory.
    monkeypatch.setenv("HOME", str(tmp_path))
    sealing_key = make_encryption_key()
    (tmp_path / "sealing").write_text(sealing_key)
    (tmp_path / "secret").write_text(SECRET)
    return People(store, issuer, sealing_key)


@pytest.fixture
async def service(
    store: Store, issuer: RunningIssuer, people: People, tmp_path: Path
) -> AsyncIterator[Local]:
    """One that takes every kind of credential, and knows of a stack and an upload."""
    settings: dict[str, Any] = {
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "oidc_leeway_seconds": 0,
        "secret_key_file": str(tmp_path / "sealing"),
        "escape_secret_file": str(tmp_path / "secret"),
        "max_failures_per_minute": 0,
    }
    async with running(store, **settings) as service:
        key = {"X-Api-Key": await people.key("valid")}
        opened = {"project": "acme", "stack": "web", "operation": "apply"}
        answers = [
            await service.post(opened, "application/json", DEPLOYMENTS, headers=key),
            await service.ask("PUT", "/internal/create-event", data=UPLOAD, headers=key),
        ]
        assert [answer.status for answer in answers] == [201, 200]
        yield service


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_every_credential_is_told_on_every_api_what_the_tables_say(
    service: Local, people: People, credential: str
):
    cells = [
        (case, api)
        for case in CASES
        for api in apis_of(credential)
        if CREDENTIALS[credential][case] != "-"
    ]

    answers = {cell: await ask(service, people, credential, *cell) for cell in cells}

    assert answers == {cell: expected(credential, *cell) for cell in cells}


async def test_whoever_fails_too_often_is_told_to_wait_as_each_api_says_it(
    store: Store, people: People, tmp_path: Path
):
    key_file = str(tmp_path / "sealing")
    await people.key("valid")
    async with running(store, secret_key_file=key_file, max_failures_per_minute=1) as service:
        assert (await service.get("/log/v1/events")).status == 401
        answers = {api: await ask(service, people, "key, X-Api-Key", "wrong", api) for api in APIS}

    for api, answer in answers.items():
        assert 1 <= int(answer.headers["retry-after"]) <= 60, api
    assert {api: settled(answer) for api, answer in answers.items()} == WAITING


def settled(answer: Told) -> Told:
    kept = {name: value for name, value in answer.headers.items() if name != "retry-after"}
    return msgspec.structs.replace(answer, headers=kept)


async def ask(service: Local, people: People, credential: str, case: str, api: str) -> Told:
    request = APIS[api]
    url = service.url + request.path
    shown = await SHOWN[credential](people, case, url, request)
    headers = {**request.headers, **shown}
    return told(await asyncio.to_thread(send, request.method, url, headers, request.body))


#: Headers that say something of a refusal, and those whose value is any.
_TELLING = ("www-authenticate", "x-amzn-errortype", "retry-after", "location")
_ANY = ("x-request-id", "x-amzn-requestid")
_ANY_FIELDS = ("request_id", "encoded_authorization_message", "previous", "page_info")


def told(answer: Answer) -> Told:
    media = answer.headers.get("content-type")
    telling = {name: answer.headers[name] for name in _TELLING if name in answer.headers}
    ids = {name: "any" for name in _ANY if name in answer.headers}
    return Told(status=answer.status, media=media, body=_body(answer), headers=telling | ids)


def _body(answer: Answer) -> Any:
    media = answer.headers.get("content-type", "")
    if media.startswith("text/xml"):
        return _xml(answer.body)
    return _counted(json.loads(answer.body)) if "json" in media else answer.body.decode()


def _counted(body: Any) -> Any:
    if isinstance(body, list):
        return len(body)
    counted = {name: len(v) if isinstance(v, list) else v for name, v in body.items()}
    return counted | {name: "any" for name in _ANY_FIELDS if counted.get(name)}


def _xml(body: bytes) -> Any:
    root = ElementTree.fromstring(re.sub(rb' xmlns="[^"]*"', b"", body))
    error = root.find("Error")
    if error is not None:
        assert root.findtext("RequestId")
        return {part.tag: part.text for part in error}
    assert root.findtext("ResponseMetadata/RequestId")
    return {part.tag: len(part) for part in root[0]}
