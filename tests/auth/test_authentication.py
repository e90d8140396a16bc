"""Authentication: the order of credentials, reasons of failures, and rate limits."""

import pytest

from deploylog.auth.authentication import Authentication, Authenticator, RequestCredentials
from deploylog.auth.rate_limit import RateLimiter
from deploylog.errors import Reason, TooMany, Unauthenticated
from deploylog.events.access import Principal
from support.clocks import Clock
from support.presenting import presented


class Passwords:
    """Knows who shows one of these words in a header."""

    def __init__(self, kind: str, header: str, *words: str) -> None:
        self.kind = kind
        self.words = set(words)
        self._header = header

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        word = presented.headers.get(self._header, "")
        return Principal(name=word, id=word, kind=self.kind) if word in self.words else None

    async def is_valid(self, principal: Principal) -> bool:
        return principal.id in self.words

    async def find(self, id: str) -> Principal | None:
        return Principal(name=id, id=id, kind=self.kind) if id in self.words else None


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def failed() -> Counter:
    return Counter()


@pytest.fixture
def keys() -> Passwords:
    return Passwords("key", "x-api-key", "ann", "bob")


@pytest.fixture
def tokens() -> Passwords:
    return Passwords("token", "authorization", "ann", "eve")


@pytest.fixture
def authentication(
    tokens: Passwords, keys: Passwords, monotonic: Clock, failed: Counter
) -> Authentication:
    return new_authentication(tokens, keys, clock=monotonic, failed=failed)


def new_authentication(
    *authenticators: Authenticator, clock: Clock, failed: Counter, requests: float = 0
) -> Authentication:
    return Authentication(
        authenticators,
        requests=RateLimiter(requests, burst=2, clock=clock),
        failures=RateLimiter(1, burst=3, clock=clock),
        failed=failed,
    )


async def fail(
    authentication: Authentication, times: int, client: str | None = "127.0.0.1"
) -> None:
    """As often as asked, and as often it is not let in."""
    for number in range(times):
        with pytest.raises(Unauthenticated):
            await authentication.authenticate(
                presented({"x-api-key": f"bad{number}"}, client=client)
            )


async def test_the_first_kind_that_knows_decides(authentication: Authentication):
    principal = await authentication.authenticate(
        presented({"authorization": "eve", "x-api-key": "ann"})
    )

    assert (principal.name, principal.kind) == ("eve", "token")


async def test_a_bad_credential_is_not_in_the_way_of_a_good_one(
    authentication: Authentication, failed: Counter
):
    principal = await authentication.authenticate(
        presented({"authorization": "mallory", "x-api-key": "ann"})
    )

    assert (principal.name, principal.kind) == ("ann", "key")
    assert failed.count == 0


async def test_every_failure_says_the_same(authentication: Authentication, failed: Counter):
    shown = [{}, {"x-api-key": "eve"}, {"authorization": "bob", "x-api-key": ""}]

    said = []
    for headers in shown:
        with pytest.raises(Unauthenticated) as raised:
            await authentication.authenticate(presented(headers))
        said.append(raised.value.args)

    assert said == [Unauthenticated().args] * 3
    assert failed.count == 3


async def test_failed_attempts_of_an_address_are_limited(
    authentication: Authentication, monotonic: Clock, failed: Counter
):
    await fail(authentication, 3)

    with pytest.raises(TooMany) as raised:
        await authentication.authenticate(presented({"x-api-key": "worse"}))

    assert raised.value.retry_after == pytest.approx(1.0)
    assert failed.count == 3
    monotonic.advance(raised.value.retry_after)
    await fail(authentication, 1)


async def test_a_guess_that_is_right_is_not_let_in_while_attempts_are_limited(
    authentication: Authentication,
):
    await fail(authentication, 3)

    with pytest.raises(TooMany):
        await authentication.authenticate(presented({"x-api-key": "ann"}))


async def test_who_was_let_in_lately_is_let_in_while_others_there_fail(
    authentication: Authentication,
):
    headers = {"x-api-key": "ann"}
    await authentication.authenticate(presented(headers))
    await fail(authentication, 3)

    assert (await authentication.authenticate(presented(headers))).name == "ann"


async def test_who_signs_each_request_anew_is_known_by_the_key_id(
    monotonic: Clock, failed: Counter
):
    first, second = 'keyId="k", headers="", signature="1"', 'keyId="k", headers="", signature="2"'
    signatures = Passwords("bluelink", "bluelink-signature-v1", first, second)
    authentication = new_authentication(signatures, clock=monotonic, failed=failed)
    await authentication.authenticate(presented({"bluelink-signature-v1": first}))
    await fail(authentication, 3)

    assert await authentication.authenticate(presented({"bluelink-signature-v1": second}))


async def test_a_credential_that_was_good_is_tried_once_more_only(
    authentication: Authentication, keys: Passwords
):
    headers = {"x-api-key": "ann"}
    await authentication.authenticate(presented(headers))
    await fail(authentication, 3)
    keys.words.clear()

    with pytest.raises(Unauthenticated):
        await authentication.authenticate(presented(headers))
    with pytest.raises(TooMany):
        await authentication.authenticate(presented(headers))


@pytest.mark.parametrize(
    "begin", ["SDK-HMAC-SHA256 Access=k", "AWS4-HMAC-SHA256 Credential=k/20240102/0/s/x"]
)
async def test_who_signs_whole_requests_is_known_by_what_names_the_key(
    monotonic: Clock, failed: Counter, begin: str
):
    first, second = [f"{begin}, SignedHeaders=host, Signature={n}" for n in (1, 2)]
    forged = f"{begin}, SignedHeaders=host, Signature=3"
    authentication = new_authentication(
        Passwords("aws", "authorization", first, second), clock=monotonic, failed=failed
    )
    await authentication.authenticate(presented({"authorization": first}))
    with pytest.raises(Unauthenticated):
        await authentication.authenticate(presented({"authorization": forged}))
    await fail(authentication, 2)

    assert await authentication.authenticate(presented({"authorization": second}))
    with pytest.raises(TooMany):
        await authentication.authenticate(presented({"authorization": second.replace("=k", "=j")}))


class Knows:
    """Says of every credential what is wrong with it."""

    kind = "signature"

    def __init__(self, reason: Reason) -> None:
        self._reason = reason

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        raise Unauthenticated(reason=self._reason)

    async def is_valid(self, principal: Principal) -> bool:
        return False

    async def find(self, id: str) -> Principal | None:
        return None


async def reason_for(authentication: Authentication, headers: dict[str, str]) -> str:
    with pytest.raises(Unauthenticated) as raised:
        await authentication.authenticate(presented(headers))
    assert raised.value.args == Unauthenticated().args
    return raised.value.reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing"),
        ({"cookie": "theme=dark"}, "missing"),
        ({"x-auth-token": "eve"}, "unknown_key"),
        ({"authorization": "Bearer eve"}, "unknown_key"),
    ],
)
async def test_a_credential_is_missing_or_it_is_unknown(
    authentication: Authentication, headers: dict[str, str], reason: str
):
    assert await reason_for(authentication, headers) == reason


async def test_the_first_reason_that_is_found_is_reported(monotonic: Clock, failed: Counter):
    authentication = new_authentication(
        Knows("expired"), Knows("malformed"), clock=monotonic, failed=failed
    )

    assert await reason_for(authentication, {"authorization": "a"}) == "expired"
    assert failed.count == 1


async def test_a_reason_is_not_in_the_way_of_a_good_credential(
    keys: Passwords, monotonic: Clock, failed: Counter
):
    authentication = new_authentication(
        Knows("bad_signature"), keys, clock=monotonic, failed=failed
    )

    assert (await authentication.authenticate(presented({"x-api-key": "ann"}))).name == "ann"
    assert failed.count == 0


async def test_who_shows_anothers_key_id_does_not_lock_them_out(monotonic: Clock, failed: Counter):
    # The word stands in a header that is not remembered, as a signature's date does.
    authentication = new_authentication(
        Passwords("bluelink", "bluelink-date", "ann"), clock=monotonic, failed=failed
    )
    signed = {"bluelink-date": "ann", "bluelink-signature-v1": 'keyId="k", signature="good"'}
    forged = {"bluelink-date": "eve", "bluelink-signature-v1": 'keyId="k", signature="bad"'}
    await authentication.authenticate(presented(signed))

    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await authentication.authenticate(presented(forged))

    assert await authentication.authenticate(presented(signed))


async def test_other_addresses_are_not_limited(authentication: Authentication):
    await fail(authentication, 3)

    assert await authentication.authenticate(presented({"x-api-key": "ann"}, client="127.0.0.2"))
    await fail(authentication, 1, client="127.0.0.3")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("fe80::1%eth0", "fe80::2%eth0"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        (None, None),
        ("odd", "odd"),
        ("odd:er", "odd:er"),
    ],
)
async def test_addresses_of_one_network_are_limited_together(
    authentication: Authentication, first: str | None, second: str | None
):
    await fail(authentication, 3, client=first)

    with pytest.raises(TooMany):
        await authentication.authenticate(presented(client=second))


@pytest.mark.parametrize(
    ("first", "second"),
    [("2001:db8:0:1::1", "2001:db8:0:2::1"), ("::ffff:192.0.2.1", "::ffff:192.0.2.2")],
)
async def test_addresses_of_two_networks_are_not(
    authentication: Authentication, first: str, second: str
):
    await fail(authentication, 3, client=first)

    await fail(authentication, 1, client=second)


async def test_requests_of_a_principal_are_limited(
    tokens: Passwords, keys: Passwords, monotonic: Clock, failed: Counter
):
    authentication = new_authentication(tokens, keys, clock=monotonic, failed=failed, requests=10)
    ann = presented({"x-api-key": "ann"})
    await authentication.authenticate(ann)
    await authentication.authenticate(ann)

    with pytest.raises(TooMany) as raised:
        await authentication.authenticate(ann)

    assert raised.value.retry_after == pytest.approx(0.1)
    assert failed.count == 0
    assert await authentication.authenticate(presented({"x-api-key": "bob"}))
    assert await authentication.authenticate(presented({"authorization": "ann"})), (
        "the same id of another kind"
    )
    monotonic.advance(raised.value.retry_after)
    assert await authentication.authenticate(ann)


async def test_a_principal_is_valid_as_long_as_its_kind_says(
    authentication: Authentication, keys: Passwords
):
    ann = await authentication.authenticate(presented({"x-api-key": "ann"}))
    before = await authentication.is_valid(ann)

    keys.words.remove("ann")

    assert before
    assert not await authentication.is_valid(ann)
    assert not await authentication.is_valid(
        Principal(name="ann", id="ann", kind="unauthenticated")
    )


async def test_no_secret_stays_in_memory(authentication: Authentication):
    await authentication.authenticate(presented({"x-api-key": "ann"}))

    assert all(b"ann" not in kept for kept in authentication._valid)


async def test_a_principal_is_found_by_its_kind_and_id(
    authentication: Authentication, keys: Passwords
):
    found = await authentication.find("key", "bob")

    assert found == Principal(name="bob", id="bob", kind="key")
    assert await authentication.find("token", "bob") is None
    assert await authentication.find("other", "bob") is None
    keys.words.clear()
    assert await authentication.find("key", "bob") is None
