"""Huawei Cloud's AK/SK signature of a request, SDK-HMAC-SHA256.

Algorithm: API Gateway's "AK/SK signing and authentication"; what each client signs and what it
leaves out was seen in its requests.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote_to_bytes

from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.request_signing import (
    Claim,
    canonical_request,
    check_payload,
    decoded_pairs,
    encoded_pair,
    hexadecimal,
    joined,
    malformed,
    parse_date,
    parse_names,
    signed_values,
)
from deploylog.auth.store import AccessKeyKind
from deploylog.errors import Unauthenticated

ALGORITHM = "SDK-HMAC-SHA256"

#: How the ones begin that a client uses only when it is told to; none of them is taken.
_OTHERS = ("SDK-", "V11-")

_DATE = "x-sdk-date"
_PAYLOAD = "x-sdk-content-sha256"
_UNSIGNED = "UNSIGNED-PAYLOAD"

#: Media types whose bodies the SDKs always sign.
_ALWAYS_SIGNED = ("application/json", "application/bson")

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Access=([^,\s]+), *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{{64}})"
)


class HuaweiScheme:
    """See ``Scheme``."""

    kind: AccessKeyKind = "huawei"

    def parse(self, presented: RequestCredentials) -> Claim | None:
        """See ``Scheme``. Only ``X-Sdk-Date`` must be signed: some clients sign no host."""
        shown = presented.headers.get("authorization", "")
        if not shown.startswith(_OTHERS):
            return None
        match = _AUTHORIZATION.fullmatch(shown)
        if match is None:
            raise malformed()
        key_id, names, signature = match.groups()
        date = presented.headers.get(_DATE, "")
        return Claim(
            key_id=key_id,
            date=date,
            seconds=parse_date(date),
            names=parse_names(names, required=(_DATE,)),
            signature=signature,
        )

    def signatures(
        self, presented: RequestCredentials, claim: Claim, body: bytes, secret: str
    ) -> Iterator[str]:
        values = [value.strip() for value in signed_values(presented, claim.names)]
        request = canonical_request(
            presented,
            claim,
            path=_path(presented.path),
            query=_query(presented.query),
            values=values,
            payload=_payload(presented, claim, body),
        )
        message = f"{ALGORITHM}\n{claim.date}\n{hexadecimal(request)}"
        yield hmac.digest(secret.encode(), message.encode(), hashlib.sha256).hex()


def _path(path: str) -> str:
    """Decoded, encoded anew, and with a slash at its end."""
    encoded = quote(unquote_to_bytes(path.encode("latin-1")), safe="/~")
    return encoded if encoded.endswith("/") else f"{encoded}/"


def _query(query: str) -> str:
    """In the order of what was decoded."""
    return joined(encoded_pair(*pair) for pair in sorted(decoded_pairs(query)))


def _payload(presented: RequestCredentials, claim: Claim, body: bytes) -> str:
    """The hash that was signed; raises Unauthenticated when the one declared is not the body's.

    The SDKs leave a body unsigned that is not JSON, and say so; with none they sign the hash of
    nothing, whatever they say.
    """
    declared = presented.headers.get(_PAYLOAD, "")
    if declared != _UNSIGNED:
        return check_payload(declared, body) if declared else hexadecimal(body)
    if not body:
        return hexadecimal(body)
    if not _may_be_unsigned(presented, claim):
        raise Unauthenticated(reason="bad_signature")
    return declared


def _may_be_unsigned(presented: RequestCredentials, claim: Claim) -> bool:
    """Whether the body's type is one that is sent so, which nobody could change on the way."""
    media = presented.headers.get("content-type", "").strip().lower()
    return "content-type" in claim.names and not media.startswith(_ALWAYS_SIGNED)
