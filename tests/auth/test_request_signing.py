"""Signatures of whole requests: what the vendors' clients sign is accepted, and nothing else."""

import hashlib
import hmac
import json
import logging
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deploylog.auth.access_keys import make_access_key
from deploylog.auth.authentication import Authentication, RequestCredentials
from deploylog.auth.cache import CACHE_TTL
from deploylog.auth.encryption import Encryptor, make_encryption_key, parse_encryptor
from deploylog.auth.huawei import HuaweiScheme
from deploylog.auth.rate_limit import RateLimiter
from deploylog.auth.replay_cache import GRACE_SECONDS
from deploylog.auth.request_signing import LOG_BURST, WINDOW, RequestSignatures, Scheme
from deploylog.auth.sigv4 import AwsScheme
from deploylog.auth.store import AccessKeyKind, Credential
from deploylog.errors import KeyNotFound, Unauthenticated
from deploylog.events.access import Principal, parse_grant
from support.clocks import Clock, WallClock
from support.paths import FIXTURES
from support.presenting import presented_raw

#: Of the vendors' own access_keys, but the last of Huawei's, with when each was signed.
VECTORS: dict[str, Any] = {
    vector["name"]: vector
    for vector in json.loads((FIXTURES / "request-signatures.json").read_text())
}
DATE = 1704164645
RFS = "rfs-1-filter-field"
BODY = "rfs-4-get-with-json-body-golangsdk-shape"
AWS = "sigv4-1-loopback"

Headers = list[tuple[str, bytes]]

ENCRYPTOR = parse_encryptor(make_encryption_key())


class StoredAccessKeys:
    """Signers in memory: what a store's ``get`` says of them."""

    def __init__(self, encryptor: Encryptor) -> None:
        self.kept: dict[tuple[str, str], Credential] = {}
        self._seal = encryptor

    def keep(self, kind: AccessKeyKind, id: str, secret: str) -> None:
        self.kept[kind, id] = make_access_key(
            kind=kind, id=id, secret=secret, name="web", groups=("ops",),
            grants=[parse_grant("read:project/acme")], encryptor=self._seal, now=1,
        )  # fmt: skip

    async def get(self, kind: AccessKeyKind, id: str) -> Credential:
        if (kind, id) not in self.kept:
            raise KeyNotFound
        return self.kept[kind, id]


class MemorySignatures:
    """``Signatures`` of one process."""

    def __init__(self) -> None:
        self.seen: dict[bytes, int] = {}

    async def first_seen(self, digest: bytes, *, now: int, until: int) -> int:
        return self.seen.setdefault(digest, now)


class Verifier:
    """Both vendors' signatures, with the keys of the vectors, at a moment of one's choice."""

    def __init__(self, encryptor: Encryptor | None = ENCRYPTOR) -> None:
        self.access_keys = StoredAccessKeys(ENCRYPTOR)
        for vector in VECTORS.values():
            self.access_keys.keep(scheme_of(vector).kind, vector["ak"], vector["sk"])
        self.clock = WallClock(DATE)
        self.monotonic = Clock()
        self.kinds = {
            scheme.kind: RequestSignatures(
                scheme,
                self.access_keys,  # type: ignore[arg-type]
                encryptor,
                MemorySignatures(),
                clock=self.clock,
                monotonic=self.monotonic,
            )
            for scheme in (HuaweiScheme(), AwsScheme())
        }  # fmt: skip

    async def principal(self, shown: RequestCredentials) -> Principal | None:
        found = [await kind.principal(shown) for kind in self.kinds.values()]
        return next((principal for principal in found if principal is not None), None)

    async def reason_for(self, shown: RequestCredentials) -> str:
        """Why it is refused."""
        with pytest.raises(Unauthenticated) as raised:
            await self.principal(shown)
        assert raised.value.args == Unauthenticated().args
        return raised.value.reason


def scheme_of(vector: dict[str, Any]) -> Scheme:
    return AwsScheme() if vector["name"].startswith("sigv4") else HuaweiScheme()


def headers_of(vector: dict[str, Any], **changed: str | None) -> Headers:
    """Its headers, with some changed or left out."""
    new = {name.replace("_", "-"): value for name, value in changed.items()}
    kept = [
        (name, (new.pop(name.lower(), value) or "").encode())
        for name, value in vector["headers"]
        if new.get(name.lower(), value) is not None
    ]
    return kept + [(name, value.encode()) for name, value in new.items() if value is not None]


def request_of(
    vector: dict[str, Any], headers: Headers | None = None, **changed: Any
) -> RequestCredentials:
    """The vector as a request, with some of it changed."""
    path, _, query = vector["target"].partition("?")
    parts = {
        "method": vector["method"],
        "path": path,
        "query": query,
        "body": vector["body"].encode(),
        **changed,
    }
    return presented_raw(headers or headers_of(vector), **parts)


@pytest.fixture
def verifier() -> Verifier:
    return Verifier()


@pytest.mark.parametrize("name", VECTORS)
async def test_what_the_vendors_sign_is_accepted(verifier: Verifier, name: str):
    principal = await verifier.principal(request_of(VECTORS[name]))

    assert principal == Principal(
        name="web",
        id=VECTORS[name]["ak"],
        groups=frozenset({"ops"}),
        grants=(parse_grant("read:project/acme"),),
        kind=scheme_of(VECTORS[name]).kind,
    )


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize(("seconds", "is_good"), [(WINDOW, True), (WINDOW + 1, False)])
@pytest.mark.parametrize("direction", [1, -1])
async def test_a_date_is_good_for_fifteen_minutes_either_way(
    verifier: Verifier, name: str, seconds: int, is_good: bool, direction: int
):
    verifier.clock.advance(seconds * direction)

    if is_good:
        assert await verifier.principal(request_of(VECTORS[name])) is not None
    else:
        assert await verifier.reason_for(request_of(VECTORS[name])) == "expired"


# What is changed on the way is refused


def split(vector: dict[str, Any]) -> tuple[str, str, str]:
    path, _, query = vector["target"].partition("?")
    return vector["method"], path, query


def pairs(query: str) -> list[tuple[bytes, bytes]]:
    pieces = (piece.partition("=") for piece in query.split("&") if piece)
    return sorted((unquote_to_bytes(n), unquote_to_bytes(v)) for n, _, v in pieces)


def means_the_same(part: str, before: str, after: str) -> bool:
    """Whether two spellings say the same: the schemes let spelling change, not what is said."""
    if part == "path":
        return unquote_to_bytes(before).rstrip(b"/") == unquote_to_bytes(after).rstrip(b"/")
    return part == "query" and pairs(before) == pairs(after)


@given(data=st.data())
@pytest.mark.parametrize("name", VECTORS)
async def test_a_changed_character_in_the_target_is_refused(name: str, data: st.DataObject):
    vector = VECTORS[name]
    method, path, query = split(vector)
    parts = {"method": method, "path": path, "query": query}
    part = data.draw(st.sampled_from([part for part, text in parts.items() if text]))
    text = parts[part]
    at = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(min_codepoint=33, max_codepoint=255))
    changed = text[:at] + character + text[at + 1 :]
    assume(changed != text and not means_the_same(part, text, changed))

    reason = await Verifier().reason_for(request_of(vector, None, **{part: changed}))

    assert reason == "bad_signature"


def signed_names(vector: dict[str, Any]) -> list[str]:
    [authorization] = [value for name, value in vector["headers"] if name == "Authorization"]
    names = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    return [name for name, _ in vector["headers"] if name.lower() in names]


@given(data=st.data())
@pytest.mark.parametrize("name", VECTORS)
async def test_a_changed_byte_in_a_signed_header_is_refused(name: str, data: st.DataObject):
    vector = VECTORS[name]
    header = data.draw(st.sampled_from(signed_names(vector)))
    headers = headers_of(vector)
    index = [each for each, _ in headers].index(header)
    value = bytearray(headers[index][1])
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] = data.draw(st.integers(33, 255).filter(lambda byte: byte != value[at]))
    headers[index] = (header, bytes(value))

    reason = await Verifier().reason_for(request_of(vector, headers))

    # Another date may be none, or one of another day.
    assert reason in ("bad_signature", "expired", "malformed")


@given(data=st.data())
async def test_a_changed_body_is_refused(data: st.DataObject):
    vector = VECTORS[BODY]
    body = vector["body"].encode()
    at = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 2))
    changed = body[:at] + data.draw(st.binary(max_size=2)) + body[at + cut :]
    assume(changed != body)

    assert await Verifier().reason_for(request_of(vector, body=changed)) == "bad_signature"


@pytest.mark.parametrize("name", VECTORS)
async def test_a_body_where_none_was_signed_is_refused(verifier: Verifier, name: str):
    body = (VECTORS[name]["body"] + "{}").encode()

    assert await verifier.reason_for(request_of(VECTORS[name], body=body)) == "bad_signature"


@given(data=st.data())
@pytest.mark.parametrize("name", VECTORS)
async def test_a_changed_character_in_the_authorization_is_refused(name: str, data: st.DataObject):
    vector = VECTORS[name]
    [text] = [value for each, value in vector["headers"] if each == "Authorization"]
    at = data.draw(st.integers(len("AWS4-"), len(text) - 1))
    character = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    assume(character != text[at])
    changed = text[:at] + character + text[at + 1 :]

    assert await Verifier().reason_for(
        request_of(vector, headers_of(vector, authorization=changed))
    )


@pytest.mark.parametrize("name", VECTORS)
async def test_a_signed_header_that_is_missing_or_there_twice_is_refused(
    verifier: Verifier, name: str
):
    vector = VECTORS[name]
    headers = headers_of(vector)

    for header in signed_names(vector):
        without = [pair for pair in headers if pair[0] != header]
        twice = [*headers, *(pair for pair in headers if pair[0] == header)]
        for changed in (without, twice, twice[::-1]):
            assert await verifier.reason_for(request_of(vector, changed)) == "malformed"


async def test_headers_that_were_not_signed_may_be_changed(verifier: Verifier):
    vector = VECTORS[BODY]
    headers = headers_of(vector, x_project_id="another", accept_encoding="gzip")

    assert await verifier.principal(request_of(vector, headers)) is not None


# Who and with what


@pytest.mark.parametrize("name", VECTORS)
async def test_an_unknown_key_is_refused_without_a_look_at_the_body(verifier: Verifier, name: str):
    vector = VECTORS[name]
    verifier.access_keys.kept.clear()

    async def read() -> bytes:
        raise AssertionError("the body was read")

    request = request_of(vector)
    unread = RequestCredentials(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        client=None,
        raw_headers=request.raw_headers,
        body=read,
    )
    assert await verifier.reason_for(unread) == "unknown_key"


async def test_a_key_of_one_kind_signs_nothing_of_another(verifier: Verifier):
    vector = VECTORS[RFS]
    verifier.access_keys.kept.clear()
    verifier.access_keys.keep("aws", vector["ak"], vector["sk"])
    verifier.access_keys.keep("bluelink", vector["ak"], vector["sk"])

    assert await verifier.reason_for(request_of(vector)) == "unknown_key"


@pytest.mark.parametrize("name", VECTORS)
async def test_another_secret_is_refused(verifier: Verifier, name: str):
    vector = VECTORS[name]
    verifier.access_keys.keep(scheme_of(vector).kind, vector["ak"], vector["sk"][::-1])

    assert await verifier.reason_for(request_of(vector)) == "bad_signature"


@pytest.mark.parametrize("name", [RFS, AWS])
async def test_a_revoked_key_opens_nothing_any_more(verifier: Verifier, name: str):
    vector = VECTORS[name]
    signatures = verifier.kinds[scheme_of(vector).kind]
    principal = await signatures.principal(request_of(vector))
    assert principal is not None
    before = await signatures.is_valid(principal)

    verifier.access_keys.kept.clear()
    verifier.monotonic.advance(CACHE_TTL)

    assert before
    assert not await signatures.is_valid(principal)
    assert await verifier.reason_for(request_of(vector)) == "unknown_key"


async def test_without_the_encryption_key_no_signature_is_good(caplog: pytest.LogCaptureFixture):
    verifier = Verifier(encryptor=None)

    with caplog.at_level(logging.ERROR):
        reasons = [await verifier.reason_for(request_of(VECTORS[RFS])) for _ in range(2)]

    assert reasons == ["unknown_key"] * 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer a.b.c", "Basic YTpi", "sdk-hmac-sha256 Access=a"]
)
async def test_without_a_signature_nobody_asks(verifier: Verifier, authorization: str | None):
    headers = headers_of(VECTORS[RFS], authorization=authorization)

    assert await verifier.principal(request_of(VECTORS[RFS], headers)) is None


REFUSED = {
    "of a derived key": (RFS, "SDK-HMAC-SHA256 Access=", "V11-HMAC-SHA256 Credential="),
    "with SM3": (RFS, "SDK-HMAC-SHA256", "SDK-HMAC-SM3"),
    "with SM2": (RFS, "SDK-HMAC-SHA256", "SDK-SM2-SM3"),
    "with ECDSA": (RFS, "SDK-HMAC-SHA256", "SDK-ECDSA-P256-SHA256"),
    "of AWS with ECDSA": (AWS, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
    "for another service of AWS": (AWS, "execute-api", "s3"),
    "without its end": (AWS, "/aws4_request", "/aws4_reques"),
    "without a region": (AWS, "/0/", "//"),
    "of another day": (AWS, "/20240102/", "/20240103/"),
    "without the host": (AWS, "host;x-amz-date", "x-amz-date"),
    "without AWS's date": (AWS, "host;x-amz-date", "host"),
    "without Huawei's date": (RFS, ";x-sdk-date", ""),
    "with a name in capitals": (RFS, "content-type", "Content-Type"),
    "with a name twice": (RFS, "client-request-id;", "client-request-id;client-request-id;"),
    "with an empty name": (RFS, "host;", "host;;"),
    "in capitals": (AWS, "4aa1ae5a1988", "4AA1AE5A1988"),
    "that is cut": (AWS, "4aa1ae5a1988", "4aa1ae5a198"),
    "with something more": (AWS, "SignedHeaders", "More=1, SignedHeaders"),
    "in another order": (RFS, "Access=AKTEST0123456789ABCD, ", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_a_signature_that_cannot_be_read_is_refused(verifier: Verifier, case: str):
    name, old, new = REFUSED[case]
    [text] = [value for each, value in VECTORS[name]["headers"] if each == "Authorization"]
    assert old in text

    headers = headers_of(VECTORS[name], authorization=text.replace(old, new))

    assert await verifier.reason_for(request_of(VECTORS[name], headers)) == "malformed"


@pytest.mark.parametrize(
    "date",
    [
        *(None, "", "2024-01-02T03:04:05Z", "20240102T030405", "20240102T030405Z ", "1704164645"),
        *("20241302T030405Z", "20240230T030405Z", "20240102T250405Z", "00000102T030405Z"),
    ],
)
@pytest.mark.parametrize("name", [RFS, AWS])
async def test_a_date_that_is_none_is_refused(verifier: Verifier, name: str, date: str | None):
    vector = VECTORS[name]
    changed = {"x_sdk_date" if name == RFS else "x_amz_date": date}

    assert (
        await verifier.reason_for(request_of(vector, headers_of(vector, **changed))) == "malformed"
    )


async def test_why_a_signature_was_refused_the_log_says_without_what_it_held(
    verifier: Verifier, caplog: pytest.LogCaptureFixture
):
    vector = VECTORS[RFS]

    with caplog.at_level(logging.INFO):
        for _ in range(LOG_BURST + 3):
            await verifier.reason_for(request_of(vector, method="POST"))

    said = {record.getMessage() for record in caplog.records}
    assert said == {"rejected a huawei signature: bad_signature"}
    assert len(caplog.records) == LOG_BURST


@pytest.mark.parametrize("name", VECTORS)
async def test_apis_learn_what_is_wrong(name: str):
    vector, unlimited = VECTORS[name], RateLimiter(0, burst=1, clock=Clock())
    verifier = Verifier()
    authentication = Authentication(
        tuple(verifier.kinds.values()),
        requests=unlimited,
        failures=unlimited,
        failed=lambda: None,
    )

    async def reason(request: RequestCredentials) -> str:
        with pytest.raises(Unauthenticated) as raised:
            await authentication.authenticate(request)
        assert raised.value.args == Unauthenticated().args
        return raised.value.reason

    word = "AWS4-HMAC-SHA256" if name == AWS else "SDK-HMAC-SHA256"
    admitted = await authentication.authenticate(request_of(vector))
    found = [
        await reason(request_of(vector, headers_of(vector, authorization=None))),
        await reason(request_of(vector, headers_of(vector, authorization=f"{word} nonsense"))),
        await reason(request_of(vector, method="PUT")),
    ]
    verifier.clock.advance(WINDOW + 1)
    found.append(await reason(request_of(vector)))
    verifier.access_keys.kept.clear()
    verifier.monotonic.advance(CACHE_TTL)
    found.append(await reason(request_of(vector)))

    assert admitted.id == vector["ak"]
    assert found == ["missing", "malformed", "bad_signature", "expired", "unknown_key"]


# Signed here, by the specifications' own words


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def huawei(canonical: str, names: str, *, id: str, secret: str) -> str:
    text = f"SDK-HMAC-SHA256\n20240102T030405Z\n{digest(canonical.encode())}"
    signature = hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    return f"SDK-HMAC-SHA256 Access={id}, SignedHeaders={names}, Signature={signature}"


def aws(canonical: str, names: str, *, service: str = "execute-api", comma: str = ", ") -> str:
    scope = f"20240102/eu-west-1/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n20240102T030405Z\n{scope}\n{digest(canonical.encode())}"
    key = f"AWS4{VECTORS[AWS]['sk']}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), "sha256").digest()
    parts = (f"Credential={VECTORS[AWS]['ak']}/{scope}", f"SignedHeaders={names}")
    return f"AWS4-HMAC-SHA256 {comma.join((*parts, f'Signature={key.hex()}'))}"


def posted(
    body: bytes,
    *,
    content_type: str = "application/json",
    payload: str | None = None,
    declared: str | None = None,
    names: str = "content-type;host;x-sdk-date",
) -> RequestCredentials:
    """A POST signed as Huawei's SDK does, over ``payload`` and with a header that declares one."""
    values = {"content-type": content_type, "host": "a", "x-sdk-date": "20240102T030405Z"}
    lines = "".join(f"{name}:{values[name]}\n" for name in names.split(";"))
    hashed = digest(body) if payload is None else payload
    canonical = f"POST\n/log/v1/events/\n\n{lines}\n{names}\n{hashed}"
    vector = VECTORS[RFS]
    values["authorization"] = huawei(canonical, names, id=vector["ak"], secret=vector["sk"])
    if declared is not None:
        values["x-sdk-content-sha256"] = declared
    headers = [(name, value.encode()) for name, value in values.items()]
    return presented_raw(headers, method="POST", body=body)


UNSIGNED = "UNSIGNED-PAYLOAD"


async def test_a_declared_hash_must_be_the_bodys(verifier: Verifier):
    body = b'{"a": 1}'
    other = digest(b'{"a": 2}')

    assert await verifier.principal(posted(body, declared=digest(body)))
    assert await verifier.reason_for(posted(body, payload=other, declared=other)) == "bad_signature"
    assert await verifier.reason_for(posted(b"", payload=other, declared=other)) == "bad_signature"


async def test_only_a_body_that_is_not_json_may_be_left_unsigned(verifier: Verifier):
    def unsigned(content_type: str, **how: Any) -> RequestCredentials:
        return posted(b"a", content_type=content_type, payload=UNSIGNED, declared=UNSIGNED, **how)

    lines = await verifier.principal(unsigned("application/x-ndjson"))
    json = await verifier.reason_for(unsigned("application/json;charset=UTF-8"))
    loose = await verifier.reason_for(unsigned("text/plain", names="host;x-sdk-date"))

    assert lines is not None
    assert (json, loose) == ("bad_signature", "bad_signature")


async def test_with_no_body_the_hash_of_nothing_is_signed_whatever_is_declared(verifier: Verifier):
    assert await verifier.principal(posted(b"", content_type="text/plain", declared=UNSIGNED))


async def test_nobody_can_say_that_a_body_was_left_unsigned(verifier: Verifier):
    request = posted(b"a", content_type="text/plain", declared=UNSIGNED)

    assert await verifier.reason_for(request) == "bad_signature"


@pytest.mark.parametrize("comma", [", ", ",", ",  "])
@pytest.mark.parametrize("service", ["execute-api", "cloudformation"])
async def test_a_request_of_aws_may_have_a_body_and_a_session_token(
    verifier: Verifier, service: str, comma: str
):
    names = "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    body = b"Action=DescribeStacks&Version=2010-05-15"
    values = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": "127.0.0.1:8325",
        "x-amz-content-sha256": digest(body),
        "x-amz-date": "20240102T030405Z",
        "x-amz-security-token": "session  token",
    }
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in values.items())
    canonical = f"POST\n/\n\n{lines}\n{names}\n{digest(body)}"
    values["authorization"] = aws(canonical, names, service=service, comma=comma)
    headers = [(name, value.encode()) for name, value in values.items()]

    request = presented_raw(headers, method="POST", path="/", body=body)
    other = presented_raw(headers, method="POST", path="/", body=body + b"&a=b")

    assert await verifier.principal(request) is not None
    assert await verifier.reason_for(other) == "bad_signature"


@pytest.mark.parametrize("declared", [UNSIGNED, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
async def test_a_body_that_aws_leaves_unsigned_is_refused(verifier: Verifier, declared: str):
    names = "host;x-amz-content-sha256;x-amz-date"
    values = {"host": "a", "x-amz-content-sha256": declared, "x-amz-date": "20240102T030405Z"}
    lines = "".join(f"{name}:{value}\n" for name, value in values.items())
    values["authorization"] = aws(f"POST\n/\n\n{lines}\n{names}\n{declared}", names)
    headers = [(name, value.encode()) for name, value in values.items()]

    request = presented_raw(headers, method="POST", path="/", body=b"a")

    assert await verifier.reason_for(request) == "bad_signature"


@given(
    pairs=st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=5)), max_size=5),
    is_strict=st.booleans(),
)
async def test_a_query_may_be_signed_as_it_is_sent_or_strictly_encoded(
    pairs: list[tuple[str, str]], is_strict: bool
):
    try:
        sent = [(quote(n, safe="/!"), quote(v, safe="/!")) for n, v in pairs]
        strict = [(quote(n, safe=""), quote(v, safe="")) for n, v in pairs]
    except UnicodeEncodeError:
        assume(False)
    signed = "&".join(f"{n}={v}" for n, v in sorted(strict if is_strict else sent))
    lines = "host:a\nx-amz-date:20240102T030405Z\n"
    canonical = f"GET\n/a%2520b\n{signed}\n{lines}\nhost;x-amz-date\n{digest(b'')}"
    headers = [
        ("host", b"a"),
        ("x-amz-date", b"20240102T030405Z"),
        ("authorization", aws(canonical, "host;x-amz-date").encode()),
    ]

    query = "&".join(f"{n}={v}" for n, v in sent)

    assert await Verifier().principal(presented_raw(headers, path="/a%20b", query=query))


# What comes again


async def test_what_changes_something_is_not_taken_again_long_after(verifier: Verifier):
    request = posted(b"{}")
    first = await verifier.principal(request)

    verifier.clock.advance(GRACE_SECONDS)
    again = await verifier.principal(request)
    verifier.clock.advance(1)

    assert first == again
    assert first is not None
    assert await verifier.reason_for(request) == "expired"
    assert await verifier.principal(posted(b"[]")) is not None


async def test_what_changes_nothing_may_come_again(verifier: Verifier):
    for _ in range(3):
        assert await verifier.principal(request_of(VECTORS[BODY])) is not None
        verifier.clock.advance(GRACE_SECONDS + 1)


async def test_a_forged_request_does_not_count_as_the_first(verifier: Verifier):
    genuine = posted(b"{}")
    await verifier.reason_for(posted(b"{}", content_type="text/plain", payload=digest(b"")))
    forged = RequestCredentials(
        method="POST",
        path="/log/v1/other",
        query="",
        headers=genuine.headers,
        client=None,
        raw_headers=genuine.raw_headers,
        body=genuine.body,
    )
    await verifier.reason_for(forged)

    verifier.monotonic.advance(GRACE_SECONDS + 1)

    assert await verifier.principal(genuine) is not None
