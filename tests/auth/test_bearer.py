"""Bearer tokens of a real issuer: which are good, and which are not."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploylog.auth.bearer import (
    LOG_BURST,
    MAX_TOKEN_LENGTH,
    BearerTokens,
    InvalidToken,
    open_bearer_tokens,
    parse_principal,
)
from deploylog.auth.oidc import (
    ALGORITHMS,
    KEYS_SECONDS,
    OUTAGE_SECONDS,
    RETRY_SECONDS,
    Issuer,
    IssuerUnavailable,
    make_issuer,
    parse_keys,
    parse_metadata,
)
from deploylog.errors import InvalidSettings, Unauthenticated, Unavailable
from deploylog.events.access import Principal, parse_grant
from support.clocks import WallClock
from support.issuer import (
    KEYS,
    RunningIssuer,
    new_private_key,
    public_jwk,
    running_issuer,
    unsigned,
)
from support.presenting import presented
from support.waiting import until

pytestmark = pytest.mark.process

AUDIENCE = "deploylog"
NOW = 1_800_000_000
LEEWAY = 30
EVERY = ",".join(ALGORITHMS)

WELL_KNOWN = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def process() -> Iterator[RunningIssuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
async def idp(process: RunningIssuer) -> RunningIssuer:
    await process.reset()
    return process


@pytest.fixture
def clock() -> WallClock:
    return WallClock(NOW)


def described(idp: RunningIssuer, **fields: Any) -> Issuer:
    """The issuer as the settings have it."""
    return make_issuer(**{"issuer": idp.url, "audience": AUDIENCE, "algorithms": EVERY, **fields})


@pytest.fixture
async def tokens(idp: RunningIssuer, clock: WallClock) -> AsyncIterator[BearerTokens]:
    async with open_bearer_tokens(described(idp), clock=clock) as tokens:
        await ready(tokens)
        yield tokens


async def ready(tokens: BearerTokens) -> None:
    """Until the issuer was asked for the first time."""
    await until(lambda: tokens._keys._attempted is not None and not tokens._keys._is_fetching())


def claims(idp: RunningIssuer, **fields: object) -> dict[str, Any]:
    """What a good token says; a ``None`` leaves something out."""
    whole = {
        "iss": idp.url,
        "sub": "ann-1",
        "aud": AUDIENCE,
        "exp": NOW + 300,
        "iat": NOW,
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}


async def token(
    idp: RunningIssuer,
    key: str = "RS256",
    header: dict[str, Any] | None = None,
    **fields: object,
) -> str:
    """A token that is good, but for what is named."""
    return await idp.sign(header or {}, claims(idp, **fields), key)


async def ask(tokens: BearerTokens, token: str) -> Principal | None:
    try:
        return await tokens.principal(presented({"authorization": f"Bearer {token}"}))
    except Unauthenticated:
        return None


async def reason_for(tokens: BearerTokens, token: str) -> str:
    """The reason, of a token in the header that Huawei Cloud's clients have."""
    with pytest.raises(Unauthenticated) as raised:
        await tokens.principal(presented({"x-auth-token": token}))
    assert raised.value.args == Unauthenticated().args
    return raised.value.reason


async def unanswered(tokens: BearerTokens, token: str) -> None:
    """Nobody can say whose token it is, and it may be good."""
    with pytest.raises(Unavailable):
        await ask(tokens, token)


# Which are good


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_of_each_algorithm_is_good(
    idp: RunningIssuer, tokens: BearerTokens, algorithm: str
):
    principal = await ask(tokens, await token(idp, algorithm))

    assert principal == Principal(
        name="ann-1",
        id=f"{idp.url}#ann-1",
        kind="token",
        expires=(NOW + 300 + LEEWAY) * 1_000_000_000,
    )


async def test_a_token_by_client_credentials_is_good(idp: RunningIssuer):
    issued = WallClock(0)
    got = await idp.token()
    issued.advance(jwt.decode(got, options={"verify_signature": False})["iat"])

    async with open_bearer_tokens(described(idp), clock=issued) as tokens:
        principal = await ask(tokens, got)

    assert principal is not None
    assert principal.name == "web"
    assert principal.grants == (parse_grant("admin:/"),)


@pytest.mark.parametrize("prefix", ["Bearer ", "bearer ", "BEARER  "])
async def test_the_word_before_it_may_be_in_any_case(
    idp: RunningIssuer, tokens: BearerTokens, prefix: str
):
    headers = {"authorization": prefix + await token(idp)}

    assert await tokens.principal(presented(headers)) is not None


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer dlk_a_b"])
async def test_without_a_token_nobody_asks(tokens: BearerTokens, header: str):
    assert await tokens.principal(presented({"authorization": header})) is None


@pytest.mark.parametrize("configured", ["{}", "{}/"])
@pytest.mark.parametrize("iss", ["http://{}", "http://{}/", "{}", "{}/"])
async def test_the_issuer_may_be_named_with_and_without_scheme_and_slash(
    idp: RunningIssuer, clock: WallClock, configured: str, iss: str
):
    host = idp.url.removeprefix("http://")
    issuer = described(idp, issuer=configured.format(idp.url))

    async with open_bearer_tokens(issuer, clock=clock) as tokens:
        assert await ask(tokens, await token(idp, iss=iss.format(host))) is not None


TIMES: dict[str, tuple[dict[str, Any], bool]] = {
    "a list of audiences": ({"aud": ["other", AUDIENCE]}, True),
    "another audience": ({"aud": "other"}, False),
    "another list of audiences": ({"aud": ["other"]}, False),
    "part of the audience": ({"aud": "deploy"}, False),
    "no audience": ({"aud": None}, False),
    "an audience of another type": ({"aud": {AUDIENCE: 1}}, False),
    "another issuer": ({"iss": "https://evil.example"}, False),
    "a longer issuer": ({"iss": "http://127.0.0.1.evil.example"}, False),
    "no issuer": ({"iss": None}, False),
    "a list of issuers": ({"iss": ["a"]}, False),
    "no subject": ({"sub": None}, False),
    "an empty subject": ({"sub": ""}, False),
    "a subject that is a number": ({"sub": 1}, False),
    "no end": ({"exp": None}, False),
    "an end in words": ({"exp": "tomorrow"}, False),
    "an end that is no number": ({"exp": True}, False),
    "an end in ms": ({"exp": (NOW + 300) * 1000}, False),
    "a fraction of a second left": ({"exp": NOW - LEEWAY + 0.5}, True),
    "the last second": ({"exp": NOW - LEEWAY + 1}, True),
    "expired": ({"exp": NOW - LEEWAY}, False),
    "expired long ago": ({"exp": 0}, False),
    "begins now": ({"nbf": NOW}, True),
    "begins within the leeway": ({"nbf": NOW + LEEWAY}, True),
    "begins later": ({"nbf": NOW + LEEWAY + 1}, False),
    "begins in words": ({"nbf": "now"}, False),
    "issued within the leeway": ({"iat": NOW + LEEWAY}, True),
    "issued later": ({"iat": NOW + LEEWAY + 1}, False),
    "issued at no time": ({"iat": None}, True),
    "issued in words": ({"iat": "now"}, False),
}


@pytest.mark.parametrize("case", TIMES)
async def test_the_claims_decide(idp: RunningIssuer, tokens: BearerTokens, case: str):
    fields, good = TIMES[case]

    assert (await ask(tokens, await token(idp, **fields)) is not None) is good


@pytest.mark.parametrize(("leeway", "good"), [(0, False), (300, True)])
async def test_the_leeway_is_what_was_set(
    idp: RunningIssuer, clock: WallClock, leeway: int, good: bool
):
    async with open_bearer_tokens(described(idp, leeway=leeway), clock=clock) as tokens:
        await ready(tokens)

        assert (await ask(tokens, await token(idp, exp=NOW)) is not None) is good
        assert (await ask(tokens, await token(idp, nbf=NOW + 1)) is not None) is good


async def test_who_was_let_in_is_valid_until_the_token_ends(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    principal = await ask(tokens, await token(idp))
    assert principal is not None

    clock.advance(300 + LEEWAY - 1)
    before = await tokens.is_valid(principal)
    clock.advance(1)

    assert before
    assert not await tokens.is_valid(principal)
    assert not await tokens.is_valid(Principal(name="a", kind="token"))


# Which are not


async def test_a_token_that_says_that_it_is_not_signed_is_refused(
    idp: RunningIssuer, tokens: BearerTokens
):
    for name in ("none", "None", "NONE", ""):
        bare = unsigned({"alg": name, "kid": "RS256"}, claims(idp))

        assert await ask(tokens, bare) is None


async def test_a_public_key_is_not_taken_for_a_shared_secret(
    idp: RunningIssuer, tokens: BearerTokens
):
    [jwk] = [key for key in (await idp.jwks())["keys"] if key["kid"] == "RS256"]
    public = jwt.PyJWK(jwk).key
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hmac = jwt.get_algorithm_by_name("HS256")
    text = unsigned({"alg": "HS256", "kid": "RS256"}, claims(idp))

    for secret in (pem, pem.strip(), json.dumps(jwk).encode()):
        signature = hmac.sign(text[:-1].encode(), secret)
        assert await ask(tokens, text + jwt.utils.base64url_encode(signature).decode()) is None


HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "no key id": ("RS256", {"kid": None}),
    "an unknown key id": ("RS256", {"kid": "other"}),
    "an empty key id": ("RS256", {"kid": ""}),
    "a key id that is a number": ("RS256", {"kid": 1}),
    "the id of a key of another type": ("RS256", {"kid": "ES256"}),
    "the algorithm of another type": ("RS256", {"alg": "ES256", "kid": "ES256"}),
    "another algorithm of the same type": ("RS256", {"alg": "RS512"}),
    "another padding": ("RS256", {"alg": "PS256"}),
    "the key of another algorithm": ("PS256", {"kid": "RS256"}),
    "another curve": ("ES256", {"alg": "ES384", "kid": "ES384"}),
    "no algorithm": ("RS256", {"alg": None}),
    "an algorithm that is a list": ("RS256", {"alg": ["RS256"]}),
    "a critical extension": ("RS256", {"crit": ["exp"], "exp": 1}),
}


@pytest.mark.parametrize("case", HEADERS)
async def test_a_header_that_fits_no_key_is_refused(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock, case: str
):
    key, header = HEADERS[case]

    assert await ask(tokens, await token(idp, key, header)) is None


async def test_a_key_in_the_token_itself_is_ignored(idp: RunningIssuer, tokens: BearerTokens):
    own = new_private_key("RS256")
    embedded = {
        "jwk": public_jwk(own, "RS256", kid="RS256"),
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "x5c": ["MIIB"],
    }
    forged = jwt.encode(claims(idp), own, "RS256", {**embedded, "kid": "RS256"})

    assert await ask(tokens, forged) is None
    assert await ask(tokens, await token(idp, header=embedded)) is not None


async def test_a_token_with_a_changed_part_is_refused(idp: RunningIssuer, tokens: BearerTokens):
    good = await token(idp)
    header, body, signature = good.split(".")
    other = unsigned({}, claims(idp, sub="root")).split(".")[1]

    for bad in (
        f"{header}.{other}.{signature}",
        f"{header}.{body}.{signature[::-1]}",
        f"{header}.{body}.",
        f"{header}.{body}",
        f"{good}.{signature}",
        f".{good}",
        good[1:],
        good[:-2],
    ):
        assert await ask(tokens, bad) is None


async def test_a_huge_token_is_refused_unread(idp: RunningIssuer, tokens: BearerTokens):
    fits = await token(idp, padding="x" * (MAX_TOKEN_LENGTH // 2))
    huge = await token(idp, padding="x" * MAX_TOKEN_LENGTH)

    assert await ask(tokens, fits) is not None
    assert await ask(tokens, huge) is None
    assert await ask(tokens, "." * 16_384) is None


DEEP = "[" * 5_000

GARBAGE = [
    "..", "a.b.c", "e30.e30.e30", "ü.ü.ü", "\x00.\x00.\x00", "=.=.=",
    jwt.utils.base64url_encode(DEEP.encode()).decode() + ".e30.e30",
    jwt.utils.base64url_encode(b'"text"').decode() + ".e30.e30",
    jwt.utils.base64url_encode(b"\xff\xfe").decode() + ".e30.e30",
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE)
async def test_garbage_is_refused(tokens: BearerTokens, text: str):
    assert await ask(tokens, text) is None


@given(text=st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[\w=-]{0,40}"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_else_is_refused(tokens: BearerTokens, text: str):
    assert await ask(tokens, text) is None


# Keys


async def test_a_new_key_is_found_at_once(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    clock.advance(RETRY_SECONDS)
    id = await idp.rotate("ES256")

    assert await ask(tokens, await token(idp, id)) is not None


async def test_unknown_keys_are_asked_for_once_in_a_while(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    before = (await idp.fetches())["/jwks"]
    clock.advance(RETRY_SECONDS)
    bad = [await token(idp, header={"kid": f"other{number}"}) for number in range(20)]

    answers = await asyncio.gather(*(ask(tokens, each) for each in bad))
    later = [await ask(tokens, each) for each in bad]

    assert {*answers, *later} == {None}
    assert (await idp.fetches())["/jwks"] == before + 1


async def test_a_withdrawn_key_is_refused_once_the_keys_are_old(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    good = await token(idp)
    await idp.set(published=["ES256"])
    cached = await ask(tokens, good)

    clock.advance(KEYS_SECONDS)

    assert cached is not None
    assert await ask(tokens, good) is None
    assert await ask(tokens, await token(idp, "ES256")) is not None


async def test_many_requests_wait_for_one_answer(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    before = (await idp.fetches())["/jwks"]
    good = await token(idp)
    clock.advance(KEYS_SECONDS)

    answers = await asyncio.gather(*(ask(tokens, good) for _ in range(50)))

    assert None not in answers
    assert (await idp.fetches())["/jwks"] == before + 1


async def test_old_keys_are_good_for_an_hour_while_the_issuer_is_down(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    good = await token(idp, exp=NOW + 10_000)
    await idp.set(is_down=True)

    clock.advance(KEYS_SECONDS)
    at_first = await ask(tokens, good)
    clock.advance(OUTAGE_SECONDS - KEYS_SECONDS - 1)
    at_last = await ask(tokens, good)
    clock.advance(1)
    await unanswered(tokens, good)
    await idp.set(is_down=False)
    clock.advance(RETRY_SECONDS)

    assert at_first is not None
    assert at_last is not None
    assert await ask(tokens, good) is not None


async def test_an_issuer_that_is_down_at_the_start_may_come_up_later(
    idp: RunningIssuer, clock: WallClock, caplog: pytest.LogCaptureFixture
):
    await idp.set(is_down=True)
    good = await token(idp)

    with caplog.at_level(logging.INFO, "deploylog"):
        async with open_bearer_tokens(described(idp), clock=clock) as tokens:
            for _ in range(3):
                await unanswered(tokens, good)
                clock.advance(RETRY_SECONDS)
            await idp.set(is_down=False)

            assert await ask(tokens, good) is not None

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "503" in said[0]
    assert "again" in said[1]
    assert good not in caplog.text


async def test_an_issuer_that_is_unreachable_authenticates_no_request(
    idp: RunningIssuer, clock: WallClock
):
    issuer = described(idp, issuer="http://127.0.0.1:1")

    async with open_bearer_tokens(issuer, clock=clock) as tokens:
        await unanswered(tokens, await token(idp, iss="http://127.0.0.1:1"))


async def test_who_stops_waiting_does_not_stop_the_others(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    good = await token(idp)
    clock.advance(KEYS_SECONDS)
    first, second = (asyncio.ensure_future(ask(tokens, good)) for _ in range(2))
    # One turn of the loop, in which both begin to wait; an answer takes several.
    await asyncio.sleep(0)
    assert tokens._keys._is_fetching()

    first.cancel()

    assert await second is not None
    assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )


# Discovery


async def test_openid_metadata_are_asked_for_when_there_are_no_others(
    idp: RunningIssuer, clock: WallClock
):
    for status in (404, 500, 301):
        await idp.reset()
        await idp.set(statuses={WELL_KNOWN: status})

        async with open_bearer_tokens(described(idp), clock=clock) as tokens:
            assert await ask(tokens, await token(idp)) is not None


@pytest.mark.parametrize("only", ["inserted", "appended"])
async def test_an_issuer_with_a_path_is_found(idp: RunningIssuer, clock: WallClock, only: str):
    missing = {
        "inserted": "/realms/acme/.well-known/openid-configuration",
        "appended": f"{WELL_KNOWN}/realms/acme",
    }
    await idp.set(statuses={missing[only]: 404})
    issuer = described(idp, issuer=f"{idp.url}/realms/acme/")

    async with open_bearer_tokens(issuer, clock=clock) as tokens:
        good = await ask(tokens, await token(idp, iss=f"{idp.url}/realms/acme"))
        bad = await ask(tokens, await token(idp))

    assert good is not None
    assert bad is None


MISBEHAVIOUR: dict[str, dict[str, Any]] = {
    "metadata of another issuer": {"metadata": {"issuer": "https://evil.example"}},
    "metadata of no issuer": {"metadata": {"issuer": None}},
    "metadata of a list of issuers": {"metadata": {"issuer": ["x"]}},
    "metadata of an odd issuer": {"metadata": {"issuer": {"error": "maintenance"}}},
    "no address of keys": {"metadata": {"jwks_uri": None}},
    "keys in a file": {"metadata": {"jwks_uri": "file:///etc/passwd"}},
    "an address that is none": {"metadata": {"jwks_uri": "http://["}},
    "keys elsewhere": {"statuses": {"/jwks": 302}},
    "no keys": {"statuses": {"/jwks": 404}},
    "large keys": {"large": ["/jwks"]},
    "keys that are text": {"raw": {"/jwks": '"keys"'}},
    "keys that are nested": {"raw": {"/jwks": "[" * 100_000}},
    "keys that are no list": {"raw": {"/jwks": '{"keys": {}}'}},
    "large metadata": {"large": [WELL_KNOWN, OPENID]},
    "metadata that are text": {"raw": {WELL_KNOWN: "<html>", OPENID: "<html>"}},
}


@pytest.mark.parametrize("case", MISBEHAVIOUR)
async def test_an_issuer_that_misbehaves_authenticates_no_request(
    idp: RunningIssuer, clock: WallClock, case: str, caplog: pytest.LogCaptureFixture
):
    good = await token(idp)
    await idp.set(**MISBEHAVIOUR[case])

    async with open_bearer_tokens(described(idp), clock=clock) as tokens:
        await ready(tokens)

        await unanswered(tokens, good)
        assert idp.url in caplog.text


USELESS: dict[str, dict[str, Any]] = {
    "to encrypt": {"use": "enc"},
    "to sign": {"key_ops": ["sign"]},
    "an odd list of uses": {"key_ops": "verify"},
    "of another algorithm": {"alg": "RS512"},
    "of an unknown algorithm": {"alg": "RSA-OAEP"},
    "of an odd algorithm": {"alg": ["RS256"]},
    "of another type": {"kty": "EC"},
    "shared": {"kty": "oct", "k": "c2VjcmV0"},
    "private": {"d": "AQAB"},
    "broken": {"n": "!"},
    "odd": {"n": 1},
    "without id": {"kid": None},
}


@pytest.mark.parametrize("case", USELESS)
async def test_a_key_for_something_else_is_not_used(
    idp: RunningIssuer, clock: WallClock, case: str
):
    await idp.set(fields={"RS256": USELESS[case]})

    async with open_bearer_tokens(described(idp), clock=clock) as tokens:
        assert await ask(tokens, await token(idp)) is None
        assert await ask(tokens, await token(idp, "ES256")) is not None


async def test_a_key_that_can_be_broken_is_not_used(
    idp: RunningIssuer, tokens: BearerTokens, clock: WallClock
):
    weak = await idp.rotate("RS256", bits=1024)
    clock.advance(RETRY_SECONDS)

    assert await ask(tokens, await token(idp, weak)) is None


async def test_only_the_algorithms_that_were_set_are_accepted(idp: RunningIssuer, clock: WallClock):
    async with open_bearer_tokens(described(idp, algorithms="ES256"), clock=clock) as tokens:
        assert await ask(tokens, await token(idp, "ES256")) is not None
        assert await ask(tokens, await token(idp, "RS256")) is None


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
WORDS = ["RSA", "EC", "OKP", "oct", "P-256", "P-521", "Ed25519", "RS256", "sig", "AQAB", "verify"]
FIELDS = ["kty", "crv", "n", "e", "x", "y", "use", "alg", "key_ops"]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(WORDS) | JSON)))
def test_whatever_keys_are_published_none_does_harm(jwks: list[dict[str, Any]]):
    document = json.dumps({"keys": [{"kid": "a", **jwk} for jwk in jwks]}).encode()

    assert isinstance(parse_keys(document, frozenset(ALGORITHMS)), dict)


@pytest.mark.parametrize(
    ("configured", "keys", "good"),
    [
        ("idp.example", "https://keys.example", True),
        ("idp.example", "http://keys.example", False),
        ("https://idp.example", "http://keys.example", False),
        ("http://idp.example", "http://keys.example", True),
        ("http://idp.example", "https://keys.example", True),
        ("http://idp.example", "ftp://keys.example", False),
    ],
)
def test_keys_come_over_tls_unless_the_issuer_does_not(configured: str, keys: str, good: bool):
    issuer = make_issuer(issuer=configured, audience="a")
    document = json.dumps({"issuer": "idp.example", "jwks_uri": keys}).encode()

    if good:
        assert parse_metadata(document, issuer).keys == keys
    else:
        with pytest.raises(IssuerUnavailable):
            parse_metadata(document, issuer)


# Groups and grants


def principal_of(issuer: Issuer, **fields: object) -> Principal:
    """Of a token with these claims."""
    claims = {"sub": "s", "exp": NOW + 1, **fields}
    return parse_principal(claims, issuer, now=NOW * 1_000_000_000)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x" * 2_000, "", 7], ids=ascii)
def test_what_nobody_can_be_called_is_no_name(name: object):
    issuer = make_issuer(issuer="idp.example", audience="a")

    principal = principal_of(
        issuer,
        preferred_username=name,
        groups=[name, "ops"],
        deploylog_grants=[f"read:project/{name}", "read:project/web"],
    )

    assert principal.name == "s"
    assert principal.groups == {"ops"}
    msgspec.json.encode(principal)
    with pytest.raises(InvalidToken):
        principal_of(issuer, sub=name)


async def test_the_log_tells_why_a_token_is_refused_but_not_too_often(
    idp: RunningIssuer, tokens: BearerTokens, caplog: pytest.LogCaptureFixture
):
    bad = await token(idp, aud="another")

    with caplog.at_level(logging.INFO, "deploylog"):
        for _ in range(3 * LOG_BURST):
            assert await ask(tokens, bad) is None

    logged = [record.getMessage() for record in caplog.records if "rejected" in record.getMessage()]
    assert logged == ["rejected a token: Audience doesn't match"] * LOG_BURST
    assert bad not in caplog.text


def test_a_token_outside_its_time_is_refused_with_the_reason():
    issuer = make_issuer(issuer="idp.example", audience="a")

    with pytest.raises(InvalidToken, match="the token has expired"):
        principal_of(issuer, exp=NOW - 100)
    with pytest.raises(InvalidToken, match="the token is not valid yet"):
        principal_of(issuer, nbf=NOW + 100)


GROUPS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "a list": ("groups", {"groups": ["a", "b c"]}, {"a", "b c"}),
    "words": ("groups", {"groups": " a  b "}, {"a", "b"}),
    "none": ("groups", {}, set()),
    "null": ("groups", {"groups": None}, set()),
    "numbers among them": ("groups", {"groups": [1, "a", "", None, ["b"]]}, {"a"}),
    "an object": ("groups", {"groups": {"a": True}}, set()),
    "a path": ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, {"a"}),
    "a longer path": ("a.b.c", {"a": {"b": {"c": "x"}}}, {"x"}),
    "a path that leads nowhere": ("realm_access.roles", {"realm_access": ["roles"]}, set()),
    "a name with dots": (
        "https://acme.example/groups",
        {"https://acme.example/groups": "a"},
        {"a"},
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups_are_read_from_their_claim(case: str):
    claim, fields, groups = GROUPS[case]
    issuer = make_issuer(issuer="idp.example", audience="a", groups_claim=claim)

    assert principal_of(issuer, **fields).groups == groups


TWO = ["read:project/a", "write:state"]

GRANTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a list": ({"deploylog_grants": TWO}, TWO),
    "words": ({"deploylog_grants": " ".join(TWO)}, TWO),
    "everything": ({"deploylog_grants": "admin:/"}, ["admin:/"]),
    "none": ({}, ["read:default"]),
    "an empty list": ({"deploylog_grants": []}, []),
    "malformed ones": (
        {"deploylog_grants": ["root:/", "admin", "", "read", "read:a//b", 7, "read:project/a"]},
        ["read:project/a"],
    ),
    "an object": ({"deploylog_grants": {"admin:/": 1}}, []),
    "a number": ({"deploylog_grants": 1}, []),
}


@pytest.mark.parametrize("case", GRANTS)
def test_grants_are_read_from_their_claim(case: str):
    fields, grants = GRANTS[case]
    issuer = make_issuer(issuer="idp.example", audience="a", default_grants="read:default")

    assert principal_of(issuer, **fields).grants == tuple(map(parse_grant, grants))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "s"),
        ({"email": "a@b"}, "a@b"),
        ({"email": "a@b", "preferred_username": "ann"}, "ann"),
        ({"email": 1, "preferred_username": ""}, "s"),
    ],
)
def test_a_principal_has_the_best_name_that_there_is(fields: dict[str, Any], name: str):
    principal = principal_of(make_issuer(issuer="idp.example", audience="a"), **fields)

    assert (principal.name, principal.id) == (name, "https://idp.example#s")


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "groups", "deploylog_grants"]), JSON
    )
)
def test_whatever_the_claims_they_do_no_harm(fields: dict[str, Any]):
    issuer = make_issuer(issuer="idp.example", audience="a")

    with contextlib.suppress(InvalidToken):
        principal = parse_principal(fields, issuer, now=NOW * 1_000_000_000)

        assert principal.expires is not None
        msgspec.json.encode(principal)


# Settings


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"audience": ""}, "oidc_audience"),
        ({"algorithms": "HS256"}, "HS256"),
        ({"algorithms": "RS256,none"}, "none"),
        ({"algorithms": "rs256"}, "rs256"),
        ({"algorithms": " , "}, "oidc_algorithms"),
        ({"leeway": 301}, "oidc_leeway_seconds"),
        ({"leeway": -1}, "oidc_leeway_seconds"),
        ({"default_grants": "everything"}, "everything"),
        ({"issuer": "ftp://idp.example"}, "ftp"),
        ({"issuer": "https://"}, "oidc_issuer"),
        ({"issuer": "https://a:b@idp.example"}, "oidc_issuer"),
        ({"issuer": "https://idp.example?a=b"}, "oidc_issuer"),
        ({"issuer": "https://idp.example:port"}, "oidc_issuer"),
    ],
)
def test_an_issuer_that_cannot_be_is_named(fields: dict[str, Any], said: str):
    with pytest.raises(InvalidSettings) as raised:
        make_issuer(**{"issuer": "idp.example", "audience": "a", **fields})

    assert said in raised.value.message
    assert "\n" not in raised.value.message


def test_a_host_means_https():
    issuer = make_issuer(issuer="idp.example/realms/acme/", audience="a")

    assert issuer.url == "https://idp.example/realms/acme"
    assert issuer.metadata_urls == (
        "https://idp.example/realms/acme/.well-known/oauth-authorization-server",
        "https://idp.example/.well-known/oauth-authorization-server/realms/acme",
        "https://idp.example/realms/acme/.well-known/openid-configuration",
    )


# What is told of those that are not


async def test_a_rejected_token_in_huaweis_header_has_a_reason(
    idp: RunningIssuer, tokens: BearerTokens
):
    good = await token(idp)
    header, claims, signature = good.split(".")
    cut = f"{header}.{claims}.{signature[:-8]}AAAAAAAA"

    assert await tokens.principal(presented({"x-auth-token": good})) is not None
    assert await reason_for(tokens, await token(idp, exp=NOW - LEEWAY - 1)) == "expired"
    assert await reason_for(tokens, cut) == "bad_signature"
    assert await reason_for(tokens, "a.b.c") == "malformed"
