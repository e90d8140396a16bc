"""Topics of SNS: their signature is the credential of what they deliver.

SNS can show no secret of ours, but signs every message. Whoever may publish to a topic that is
configured may write the project that it is configured for, and nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import aiohttp
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

#: Seconds that a message may be old, or that SNS's clock may be ahead of ours.
OLDEST = 3600
_AHEAD = 300

#: Seconds that a certificate is good for without another look.
_TRUSTED = 86_400

#: Certificates that are remembered; a region has one or two at a time.
_REMEMBERED = 64

#: Seconds that one answer may take, and its largest size in bytes.
_ANSWER_SECONDS = 5
_MOST_BYTES = 64 * 1024

_HASHES = {"1": SHA1, "2": SHA256}


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of SNS's."""

    status: int
    body: bytes


#: Gets an https address; raises Unavailable when there is no answer.
Fetch = Callable[[str], Awaitable[Fetched]]


class KnownCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate's key, and until when it is good, in ns."""

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
        """``projects`` by topic, ``None`` for whichever is asked for; ``clock`` gives ns;
        ``failed`` counts messages that are not SNS's.
        """
        self._projects = dict(projects)
        self._fetch = fetch
        self._clock = clock
        self._fetches = fetches
        self._failed = failed
        self._known: BoundedMap[str, KnownCertificate] = BoundedMap(_REMEMBERED)
        self._turn = asyncio.Lock()

    async def admit(self, message: SnsMessage, project: str | None) -> tuple[Principal, str]:
        topic = message.topic_arn
        own = self._project(topic, project)
        age = (self._clock() - message.time) / SECOND
        if not -_AHEAD <= age <= OLDEST:
            raise Forbidden("the message is too old, or not sent yet")
        key = await self._key(message.signing_cert_url, topic)
        if key is None or not _is_signed(message, key):
            self._failed()
            raise Unauthenticated
        grants = (Grant("write", scope("project", own)),)
        return Principal(name=topic, id=topic, grants=grants, kind="sns"), own

    async def confirm(self, message: SnsMessage) -> None:
        url = message.subscribe_url or ""
        if not is_confirmation_url(url, message.topic_arn):
            raise InvalidInput("SubscribeURL does not confirm this at SNS", field="SubscribeURL")
        answer = await self._fetch(url)
        if answer.status != 200:
            raise InvalidInput(
                f"SNS answers SubscribeURL with {answer.status}", field="SubscribeURL"
            )

    def _project(self, topic: str, asked: str | None) -> str:
        if topic not in self._projects:
            raise Forbidden("the topic is not one of sns_topics")
        own = self._projects[topic]
        if own is not None and asked not in (None, own):
            raise Forbidden("the topic may not write this project")
        project = own or asked
        if project is None:
            raise InvalidInput("project is missing", field="project")
        return project

    async def _key(self, url: str, topic: str) -> RSAPublicKey | None:
        """The key of the certificate there, if it is SNS's."""
        if not is_certificate_url(url, topic):
            return None
        known = self._remembered(url)
        if known is None:
            async with self._turn:
                # Somebody else may have looked meanwhile.
                known = self._remembered(url) or await self._look(url)
        return known.key if known is not None else None

    def _remembered(self, url: str) -> KnownCertificate | None:
        known = self._known.get(url)
        return known if known is not None and known.until > self._clock() else None

    async def _look(self, url: str) -> KnownCertificate | None:
        # Names that SNS does not have can be made up without end.
        if wait := self._fetches.take(""):
            raise TooMany("there are too many certificates to look for", retry_after=wait)
        answer = await self._fetch(url)
        if answer.status >= 500:
            raise Unavailable("SNS does not give its certificate")
        known = _parse_certificate(answer.body, self._clock()) if answer.status == 200 else None
        if known is None:
            return None
        self._known.put(url, known)
        return known


def _parse_certificate(pem: bytes, now: int) -> KnownCertificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    is_valid = begins <= datetime.fromtimestamp(now / SECOND, UTC) < ends
    if not is_valid or not isinstance(key, RSAPublicKey) or key.key_size < 2048:
        return None
    until = min(now + _TRUSTED * SECOND, int(ends.timestamp()) * SECOND)
    return KnownCertificate(key=key, until=until)


def _is_signed(message: SnsMessage, key: RSAPublicKey) -> bool:
    algorithm = _HASHES[message.signature_version]()
    try:
        key.verify(message.signature_bytes, message.signed, PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def parse_topics(text: str) -> dict[str, str | None]:
    """The setting ``sns_topics``: ``ARN=PROJECT`` or ``ARN``, separated by commas; raises
    InvalidSettings.
    """
    topics: dict[str, str | None] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        arn, equals, project = entry.partition("=")
        if not is_topic(arn) or (equals and not project.strip()):
            raise InvalidSettings(f"sns_topics: {entry!r} is not ARN=PROJECT, or ARN")
        topics[arn] = project.strip() or None
    return topics


async def fetch_from_sns(url: str) -> Fetched:
    """Get ``url``, within limits of time and size, and without being sent elsewhere."""
    # Rarely needed: a certificate is good for a day.
    http = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
    )
    try:
        async with http, http.get(url, allow_redirects=False) as answer:
            return Fetched(status=answer.status, body=await _read(answer))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # A timeout is an OSError.
        raise Unavailable("SNS does not answer") from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The body; nothing when it is larger than anything of use."""
    body = b""
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _MOST_BYTES:
            return b""
    return body
