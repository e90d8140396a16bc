"""Huawei Cloud's AK/SK request signature, SDK-HMAC-SHA256.

Source: API Gateway, "AK/SK signing and authentication". What each client signs and omits was
observed in its requests.
"""

import hashlib
import hmac
from collections.abc import Iterator
from urllib.parse import quote, unquote_to_bytes

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.authorization import parse_signature
from deploylog.auth.request_signing import (
    Claim,
    canonical_request,
    check_payload,
    decode_query,
    encode_pair,
    join_query,
    malformed,
    parse_date,
    parse_names,
    sha256_hex,
    signed_values,
)
from deploylog.auth.store import AccessKeyKind
from deploylog.errors import Unauthenticated

ALGORITHM = "SDK-HMAC-SHA256"

#: Prefixes of Huawei Cloud's algorithms. Only ``ALGORITHM`` is supported; a client uses the others
#: only when it is configured to.
_PREFIXES = ("SDK-", "V11-")

_DATE = "x-sdk-date"
_PAYLOAD = "x-sdk-content-sha256"
_UNSIGNED = "UNSIGNED-PAYLOAD"

#: Media types whose bodies the SDKs always sign.
_ALWAYS_SIGNED = ("application/json", "application/bson")


class HuaweiScheme:
    """See ``Scheme``."""

    kind: AccessKeyKind = "huawei"

    def parse(self, request: RequestCredentials) -> Claim | None:
        """See ``Scheme``. Only ``X-Sdk-Date`` must be signed: some clients do not sign the host."""
        header = request.headers.get("authorization", "")
        if not header.startswith(_PREFIXES):
            return None
        parsed = parse_signature(header, algorithm=ALGORITHM, label="Access")
        if parsed is None:
            raise malformed()
        date = request.headers.get(_DATE, "")
        return Claim(
            key_id=parsed.credential,
            date=date,
            seconds=parse_date(date),
            names=parse_names(parsed.names, required=(_DATE,)),
            signature=parsed.signature,
        )

    def signatures(
        self, request: RequestCredentials, claim: Claim, body: bytes, secret: str
    ) -> Iterator[str]:
        values = [value.strip() for value in signed_values(request, claim.names)]
        canonical = canonical_request(
            request,
            claim,
            path=_path(request.path),
            query=_query(request.query),
            values=values,
            payload=_payload(request, claim, body),
        )
        message = f"{ALGORITHM}\n{claim.date}\n{sha256_hex(canonical)}"
        yield hmac.digest(secret.encode(), message.encode(), hashlib.sha256).hex()


def _path(path: str) -> str:
    """The path decoded, encoded again, and with a trailing slash."""
    encoded = quote(unquote_to_bytes(path.encode("latin-1")), safe="/~")
    return encoded if encoded.endswith("/") else f"{encoded}/"


def _query(query: str) -> str:
    """The query sorted by its decoded pairs."""
    return join_query(encode_pair(*pair) for pair in sorted(decode_query(query)))


def _payload(request: RequestCredentials, claim: Claim, body: bytes) -> str:
    """The signed hash; raises Unauthenticated if the declared hash is not the body's.

    The SDKs declare a body that is not JSON as unsigned. Without a body they sign the hash of the
    empty string, whatever they declare.
    """
    declared = request.headers.get(_PAYLOAD, "")
    if declared != _UNSIGNED:
        return check_payload(declared, body) if declared else sha256_hex(body)
    if not body:
        return sha256_hex(body)
    if not _may_be_unsigned(request, claim):
        raise Unauthenticated(reason="bad_signature")
    return declared


def _may_be_unsigned(request: RequestCredentials, claim: Claim) -> bool:
    """Whether the SDKs leave this media type unsigned. The type itself must be signed, so that it
    cannot change in transit.
    """
    media = request.headers.get("content-type", "").strip().lower()
    return "content-type" in claim.names and not media.startswith(_ALWAYS_SIGNED)
