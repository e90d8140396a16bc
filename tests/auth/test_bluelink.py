"""Bluelink Signature v1: what the engine accepts is accepted, and what it refuses is refused."""

import logging
import tracemalloc
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.auth.access_keys import check_decryptable, make_access_key
from deploylog.auth.bluelink import (
    MAX_SIGNED_HEADERS,
    WINDOW,
    BluelinkSignatures,
    is_fresh,
    parse_signed,
    sign,
    verify,
)
from deploylog.auth.cache import CACHE_TTL
from deploylog.auth.encryption import Encryptor, make_encryption_key, parse_encryptor
from deploylog.auth.store import Credential
from deploylog.errors import OperatorError
from deploylog.events.access import Grant, Principal, parse_grant
from deploylog.events.scope import scope
from deploylog.store.contract import Store
from support.clocks import Clock, WallClock
from support.factories import now
from support.presenting import presented

ID = "3f0a9c1e5b7d42688e61d0c4a2f97b35"
SECRET = "9b1d6f0c2e8a47539c0f5e7d1a3b68429f8e7d6c5b4a39281706f5e4d3c2b1a0"
DATE = 1767225600
SIGNATURE = "Tw7ySUgTijExEVa8hibD63OYfLHwHEgPzPs7EPnPKj0"


def header(id: str = ID, names: str = "bluelink-date", signature: str = SIGNATURE) -> str:
    return f'keyId="{id}", headers="{names}", signature="{signature}"'


def signed_headers(value: str, date: str = str(DATE), **others: str) -> dict[str, str]:
    """The headers of a request."""
    more = {name.replace("_", "-"): each for name, each in others.items()}
    return {"bluelink-signature-v1": value, "bluelink-date": date, **more}


def accepts(headers: dict[str, str], *, secret: str = SECRET, at: int = DATE) -> bool:
    signed = parse_signed(headers)
    return signed is not None and verify(signed, secret) and is_fresh(signed, at)


VECTORS = {
    "one": (
        "test-key-id",
        "test-secret_key",
        1727895652,
        {"x-custom-header": "custom-value"},
        "test-key-id,bluelink-date=1727895652,x-custom-header=custom-value",
        "v0FTyFsVEXJwi6DC9NNNo8axZ7N-v1l1ngkZN2k72xQ",
    ),
    "two": (ID, SECRET, DATE, {}, f"{ID},bluelink-date=1767225600", SIGNATURE),
    "three": (
        ID,
        SECRET,
        DATE,
        {"x-tenant": "acme", "x-request-id": "r-42"},
        f"{ID},bluelink-date=1767225600,x-tenant=acme,x-request-id=r-42",
        "kHPCFOrNaYqjOWIlqGPDEzCzHTVGBpGAHXGabDdyBVQ",
    ),
}


@pytest.mark.parametrize("vector", VECTORS)
def test_the_engines_own_signatures_are_ours(vector: str):
    id, secret, date, headers, message, signature = VECTORS[vector]

    signed = parse_signed(
        {
            **signed_headers(
                header(id, " ".join(["bluelink-date", *headers]), signature), str(date)
            ),
            **headers,
        }
    )

    assert signed is not None
    assert (signed.key_id, signed.date, signed.signature) == (id, date, signature)
    assert signed.message == message.encode()
    assert sign(secret, signed.message) == signature
    assert verify(signed, secret)


ACCEPTED = {
    "as the client sends it": signed_headers(header()),
    "no blank after the commas": signed_headers(header().replace(", ", ",")),
    "blanks and tabs around a name": signed_headers(
        header().replace(', headers="', ', \t headers ="')
    ),
    "a blank before the first name": signed_headers(f" {header()}"),
    "the date listed in another case": signed_headers(header(names="Bluelink-Date")),
    "the date listed twice": signed_headers(header(names="bluelink-date BLUELINK-DATE")),
    "blanks around the list": signed_headers(header(names="  bluelink-date ")),
    "a date with a sign": signed_headers(header(), f"+{DATE}"),
    "a date with a leading zero": signed_headers(header(), f"0{DATE}"),
    "a date with many": signed_headers(header(), "0" * 5000 + str(DATE)),
    "headers that are not listed": signed_headers(header(), x_tenant="acme"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_engine_accepts_is_accepted(case: str):
    assert accepts(ACCEPTED[case])


REFUSED = {
    "a header listed twice": signed_headers(
        header(names="x-tenant bluelink-date x-tenant"), x_tenant="a"
    ),
    "a header listed twice, in another case": signed_headers(
        header(names="x-tenant X-Tenant"), x_tenant="a"
    ),
    "more headers than any client signs": signed_headers(
        header(names=" ".join(f"x-{number}" for number in range(MAX_SIGNED_HEADERS + 1))),
        **{f"x_{number}": "a" for number in range(MAX_SIGNED_HEADERS + 1)},
    ),
    "no header": {"bluelink-date": str(DATE)},
    "an empty header": signed_headers(""),
    "no date": {"bluelink-signature-v1": header()},
    "an empty date": signed_headers(header(), ""),
    "a date after a blank": signed_headers(header(), f" {DATE}"),
    "a date before a blank": signed_headers(header(), f"{DATE} "),
    "a date with a fraction": signed_headers(header(), f"{DATE}.0"),
    "a date in words": signed_headers(header(), "2026-01-01T00:00:00Z"),
    "a date with an underscore": signed_headers(header(), "1_767_225_600"),
    "a date in hexadecimal": signed_headers(header(), hex(DATE)),
    "a date in other digits": signed_headers(header(), "١٧٦٧٢٢٥٦٠٠"),
    "a date with two signs": signed_headers(header(), f"++{DATE}"),
    "a sign alone": signed_headers(header(), "+"),
    "a date beyond 64 bits": signed_headers(header(), str(1 << 63)),
    "a date far beyond 64 bits": signed_headers(header(), "9" * 6000),
    "padding": signed_headers(header(signature=f"{SIGNATURE}=")),
    "standard base64": signed_headers(header(signature=SIGNATURE.replace("g", "+"))),
    "a blank after the last quote": signed_headers(f"{header()} "),
    "a comma at the end": signed_headers(f"{header()},"),
    "a fourth part": signed_headers(f'{header()}, more="1"'),
    "two parts": signed_headers(header().rpartition(",")[0]),
    "key id and headers swapped": signed_headers(
        f'headers="bluelink-date", keyId="{ID}", signature="{SIGNATURE}"'
    ),
    "headers and signature swapped": signed_headers(
        f'keyId="{ID}", signature="{SIGNATURE}", headers="bluelink-date"'
    ),
    "names in another case": signed_headers(header().replace("keyId", "keyid")),
    "no quotes": signed_headers(header().replace('"', "")),
    "single quotes": signed_headers(header().replace('"', "'")),
    "no closing quote": signed_headers(header()[:-1]),
    "one quote alone": signed_headers(f'keyId="{ID}", headers="bluelink-date", signature="'),
    "a blank before the opening quote": signed_headers(header().replace('="', '= "')),
    "an equal sign in the key id": signed_headers(header(id=f"{ID}=")),
    "a comma in the key id": signed_headers(header(id=f"{ID},")),
    "another key id": signed_headers(header(id=ID[::-1])),
    "no listed headers": signed_headers(header(names="")),
    "only blanks listed": signed_headers(header(names="  ")),
    "two blanks between names": signed_headers(header(names="bluelink-date  bluelink-date")),
    "a listed header that is missing": signed_headers(header(names="bluelink-date x-tenant")),
    "a listed header that is empty": signed_headers(
        header(names="bluelink-date x-tenant"), x_tenant=""
    ),
    "a listed header that was not signed": signed_headers(
        header(names="bluelink-date x-tenant"), x_tenant="acme"
    ),
    "another date": signed_headers(header(), str(DATE + 1)),
    "a negative date": signed_headers(header(), f"-{DATE}"),
    "no signature": signed_headers(header(signature="")),
    "a cut signature": signed_headers(header(signature=SIGNATURE[:-1])),
    "bits after the last": signed_headers(header(signature=f"{SIGNATURE[:-1]}1")),
    "a letter beyond latin-1": signed_headers(header(id=f"{ID}\u0100")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_engine_refuses_is_refused(case: str):
    assert not accepts(REFUSED[case])


@pytest.mark.parametrize(
    ("late", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)]
)
def test_the_date_may_be_five_minutes_off(late: int, good: bool):
    assert accepts(signed_headers(header()), at=DATE + late) is good


def test_a_date_of_any_form_is_signed_as_its_number():
    signed = parse_signed(signed_headers(header(), "-007"))

    assert signed is not None
    assert signed.message == f"{ID},bluelink-date=-7".encode()


def test_names_are_signed_in_lower_case_and_values_as_they_came():
    signed = parse_signed(
        signed_headers(header(names="X-Tenant bluelink-date"), x_tenant="ÄCME, Inc=1")
    )

    assert signed is not None
    assert signed.message == f"{ID},bluelink-date={DATE},x-tenant=ÄCME, Inc=1".encode("latin-1")


#: What the server removes around a name, as Go defines white space.
BLANKS = " \t\n\v\f\r"


def _meaning(value: str) -> list[str]:
    """What a header says, without what does not matter: blanks around names, case of the date."""
    parts = [part.partition("=") for part in value.split(",")]
    meaning = [f"{name.strip(BLANKS)}={rest}" for name, _, rest in parts]
    return [part.lower() if part.startswith("headers") else part for part in meaning]


@given(st.data())
def test_whatever_byte_of_the_header_is_changed_it_is_refused(data: st.DataObject):
    good = header()
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.characters(min_codepoint=9, max_codepoint=255))
    bad = good[:place] + byte + good[place + 1 :]

    assert accepts(signed_headers(bad)) == (_meaning(bad) == _meaning(good))


@given(st.data())
def test_whatever_byte_of_the_date_is_changed_it_is_refused(data: st.DataObject):
    good = str(DATE)
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.characters(max_codepoint=255).filter(lambda each: each != good[place]))

    assert not accepts(signed_headers(header(), good[:place] + byte + good[place + 1 :]))


@given(st.text(), st.text())
def test_garbage_is_refused(value: str, date: str):
    assert not accepts(signed_headers(value, date))


# With the store


@pytest.fixture
def seal() -> Encryptor:
    return parse_encryptor(make_encryption_key())


@pytest.fixture
def clock() -> WallClock:
    return WallClock(DATE)


@pytest.fixture
def signatures(
    store: Store, seal: Encryptor, clock: WallClock, monotonic: Clock
) -> BluelinkSignatures:
    return BluelinkSignatures(store.credentials, seal, clock=clock, monotonic=monotonic)


async def add(store: Store, seal: Encryptor, id: str = ID) -> Credential:
    signer = make_access_key(
        kind="bluelink", id=id, secret=SECRET, name="web", groups=("ops",),
        grants=[parse_grant("read:project/a")], encryptor=seal, now=now(),
    )  # fmt: skip
    await store.credentials.add(signer)
    return signer


REQUEST = presented(signed_headers(header()))


async def test_who_signs_is_the_principal_of_the_key(
    store: Store, seal: Encryptor, signatures: BluelinkSignatures
):
    await add(store, seal)

    assert await signatures.principal(REQUEST) == Principal(
        name="web",
        id=ID,
        groups=frozenset({"ops"}),
        grants=(Grant("read", scope("project", "a")),),
        kind="bluelink",
        expires=None,
    )


async def test_who_does_not_sign_is_not_authenticated(
    store: Store, seal: Encryptor, signatures: BluelinkSignatures
):
    await add(store, seal)

    for headers in (
        {},
        signed_headers(header(id=ID[::-1])),
        signed_headers(header(signature=SIGNATURE[::-1])),
    ):
        assert await signatures.principal(presented(headers)) is None


async def test_a_revoked_pair_is_refused_once_its_trust_is_over(
    store: Store, seal: Encryptor, signatures: BluelinkSignatures, monotonic: Clock
):
    await add(store, seal)
    principal = await signatures.principal(REQUEST)
    assert principal is not None
    was_valid = await signatures.is_valid(principal)

    await store.credentials.revoke(ID, now())
    trusted = await signatures.principal(REQUEST)
    monotonic.advance(CACHE_TTL)

    assert was_valid
    assert trusted == principal
    assert await signatures.principal(REQUEST) is None
    assert not await signatures.is_valid(principal)


STREAM = "/v1/deployments/changes/1/stream"


@pytest.mark.parametrize(
    ("method", "path", "late", "good"),
    [
        ("GET", STREAM, 3600, True),
        ("GET", STREAM, 3601, False),
        ("GET", STREAM, -300, True),
        ("GET", STREAM, -301, False),
        ("POST", STREAM, 301, False),
        ("GET", "/v1/deployments/changes/stream/1", 301, False),
        ("GET", "/base/v1/deployments/instances/web/stream", 3600, True),
        ("GET", "/v1/deployments/instances/stream/stream", 3600, True),
        ("GET", "/log/v1/events/stream", 3600, True),
        ("GET", "/v1/deployments/instances/stream", 301, False),
        ("GET", "/v1/deployments/changes/stream", 301, False),
        ("GET", "/log/v1/projects/a/stacks/stream", 301, False),
        ("GET", "/v1/deployments/changes/1", 300, True),
        ("GET", "/v1/deployments/changes/1", 301, False),
    ],
)
async def test_a_stream_may_be_asked_for_with_an_older_signature(
    store: Store, seal: Encryptor, clock: WallClock, method: str, path: str, late: int, good: bool
):
    await add(store, seal)
    signatures = BluelinkSignatures(
        store.credentials, seal, clock=clock, monotonic=Clock(), stream_window=3600
    )
    clock.advance(late)

    principal = await signatures.principal(
        presented(signed_headers(header()), method=method, path=path)
    )

    assert (principal is not None) is good


async def test_the_window_of_streams_is_never_shorter(
    store: Store, seal: Encryptor, clock: WallClock
):
    await add(store, seal)
    signatures = BluelinkSignatures(
        store.credentials, seal, clock=clock, monotonic=Clock(), stream_window=1
    )
    clock.advance(WINDOW)

    assert await signatures.principal(presented(signed_headers(header()), path=STREAM)) is not None


@pytest.mark.parametrize("has_seal", [True, False])
async def test_a_secret_that_cannot_be_opened_opens_nothing_and_that_is_stated_once(
    store: Store,
    seal: Encryptor,
    clock: WallClock,
    has_seal: bool,
    caplog: pytest.LogCaptureFixture,
):
    await add(store, seal)
    other = parse_encryptor(make_encryption_key()) if has_seal else None
    signatures = BluelinkSignatures(store.credentials, other, clock=clock, monotonic=Clock())

    with caplog.at_level(logging.INFO):
        refused = [await signatures.principal(REQUEST) for _ in range(3)]

    assert refused == [None] * 3
    assert len(caplog.records) == 1
    assert ID in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("has_seal", [True, False])
async def test_the_service_does_not_start_with_secrets_that_it_cannot_open(
    store: Store, seal: Encryptor, has_seal: bool
):
    await check_decryptable(store.credentials, None)
    await add(store, seal)
    await check_decryptable(store.credentials, seal)
    other = parse_encryptor(make_encryption_key()) if has_seal else None

    with pytest.raises(OperatorError) as raised:
        await check_decryptable(store.credentials, other)

    assert ID in raised.value.message
    assert "\n" not in raised.value.message
    await store.credentials.revoke(ID, now())
    await check_decryptable(store.credentials, other)


async def test_the_secret_is_not_stored_as_it_is(store: Store, seal: Encryptor):
    signer = await add(store, seal)

    assert SECRET.encode() not in signer.secret
    assert SECRET not in repr(await store.credentials.list())


async def test_a_header_named_40000_times_makes_no_message(seal: Encryptor, store: Store):
    names = " ".join(["x-tenant"] * 40_000)
    headers = signed_headers(header(names=names), x_tenant="a" * 65_536)

    tracemalloc.start()
    try:
        signed = parse_signed(headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert signed is None
    assert peak < 8 * 1024 * 1024


async def test_under_an_unknown_key_no_header_is_read(signatures: BluelinkSignatures):
    class Headers(dict[str, str]):
        """Says which headers were read."""

        read: ClassVar[set[str]] = set()

        def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
            self.read.add(name)
            return super().get(name, default)

    headers = Headers(signed_headers(header(id="nobody", names="x-tenant"), x_tenant="a"))
    asked = msgspec.structs.replace(presented(), headers=headers)

    principal = await signatures.principal(asked)

    assert principal is None
    assert Headers.read == {"bluelink-signature-v1"}
