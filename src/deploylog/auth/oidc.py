"""The OpenID Connect issuer: its settings, and the keys that it publishes."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from deploylog.errors import InvalidInput, InvalidSettings, Unavailable
from deploylog.events.access import Grant, parse_grant
from deploylog.events.times import SECOND

#: Accepted signature algorithms: never a shared secret, never ``none``.
ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    "EdDSA",
)

#: Algorithms by key type and curve.
_ALGORITHMS_BY_KEY = {
    "RSA": frozenset(ALGORITHMS[:6]),
    "EC P-256": frozenset({"ES256"}),
    "EC P-384": frozenset({"ES384"}),
    "EC P-521": frozenset({"ES512"}),
    "OKP Ed25519": frozenset({"EdDSA"}),
}

#: Minimum size of an RSA key; smaller ones can be broken.
_MIN_RSA_BITS = 2048

#: Seconds for which fetched keys are fresh.
KEYS_SECONDS = 60

#: Seconds between fetches in the background, so that no request has to wait for one.
_REFRESH_SECONDS = 45

#: Minimum seconds between two fetches, whatever key ids requests name.
RETRY_SECONDS = 5

#: Seconds for which stale keys remain valid while the issuer is unreachable.
OUTAGE_SECONDS = 3600

#: Timeout in seconds of one HTTP request, and of a request that waits for keys.
TIMEOUT_SECONDS = 5

#: Built-in exceptions that PyJWT raises for a key with a missing part, or one of a wrong type.
_PARSE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError)

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

#: Public keys by key id and algorithm.
PublicKeys = dict[tuple[str, str], PublicKey]

_LOGGER = logging.getLogger(__name__)


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer of tokens, and how its claims are read. Created by ``make_issuer``."""

    #: With the scheme, without a trailing slash.
    url: str
    audience: str
    algorithms: frozenset[str]
    groups_claim: str = "groups"
    grants_claim: str = "deploylog_grants"
    #: Grants of a token without the grants claim.
    default_grants: tuple[Grant, ...] = ()
    #: Allowed clock skew in seconds.
    leeway: int = 30

    @property
    def names(self) -> frozenset[str]:
        """Accepted values of ``iss``: with or without scheme, with or without a trailing slash."""
        bare = self.url.partition("://")[2]
        return frozenset({self.url, f"{self.url}/", bare, f"{bare}/"})

    @property
    def metadata_urls(self) -> tuple[str, ...]:
        """URLs of the metadata: first as in RFC 8414, then as in OpenID Connect Discovery."""
        parts = urlsplit(self.url)
        inserted = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server"
        urls = (
            f"{self.url}/.well-known/oauth-authorization-server",
            f"{inserted}{parts.path}",
            f"{self.url}/.well-known/openid-configuration",
        )
        return tuple(dict.fromkeys(urls))


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
    """Create the issuer from settings; raises InvalidSettings.

    ``issuer`` is a URL, or a host, which means https. ``algorithms`` are separated by commas,
    ``default_grants`` by spaces; ``leeway`` is in seconds, up to 300.
    """
    if not audience:
        raise InvalidSettings("oidc_issuer requires oidc_audience, which tokens must name")
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
    """The issuer does not answer as it should; the message says why."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What an issuer publishes about itself: the URLs that it serves."""

    keys: str
    #: Where people sign in, and where their codes are exchanged.
    authorization: str | None
    token: str | None


class IssuerHttp(Protocol):
    """Requests to the issuer; each raises IssuerUnavailable unless the response is a 200."""

    async def get(self, url: str) -> bytes:
        """Return the body of the response."""
        ...

    async def post(self, url: str, form: Mapping[str, str]) -> bytes:
        """Post a form, and return the body of the response."""
        ...


class SigningKeys:
    """A cache of the issuer's published keys."""

    def __init__(
        self,
        issuer: Issuer,
        http: IssuerHttp,
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
        #: Times of the last successful fetch and of the last attempt, in ns.
        self._fetched: int | None = None
        self._attempted: int | None = None
        self._is_down = False
        self._fetch_task: asyncio.Task[None] | None = None

    async def get(self, id: str, algorithm: str) -> PublicKey | None:
        """Return the key, or ``None`` if the issuer has none; fetches the keys if stale.

        Raises Unavailable when the issuer has been unreachable for too long.
        """
        if self._should_fetch((id, algorithm)):
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await self.refresh()
            except TimeoutError:
                pass
        if not self._are_valid():
            raise Unavailable("the token issuer does not respond")
        return self._keys.get((id, algorithm))

    async def refresh(self) -> None:
        """Fetch the keys; concurrent callers share one fetch."""
        if self._fetch_task is None or self._fetch_task.done():
            self._fetch_task = self._tasks.create_task(self._fetch())
        # A caller that is cancelled must not cancel the fetch for the others.
        await asyncio.shield(self._fetch_task)

    async def refresh_periodically(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(RETRY_SECONDS if self._is_down else _REFRESH_SECONDS)

    def close(self) -> None:
        if self._fetch_task is not None:
            self._fetch_task.cancel()

    def _should_fetch(self, key: tuple[str, str]) -> bool:
        is_known = key in self._keys and self._are_valid()
        if is_known and (self._is_down or self._age(self._fetched) < KEYS_SECONDS):
            return False
        return self._is_fetching() or self._age(self._attempted) >= RETRY_SECONDS

    def _is_fetching(self) -> bool:
        return self._fetch_task is not None and not self._fetch_task.done()

    def _are_valid(self) -> bool:
        may_be_down = self._is_down or self._is_fetching()
        max_age = OUTAGE_SECONDS if may_be_down else KEYS_SECONDS + RETRY_SECONDS
        return self._age(self._fetched) < max_age

    def _age(self, then: int | None) -> float:
        """Seconds since ``then``; infinite for ``None``."""
        return float("inf") if then is None else (self._clock() - then) / SECOND

    async def _fetch(self) -> None:
        self._attempted = self._clock()
        try:
            self._keys = await fetch_keys(self._http, self._issuer)
        except IssuerUnavailable as failure:
            self._record_outcome(failure)
        except Exception:
            # No response of an issuer may stop the server.
            _LOGGER.exception("cannot parse the response of token issuer %s", self._issuer.url)
            self._is_down = True
        else:
            self._fetched = self._clock()
            self._record_outcome(None)

    def _record_outcome(self, failure: IssuerUnavailable | None) -> None:
        """Log when an outage starts and when it ends."""
        if failure is not None and not self._is_down:
            _LOGGER.warning("cannot fetch keys from token issuer %s: %s", self._issuer.url, failure)
        elif failure is None and self._is_down:
            _LOGGER.info("token issuer %s is available again", self._issuer.url)
        self._is_down = failure is not None


async def fetch_keys(http: IssuerHttp, issuer: Issuer) -> PublicKeys:
    """Fetch the keys that the issuer publishes; raises IssuerUnavailable."""
    metadata = await fetch_metadata(http, issuer)
    return parse_keys(await http.get(metadata.keys), issuer.algorithms)


async def fetch_metadata(http: IssuerHttp, issuer: Issuer) -> Metadata:
    """Fetch the first metadata that the issuer publishes; raises IssuerUnavailable."""
    failure = IssuerUnavailable("no metadata URL was tried")
    for url in issuer.metadata_urls:
        try:
            return parse_metadata(await http.get(url), issuer)
        except IssuerUnavailable as error:
            failure = error
    raise failure


def parse_metadata(document: bytes, issuer: Issuer) -> Metadata:
    """Parse the metadata; raises IssuerUnavailable."""
    metadata = _object(document)
    if str(metadata.get("issuer")) not in issuer.names:
        raise IssuerUnavailable("the metadata name another issuer")
    keys = _url(metadata, "jwks_uri", issuer)
    if keys is None:
        raise IssuerUnavailable("jwks_uri in the metadata is missing")
    return Metadata(
        keys=keys,
        authorization=_url(metadata, "authorization_endpoint", issuer),
        token=_url(metadata, "token_endpoint", issuer),
    )


def _url(metadata: dict[str, Any], name: str, issuer: Issuer) -> str | None:
    """A URL in the metadata, if it is there; https unless the issuer's own URL is not."""
    url = metadata.get(name)
    allowed = ("https://", "http://") if issuer.url.startswith("http://") else ("https://",)
    if url is not None and (not isinstance(url, str) or not url.startswith(allowed)):
        raise IssuerUnavailable(f"{name} in the metadata is not an {allowed[0]} URL")
    return url


def parse_keys(document: bytes, algorithms: frozenset[str]) -> PublicKeys:
    """Return the keys that verify tokens; raises IssuerUnavailable if the document has no list.

    Skips keys for other uses, and keys that cannot be parsed.
    """
    listed = _object(document).get("keys")
    if not isinstance(listed, list):
        raise IssuerUnavailable("the key set has no list of keys")
    keys: PublicKeys = {}
    for jwk in listed:
        if isinstance(jwk, dict) and isinstance(id := jwk.get("kid"), str) and _may_verify(jwk):
            supported = _supported_algorithms(jwk) & algorithms
            key = _parse_key(jwk, supported)
            keys |= {(id, algorithm): key for algorithm in supported if key is not None}
    return keys


def _may_verify(jwk: dict[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    can_verify = isinstance(operations, list) and "verify" in operations
    # A private key that is published is no longer secret.
    return can_verify and jwk.get("use", "sig") == "sig" and "d" not in jwk


def _supported_algorithms(jwk: dict[str, Any]) -> frozenset[str]:
    """The algorithms of the key's type, narrowed to the one that it names, if any."""
    supported = _ALGORITHMS_BY_KEY.get(
        f"{jwk.get('kty')} {jwk.get('crv', '')}".strip(), frozenset()
    )
    return supported & {str(jwk["alg"])} if "alg" in jwk else supported


def _parse_key(jwk: dict[str, Any], algorithms: frozenset[str]) -> PublicKey | None:
    if not algorithms:
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm=min(algorithms)).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, *_PARSE_ERRORS):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        return None
    return key if isinstance(key, PublicKey) else None


async def post_form(http: IssuerHttp, url: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Post a form, and return the JSON object of the response; raises IssuerUnavailable."""
    return _object(await http.post(url, form))


def _object(document: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(document, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise IssuerUnavailable("the response is not a JSON object") from None


def _parse_url(text: str) -> str:
    url = (text if "://" in text else f"https://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or parts.username is not None:
        raise InvalidSettings(f"oidc_issuer is {text!r}; it must be a host or an https URL")
    return url


def _parse_algorithms(text: str) -> frozenset[str]:
    algorithms = frozenset(name.strip() for name in text.split(",") if name.strip())
    unknown = algorithms - set(ALGORITHMS)
    if unknown or not algorithms:
        raise InvalidSettings(
            f"oidc_algorithms cannot be {', '.join(sorted(unknown)) or 'empty'}; "
            f"supported: {', '.join(ALGORITHMS)}"
        )
    return algorithms


def _parse_default_grants(text: str) -> tuple[Grant, ...]:
    try:
        return tuple(map(parse_grant, text.split()))
    except InvalidInput as error:
        raise InvalidSettings(f"oidc_default_grants: {error.message}") from error
