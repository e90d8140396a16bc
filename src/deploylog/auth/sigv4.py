"""AWS's signature of a request, AWS4-HMAC-SHA256, in the header ``Authorization``.

Algorithm: AWS, "Signature Version 4 signing process".
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from urllib.parse import quote

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

ALGORITHM = "AWS4-HMAC-SHA256"

#: Those whose clients may ask here. Their regions may be any: a client that is pointed at an
#: address takes some part of it for one.
SERVICES = ("execute-api", "cloudformation")

#: How the others begin, none of which is taken.
_OTHERS = "AWS4-"

_DATE = "x-amz-date"
_PAYLOAD = "x-amz-content-sha256"

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Credential=([^,/\s]+)/([0-9]{{8}}/[^,/\s]+/({'|'.join(SERVICES)})/aws4_request)"
    r", *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{64})"
)


class AwsScheme:
    """See ``Scheme``."""

    kind: AccessKeyKind = "aws"

    def parse(self, presented: RequestCredentials) -> Claim | None:
        """See ``Scheme``. Host and date must be signed, and the scope be of the same day."""
        shown = presented.headers.get("authorization", "")
        if not shown.startswith(_OTHERS):
            return None
        match = _AUTHORIZATION.fullmatch(shown)
        date = presented.headers.get(_DATE, "")
        if match is None or not match[2].startswith(f"{date[:8]}/"):
            raise malformed()
        return Claim(
            key_id=match[1],
            date=date,
            seconds=parse_date(date),
            scope=match[2],
            names=parse_names(match[4], required=("host", _DATE)),
            signature=match[5],
        )

    def signatures(
        self, presented: RequestCredentials, claim: Claim, body: bytes, secret: str
    ) -> Iterator[str]:
        """See ``Scheme``. Some clients sign the query as they send it, others strictly encoded."""
        values = [b" ".join(value.split()) for value in signed_values(presented, claim.names)]
        payload = _payload(presented, body)
        key = _key(secret, claim.scope)
        queries = (_as_sent(presented.query), _strict(presented.query))
        for query in dict.fromkeys(queries):
            request = canonical_request(
                presented,
                claim,
                # What is encoded already is encoded once more.
                path=quote(presented.path.encode("latin-1"), safe="/~"),
                query=query,
                values=values,
                payload=payload,
            )
            message = f"{ALGORITHM}\n{claim.date}\n{claim.scope}\n{hexadecimal(request)}"
            yield _hmac(key, message).hex()


def _as_sent(query: str) -> str:
    pieces = (piece.partition("=") for piece in query.split("&") if piece)
    return joined(sorted((name, value) for name, _, value in pieces))


def _strict(query: str) -> str:
    """In the order of what was encoded."""
    return joined(sorted(encoded_pair(*pair) for pair in decoded_pairs(query)))


def _payload(presented: RequestCredentials, body: bytes) -> str:
    """The body's hash; raises Unauthenticated when another one is declared.

    Neither service's clients leave a body unsigned, or sign it in parts.
    """
    declared = presented.headers.get(_PAYLOAD, "")
    return check_payload(declared, body) if declared else hexadecimal(body)


def _key(secret: str, scope: str) -> bytes:
    """The key for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, message: str) -> bytes:
    return hmac.digest(key, message.encode(), hashlib.sha256)
