"""API keys: which headers hold them, how they are made, and how long they are trusted."""

import asyncio
import base64

import pytest

from deploylog.auth.api_keys import ApiKeys, make_key
from deploylog.auth.cache import _MAX_ENTRIES, CACHE_TTL, TtlCache
from deploylog.events.access import Grant, Principal, parse_grant
from deploylog.events.scope import ROOT
from deploylog.store.contract import Store
from support.clocks import Clock
from support.factories import now
from support.presenting import presented


@pytest.fixture
def keys(store: Store, monotonic: Clock) -> ApiKeys:
    return ApiKeys(store.credentials, clock=monotonic)


async def add(store: Store) -> str:
    """A new key."""
    stored, key = make_key(name="ci", groups=("ops",), grants=[parse_grant("admin:/")], now=now())
    await store.credentials.add(stored)
    return key


def id_of(key: str) -> str:
    return key.split("_")[1]


HEADERS = [
    {"authorization": "Bearer {}"},
    {"authorization": "bearer  {} "},
    {"x-api-key": "{}"},
    {"bluelink-api-key": "{}"},
    {"x-escape-token": "{}"},
    {"cookie": "X-Escape-Token={}"},
    {"cookie": 'a=b;x-escape-token="{}"; c', "x-escape-token": "stale"},
    {"cookie": "X-Escape-Token={}", "origin": "https://log.example:8", "host": "log.example:8"},
    {"x-api-key": "{}", "authorization": "Basic YTpi"},
    {"bluelink-api-key": "{}", "authorization": "Bearer e30.e30.e30", "x-api-key": "dlk_a_b"},
]


@pytest.mark.parametrize("headers", HEADERS)
async def test_a_key_is_good_in_any_of_its_headers(
    store: Store, keys: ApiKeys, headers: dict[str, str]
):
    key = await add(store)
    shown = {name: value.format(key) for name, value in headers.items()}

    principal = await keys.principal(presented(shown))

    assert principal == Principal(
        name="ci",
        id=id_of(key),
        groups=frozenset({"ops"}),
        grants=(Grant("admin", ROOT),),
        kind="key",
    )


async def test_a_key_is_good_as_a_password_whoever_the_user_is(store: Store, keys: ApiKeys):
    key = await add(store)

    for user in ("", "escape", "\xff"):
        shown = base64.b64encode(f"{user}:{key}".encode("latin-1")).decode()
        assert await keys.principal(presented({"authorization": f"Basic {shown}"})), user


@pytest.mark.parametrize("shown", ["", "!", "Zm9v", "Og==", "ü"])
async def test_what_is_no_password_is_not_one(keys: ApiKeys, shown: str):
    assert await keys.principal(presented({"authorization": f"Basic {shown}"})) is None


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://log.example:9"])
async def test_a_cookie_that_another_site_has_sent_is_no_key(
    store: Store, keys: ApiKeys, origin: str
):
    key = await add(store)
    sent = {"cookie": f"X-Escape-Token={key}", "origin": origin, "host": "log.example"}

    assert await keys.principal(presented(sent)) is None


async def test_what_is_not_quite_a_key_is_not_one(store: Store, keys: ApiKeys):
    key = await add(store)
    prefix, id, secret = key.split("_")

    for bad in (
        "",
        "dlk",
        "dlk_",
        f"{prefix}_{id}",
        f"{prefix}_{id}_",
        f"{prefix}_{id}_{secret[:-1]}",
        f"{prefix}_{id}_{secret}0",
        f"{prefix}_{id}_{secret[::-1]}",
        f"{prefix}_{id[::-1]}_{secret}",
        f"DLK_{id}_{secret}",
        secret,
        "dlk_\xff_ü",
    ):
        assert await keys.principal(presented({"x-api-key": bad})) is None, bad


async def test_a_key_is_looked_up_again_once_its_trust_is_over(
    store: Store, keys: ApiKeys, monotonic: Clock
):
    key = await add(store)
    shown = presented({"x-api-key": key})
    known = await keys.principal(shown)

    await store.credentials.revoke(id_of(key), now())
    trusted = await keys.principal(shown)
    monotonic.advance(CACHE_TTL)
    refused = await keys.principal(shown)

    assert known is not None
    assert known == trusted
    assert refused is None


async def test_a_principal_is_valid_until_its_key_is_revoked(
    store: Store, keys: ApiKeys, monotonic: Clock
):
    key = await add(store)
    principal = await keys.principal(presented({"x-api-key": key}))
    assert principal is not None
    before = await keys.is_valid(principal)

    await store.credentials.revoke(id_of(key), now())
    monotonic.advance(CACHE_TTL)

    assert before
    assert not await keys.is_valid(principal)


async def test_a_principal_is_found_by_its_keys_id_until_it_is_revoked(
    store: Store, keys: ApiKeys, monotonic: Clock
):
    key = await add(store)
    shown = await keys.principal(presented({"x-api-key": key}))

    found = await keys.find(id_of(key))
    await store.credentials.revoke(id_of(key), now())
    monotonic.advance(CACHE_TTL)

    assert found == shown
    assert await keys.find(id_of(key)) is None


async def test_a_key_that_is_added_is_good_at_once(store: Store, keys: ApiKeys):
    stored, key = make_key(name="ci", groups=(), grants=(), now=now())
    shown = presented({"x-api-key": key})
    before = await keys.principal(shown)

    await store.credentials.add(stored)

    assert before is None
    assert await keys.principal(shown) is not None


async def test_credentials_that_are_good_are_looked_up_once_in_a_while():
    clock, looked = Clock(), []

    async def look_up(id: str) -> str | None:
        looked.append(id)
        return id.upper() or None

    trust = TtlCache(look_up, clock=clock)
    found = [await trust.get("a") for _ in range(3)]
    clock.advance(CACHE_TTL)
    await trust.get("a")

    assert found == ["A"] * 3
    assert looked == ["a", "a"]


@pytest.mark.slow
async def test_credentials_do_not_fill_the_memory():
    async def look_up(id: str) -> str | None:
        return id if int(id) % 2 else None

    trust = TtlCache(look_up, clock=Clock())
    for number in range(4 * _MAX_ENTRIES):
        await trust.get(str(number))

    assert len(trust._cached) <= _MAX_ENTRIES
    assert "0" not in trust._cached


def test_no_two_keys_are_alike():
    made = [make_key(name="a", groups=(), grants=(), now=1) for _ in range(50)]

    assert len({key for _, key in made}) == 50
    assert len({stored.secret for stored, _ in made}) == 50
    for stored, key in made:
        assert key.startswith(f"dlk_{stored.id}_")
        assert len(key.rpartition("_")[2]) == 64


async def test_requests_that_show_the_same_credential_share_one_look():
    looks: list[str] = []
    may_answer = asyncio.Event()

    async def look_up(id: str) -> str:
        looks.append(id)
        await may_answer.wait()
        return id

    trust = TtlCache(look_up, clock=Clock())
    asking = [asyncio.create_task(trust.get("a")) for _ in range(64)]
    await asyncio.sleep(0)

    asking[0].cancel()
    may_answer.set()
    found = await asyncio.gather(*asking[1:])

    assert (set(found), looks) == ({"a"}, ["a"])


async def test_a_look_that_takes_too_long_is_not_shared():
    looks: list[str] = []
    may_answer = asyncio.Event()

    async def look_up(id: str) -> str:
        looks.append(id)
        await may_answer.wait()
        return id

    clock = Clock()
    trust = TtlCache(look_up, clock=clock)
    slow = asyncio.create_task(trust.get("a"))
    await asyncio.sleep(0)

    clock.advance(CACHE_TTL)
    later = asyncio.create_task(trust.get("a"))
    await asyncio.sleep(0)
    may_answer.set()
    await asyncio.gather(slow, later)

    assert looks == ["a", "a"]
