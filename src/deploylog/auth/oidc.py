"""The issuer of tokens: who it is, and the keys that it signs with."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from deploylog.errors import InvalidInput, InvalidSettings, Unavailable
from deploylog.events.access import Grant, parse_grant
from deploylog.events.times import SECOND

#: What a token may be signed with. Never with a shared secret, and never with nothing.
ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    "EdDSA",
)

#: The algorithms of each type of key and, where it has one, curve.
_FITTING = {
    "RSA": frozenset(ALGORITHMS[:6]),
    "EC P-256": frozenset({"ES256"}),
    "EC P-384": frozenset({"ES384"}),
    "EC P-521": frozenset({"ES512"}),
    "OKP Ed25519": frozenset({"EdDSA"}),
}

#: Smaller RSA keys can be broken.
_RSA_BITS = 2048

#: Seconds that the keys are good for without another look.
KEYS_SECONDS = 60

#: Seconds after which they are fetched again, so that no request has to wait for it.
_REFRESH_SECONDS = 45

#: Seconds between two fetches at least, whoever asks with whatever key ids.
RETRY_SECONDS = 5

#: Seconds that old keys are good for while the issuer does not answer.
OUTAGE_SECONDS = 3600

#: Seconds that one answer may take, and that a request waits for the keys.
_ANSWER_SECONDS = 5

#: Largest answer, in bytes.
_MOST_BYTES = 1 << 20

#: What parsing a key raises of Python's own, when a part of it is missing or of another type.
_WRONG = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError)

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

#: Public keys, by their id and the algorithm that they are for.
PublicKeys = dict[tuple[str, str], PublicKey]

_LOGGER = logging.getLogger(__name__)


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are accepted, and how they are read. Made by ``make_issuer``."""

    #: With its scheme, without a slash at the end.
    url: str
    audience: str
    algorithms: frozenset[str]
    groups_claim: str = "groups"
    grants_claim: str = "deploylog_grants"
    #: Of a token that does not have the grants claim.
    default_grants: tuple[Grant, ...] = ()
    #: Seconds that its clock and ours may differ.
    leeway: int = 30

    @property
    def names(self) -> frozenset[str]:
        """What ``iss`` may say: with and without scheme, with and without a slash at the end."""
        bare = self.url.partition("://")[2]
        return frozenset({self.url, f"{self.url}/", bare, f"{bare}/"})

    @property
    def metadata_urls(self) -> tuple[str, ...]:
        """Where its metadata may be: in the order of RFC 8414, then of OpenID Connect."""
        parts = urlsplit(self.url)
        inserted = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server"
        found = (
            f"{self.url}/.well-known/oauth-authorization-server",
            f"{inserted}{parts.path}",
            f"{self.url}/.well-known/openid-configuration",
        )
        return tuple(dict.fromkeys(found))


def make_issuer(
    *,
    issuer: str,
    audience: str,
    algorithms: str = "RS256,ES256,EdDSA",
    groups_claim: str = "groups",
    grants_claim: str = "deploylog_grants",
    default_grants: str = "",
    leeway: int = 30,
) -> Issuer:
    """The issuer that the settings describe; raises InvalidSettings.

    ``issuer`` is a URL, or a host, which means https. ``algorithms`` are separated by commas,
    ``default_grants`` by blanks; ``leeway`` is in seconds, up to 300.
    """
    if not audience:
        raise InvalidSettings("oidc_issuer needs oidc_audience: whom its tokens must be for")
    if not 0 <= leeway <= 300:
        raise InvalidSettings("oidc_leeway_seconds must be between 0 and 300")
    return Issuer(
        url=_parse_url(issuer),
        audience=audience,
        algorithms=_parse_algorithms(algorithms),
        groups_claim=groups_claim,
        grants_claim=grants_claim,
        default_grants=_parse_default_grants(default_grants),
        leeway=leeway,
    )


class IssuerUnavailable(Exception):
    """The issuer gives no keys; the message says why."""


class SigningKeys:
    """The issuer's keys, as it published them a moment ago."""

    def __init__(
        self,
        issuer: Issuer,
        http: aiohttp.ClientSession,
        tasks: asyncio.TaskGroup,
        *,
        clock: Callable[[], int],
    ) -> None:
        """Fetch with ``http``, in ``tasks``; ``clock`` gives ns."""
        self._issuer = issuer
        self._http = http
        self._tasks = tasks
        self._clock = clock
        self._keys: PublicKeys = {}
        #: When they were fetched, and when that was last tried, in ns.
        self._fetched: int | None = None
        self._tried: int | None = None
        self._is_down = False
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, id: str, algorithm: str) -> PublicKey | None:
        """The key, if the issuer has it; fetches the keys when they are old, or do not have it.

        Raises Unavailable when the issuer has not answered for long.
        """
        if self._should_fetch((id, algorithm)):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self.refresh()
            except TimeoutError:
                pass
        if not self._are_good():
            raise Unavailable("the token issuer does not answer")
        return self._keys.get((id, algorithm))

    async def refresh(self) -> None:
        """Fetch the keys; who comes while that goes on waits for the same answer."""
        if self._fetching is None or self._fetching.done():
            self._fetching = self._tasks.create_task(self._fetch())
        # Somebody who stops waiting must not stop it for the others.
        await asyncio.shield(self._fetching)

    async def stay_fresh(self) -> None:
        """Fetch the keys, again and again."""
        while True:
            await self.refresh()
            await asyncio.sleep(RETRY_SECONDS if self._is_down else _REFRESH_SECONDS)

    def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _should_fetch(self, key: tuple[str, str]) -> bool:
        is_known = key in self._keys and self._are_good()
        if is_known and (self._is_down or self._age(self._fetched) < KEYS_SECONDS):
            return False
        return self._is_fetching() or self._age(self._tried) >= RETRY_SECONDS

    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _are_good(self) -> bool:
        is_silent = self._is_down or self._is_fetching()
        most = OUTAGE_SECONDS if is_silent else KEYS_SECONDS + RETRY_SECONDS
        return self._age(self._fetched) < most

    def _age(self, then: int | None) -> float:
        """Seconds since ``then``; no end of them since never."""
        return float("inf") if then is None else (self._clock() - then) / SECOND

    async def _fetch(self) -> None:
        self._tried = self._clock()
        try:
            self._keys = await fetch_keys(self._http, self._issuer)
        except IssuerUnavailable as failure:
            self._told(failure)
        except Exception:
            # Whatever an issuer says, it is no reason to end the service.
            _LOGGER.exception("cannot read what the token issuer %s says", self._issuer.url)
            self._is_down = True
        else:
            self._fetched = self._clock()
            self._told(None)

    def _told(self, failure: IssuerUnavailable | None) -> None:
        """Say when an outage begins, and when it ends."""
        if failure is not None and not self._is_down:
            _LOGGER.warning("the token issuer %s gives no keys: %s", self._issuer.url, failure)
        elif failure is None and self._is_down:
            _LOGGER.info("the token issuer %s gives keys again", self._issuer.url)
        self._is_down = failure is not None


async def fetch_keys(http: aiohttp.ClientSession, issuer: Issuer) -> PublicKeys:
    """The keys that the issuer publishes now; raises IssuerFails."""
    failure = IssuerUnavailable("it was not asked")
    for url in issuer.metadata_urls:
        try:
            keys_url = parse_metadata(await _get(http, url), issuer)
        except IssuerUnavailable as error:
            failure = error
        else:
            return parse_keys(await _get(http, keys_url), issuer.algorithms)
    raise failure


def parse_metadata(document: bytes, issuer: Issuer) -> str:
    """Where the issuer's metadata say that its keys are; raises IssuerFails."""
    metadata = _object(document)
    if str(metadata.get("issuer")) not in issuer.names:
        raise IssuerUnavailable("its metadata are another issuer's")
    url = metadata.get("jwks_uri")
    allowed = ("https://", "http://") if issuer.url.startswith("http://") else ("https://",)
    if not isinstance(url, str) or not url.startswith(allowed):
        raise IssuerUnavailable(f"jwks_uri in its metadata is not an {allowed[0]} address")
    return url


def parse_keys(document: bytes, algorithms: frozenset[str]) -> PublicKeys:
    """The keys that tokens may be signed with; raises IssuerFails when there is no list.

    A key that is for something else, or that we do not understand, is left out.
    """
    listed = _object(document).get("keys")
    if not isinstance(listed, list):
        raise IssuerUnavailable("its key set has no keys")
    found: PublicKeys = {}
    for jwk in listed:
        if isinstance(jwk, dict) and isinstance(id := jwk.get("kid"), str) and _may_verify(jwk):
            fitting = _fitting(jwk) & algorithms
            key = _parse_key(jwk, fitting)
            found |= {(id, algorithm): key for algorithm in fitting if key is not None}
    return found


def _may_verify(jwk: dict[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    is_for_it = isinstance(operations, list) and "verify" in operations
    # A private key that is published is no secret any more.
    return is_for_it and jwk.get("use", "sig") == "sig" and "d" not in jwk


def _fitting(jwk: dict[str, Any]) -> frozenset[str]:
    """The algorithms that a key may be used with: those of its type, or the one that it names."""
    fitting = _FITTING.get(f"{jwk.get('kty')} {jwk.get('crv', '')}".strip(), frozenset())
    return fitting & {str(jwk["alg"])} if "alg" in jwk else fitting


def _parse_key(jwk: dict[str, Any], fitting: frozenset[str]) -> PublicKey | None:
    if not fitting:
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm=min(fitting)).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, *_WRONG):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _RSA_BITS:
        return None
    return key if isinstance(key, PublicKey) else None


async def _get(http: aiohttp.ClientSession, url: str) -> bytes:
    """The answer's body; raises IssuerFails."""
    try:
        async with http.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise IssuerUnavailable(f"{url} answers {response.status}")
            return await _read(url, response.content.iter_any())
    except TimeoutError:
        raise IssuerUnavailable(f"{url} does not answer within {_ANSWER_SECONDS} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise IssuerUnavailable(f"{url}: {error}") from error


async def _read(url: str, chunks: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _MOST_BYTES:
            raise IssuerUnavailable(f"{url} answers with more than {_MOST_BYTES} bytes")
    return body


def _object(document: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(document, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise IssuerUnavailable("its answer is not a JSON object") from None


def open_session() -> aiohttp.ClientSession:
    """An HTTP client that asks issuers."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json"},
    )


def _parse_url(text: str) -> str:
    url = (text if "://" in text else f"https://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.query or parts.fragment or parts.username is not None:
        raise InvalidSettings(f"oidc_issuer is {text!r}; it must be a host, or an https address")
    return url


def _parse_algorithms(text: str) -> frozenset[str]:
    algorithms = frozenset(name.strip() for name in text.split(",") if name.strip())
    unknown = algorithms - set(ALGORITHMS)
    if unknown or not algorithms:
        raise InvalidSettings(
            f"oidc_algorithms cannot be {', '.join(sorted(unknown)) or 'empty'}: "
            f"there are {', '.join(ALGORITHMS)}"
        )
    return algorithms


def _parse_default_grants(text: str) -> tuple[Grant, ...]:
    try:
        return tuple(map(parse_grant, text.split()))
    except InvalidInput as error:
        raise InvalidSettings(f"oidc_default_grants: {error.message}") from error
