"""The open access: who is let in while nothing is configured, and what closes it."""

import pytest

from deploylog.auth.access_keys import make_access_key
from deploylog.auth.anonymous import AnonymousAccess, is_authentication_configured
from deploylog.auth.api_keys import make_key
from deploylog.auth.cache import CACHE_TTL
from deploylog.auth.encryption import Encryptor, make_encryption_key, parse_encryptor
from deploylog.events.access import ANONYMOUS
from deploylog.store.contract import Store
from support.clocks import Clock
from support.factories import now
from support.presenting import presented

HERE = presented({"host": "127.0.0.1:8325"})


@pytest.fixture
def access(store: Store, monotonic: Clock) -> AnonymousAccess:
    return AnonymousAccess(store.credentials, issuer="", clock=monotonic)


async def add_key(store: Store) -> None:
    await store.credentials.add(make_key(name="ci", groups=(), grants=(), now=now())[0])


async def add_access_key(store: Store) -> None:
    seal: Encryptor = parse_encryptor(make_encryption_key())
    await store.credentials.add(
        make_access_key(
            kind="bluelink",
            id="a",
            secret="b",
            name="ci",
            groups=(),
            grants=(),
            encryptor=seal,
            now=now(),
        )
    )


async def test_everybody_is_anybody_while_nothing_is_configured(
    store: Store, access: AnonymousAccess
):
    assert await access.principal(HERE) is ANONYMOUS
    assert ANONYMOUS.kind == access.kind
    assert not await is_authentication_configured(store.credentials, "")


@pytest.mark.parametrize("add", [add_key, add_access_key])
async def test_the_first_credential_ends_anonymous_access(store: Store, add, monotonic: Clock):
    access = AnonymousAccess(store.credentials, issuer="", clock=monotonic)
    before = (await access.principal(HERE), await access.is_valid(ANONYMOUS))

    await add(store)
    trusted = await access.is_valid(ANONYMOUS)
    monotonic.advance(CACHE_TTL)
    after = (await access.principal(HERE), await access.is_valid(ANONYMOUS))

    assert before == (ANONYMOUS, True)
    assert trusted
    assert after == (None, False)
    assert await is_authentication_configured(store.credentials, "")


async def test_a_token_issuer_ends_anonymous_access(store: Store, monotonic: Clock):
    access = AnonymousAccess(store.credentials, issuer="idp.example", clock=monotonic)

    assert await access.principal(HERE) is None
    assert not await access.is_valid(ANONYMOUS)
    assert await is_authentication_configured(store.credentials, "idp.example")


async def test_revoking_the_last_key_does_not_open_it(
    store: Store, access: AnonymousAccess, monotonic: Clock
):
    key, _ = make_key(name="ci", groups=(), grants=(), now=now())
    await store.credentials.add(key)
    await store.credentials.revoke(key.id, now())

    assert await access.principal(HERE) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8325"},
        {"host": "127.0.0.1:8325", "origin": "https://evil.example"},
        {"host": "127.0.0.1:8325", "origin": "null"},
        {"host": "["},
        {"host": "unix"},
    ],
)
async def test_a_web_page_is_not_authenticated(access: AnonymousAccess, headers: dict[str, str]):
    """A form posts across origins, and a name may be made to point at this machine."""
    assert await access.principal(presented(headers)) is None


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:80"]
)
async def test_this_machine_is_anybody_by_each_of_its_names(access: AnonymousAccess, host: str):
    assert (
        await access.principal(presented({"host": host, "origin": f"http://{host}"})) is ANONYMOUS
    )


@pytest.mark.parametrize("headers", [{}, {"host": "unix"}, {"host": "docker"}, {"host": "a.b:1"}])
async def test_whoever_comes_by_a_unix_socket_is_of_this_machine(
    access: AnonymousAccess, headers: dict[str, str]
):
    assert await access.principal(presented(headers, client=None)) is ANONYMOUS


async def test_a_web_page_is_not_anonymous_there_either(access: AnonymousAccess):
    headers = {"host": "unix", "origin": "https://evil.example"}

    assert await access.principal(presented(headers, client=None)) is None


async def test_anybody_is_found_while_access_is_anonymous(
    store: Store, access: AnonymousAccess, monotonic: Clock
):
    before = await access.find("")
    await add_key(store)
    monotonic.advance(CACHE_TTL)

    assert before is ANONYMOUS
    assert await access.find("") is None
