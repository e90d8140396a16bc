"""SNS topics: SNS's signature of a message authenticates it.

SNS cannot send a credential of this server, but signs every message. Anyone who may publish to a
configured topic may write to its project, and to nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from deploylog.auth.rate_limit import RateLimiter
from deploylog.errors import (
    Forbidden,
    InvalidInput,
    InvalidSettings,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from deploylog.events.access import Grant, Principal
from deploylog.events.bounded_map import BoundedMap
from deploylog.events.scope import scope
from deploylog.events.times import SECOND
from deploylog.ingest.cloudformation.sns import (
    SnsMessage,
    is_certificate_url,
    is_confirmation_url,
    is_topic,
)

#: Maximum age of a message in seconds, and how far in the future its time may lie.
MAX_AGE = 3600
_MAX_SKEW = 300

#: Seconds for which a certificate is cached.
_CERTIFICATE_TTL = 86_400

#: Maximum number of cached certificates; a region has one or two at a time.
_MAX_CERTIFICATES = 64

_HASHES = {"1": SHA1, "2": SHA256}


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A response of SNS."""

    status: int
    body: bytes


#: Fetches an https URL; raises Unavailable if there is no response.
Fetch = Callable[[str], Awaitable[Fetched]]


class CachedCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate's public key, and when its cache entry expires, in ns."""

    key: RSAPublicKey
    until: int


class SnsTopics:
    """See ``api.context.Topics``."""

    def __init__(
        self,
        projects: Mapping[str, str | None],
        fetch: Fetch,
        *,
        clock: Callable[[], int],
        fetches: RateLimiter,
        failed: Callable[[], None],
    ) -> None:
        """``projects`` by topic ARN; with ``None`` the request names it. ``clock`` gives ns.
        ``fetches`` limits requests for certificates. ``failed`` is called for each message that SNS
        did not sign.
        """
        self._projects = dict(projects)
        self._fetch = fetch
        self._clock = clock
        self._fetches = fetches
        self._failed = failed
        self._certificates: BoundedMap[str, CachedCertificate] = BoundedMap(_MAX_CERTIFICATES)
        self._fetch_lock = asyncio.Lock()

    async def authenticate(self, message: SnsMessage, project: str | None) -> tuple[Principal, str]:
        topic = message.topic_arn
        allowed = self._project(topic, project)
        age = (self._clock() - message.time) / SECOND
        if not -_MAX_SKEW <= age <= MAX_AGE:
            raise Forbidden("the message is too old, or dated in the future")
        key = await self._key(message.signing_cert_url, topic)
        if key is None or not _is_signed(message, key):
            self._failed()
            raise Unauthenticated
        grants = (Grant("write", scope("project", allowed)),)
        return Principal(name=topic, id=topic, grants=grants, kind="sns"), allowed

    async def confirm(self, message: SnsMessage) -> None:
        url = message.subscribe_url or ""
        if not is_confirmation_url(url, message.topic_arn):
            raise InvalidInput(
                "SubscribeURL is no SNS confirmation for the topic", field="SubscribeURL"
            )
        response = await self._fetch(url)
        if response.status != 200:
            raise InvalidInput(
                f"SNS responded to SubscribeURL with status {response.status}", field="SubscribeURL"
            )

    def _project(self, topic: str, requested: str | None) -> str:
        if topic not in self._projects:
            raise Forbidden("the topic is not one of sns_topics")
        configured = self._projects[topic]
        if configured is not None and requested not in (None, configured):
            raise Forbidden("the topic may not write to this project")
        project = configured or requested
        if project is None:
            raise InvalidInput("project is missing", field="project")
        return project

    async def _key(self, url: str, topic: str) -> RSAPublicKey | None:
        """The public key of the certificate at ``url``; ``None`` if it is not SNS's."""
        if not is_certificate_url(url, topic):
            return None
        certificate = self._cached(url)
        if certificate is None:
            async with self._fetch_lock:
                # Another request may have fetched it meanwhile.
                certificate = self._cached(url) or await self._fetch_certificate(url)
        return certificate.key if certificate is not None else None

    def _cached(self, url: str) -> CachedCertificate | None:
        cached = self._certificates.get(url)
        return cached if cached is not None and cached.until > self._clock() else None

    async def _fetch_certificate(self, url: str) -> CachedCertificate | None:
        # A client can invent certificate names without end.
        if delay := self._fetches.acquire(""):
            raise TooMany("too many certificates to fetch", retry_after=delay)
        response = await self._fetch(url)
        if response.status >= 500:
            raise Unavailable("SNS does not return its certificate")
        if response.status != 200:
            return None
        certificate = _parse_certificate(response.body, self._clock())
        if certificate is not None:
            self._certificates.put(url, certificate)
        return certificate


def _parse_certificate(pem: bytes, now: int) -> CachedCertificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    is_valid = start <= datetime.fromtimestamp(now / SECOND, UTC) < end
    if not is_valid or not isinstance(key, RSAPublicKey) or key.key_size < 2048:
        return None
    until = min(now + _CERTIFICATE_TTL * SECOND, int(end.timestamp()) * SECOND)
    return CachedCertificate(key=key, until=until)


def _is_signed(message: SnsMessage, key: RSAPublicKey) -> bool:
    algorithm = _HASHES[message.signature_version]()
    try:
        key.verify(message.signature_bytes, message.signed, PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def parse_topics(text: str) -> dict[str, str | None]:
    """Parse ``ARN=PROJECT`` or ``ARN``, separated by commas; raises InvalidSettings."""
    topics: dict[str, str | None] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        arn, equals, project = entry.partition("=")
        if not is_topic(arn) or (equals and not project.strip()):
            raise InvalidSettings(f"sns_topics: {entry!r} is not ARN=PROJECT, or ARN")
        topics[arn] = project.strip() or None
    return topics


async def fetch_from_sns(url: str) -> Fetched:
    """Fetch ``url``, within limits of time and size, without following redirects."""
    # Imported here: few services have topics, and aiohttp would be a quarter of a start.
    from deploylog.auth.sns_http import fetch

    return await fetch(url)
