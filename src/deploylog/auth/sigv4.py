"""AWS Signature Version 4, AWS4-HMAC-SHA256, in the ``Authorization`` header.

Source: AWS, "Signature Version 4 signing process".
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from urllib.parse import quote

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

ALGORITHM = "AWS4-HMAC-SHA256"

#: The services whose clients are served. Any region is accepted: a client with a custom endpoint
#: derives a region from some part of the address.
SERVICES = ("execute-api", "cloudformation")

#: Prefix of AWS's algorithms. Only ``ALGORITHM`` is supported.
_PREFIX = "AWS4-"

_DATE = "x-amz-date"
_PAYLOAD = "x-amz-content-sha256"

#: A key id and its scope.
_CREDENTIAL = re.compile(rf"([^,/\s]+)/([0-9]{{8}}/[^,/\s]+/(?:{'|'.join(SERVICES)})/aws4_request)")


class AwsScheme:
    """See ``Scheme``."""

    kind: AccessKeyKind = "aws"

    def parse(self, request: RequestCredentials) -> Claim | None:
        """See ``Scheme``. Host and date must be signed, and the scope must be of the same day."""
        header = request.headers.get("authorization", "")
        if not header.startswith(_PREFIX):
            return None
        parsed = parse_signature(header, algorithm=ALGORITHM, label="Credential")
        credential = _CREDENTIAL.fullmatch(parsed.credential) if parsed else None
        date = request.headers.get(_DATE, "")
        if parsed is None or credential is None or not credential[2].startswith(f"{date[:8]}/"):
            raise malformed()
        return Claim(
            key_id=credential[1],
            date=date,
            seconds=parse_date(date),
            scope=credential[2],
            names=parse_names(parsed.names, required=("host", _DATE)),
            signature=parsed.signature,
        )

    def signatures(
        self, request: RequestCredentials, claim: Claim, body: bytes, secret: str
    ) -> Iterator[str]:
        """See ``Scheme``. Some clients sign the query as sent, others sign it strictly encoded."""
        values = [b" ".join(value.split()) for value in signed_values(request, claim.names)]
        payload = _payload(request, body)
        key = _signing_key(secret, claim.scope)
        queries = (_as_sent(request.query), _strict(request.query))
        for query in dict.fromkeys(queries):
            canonical = canonical_request(
                request,
                claim,
                # AWS encodes the encoded path once more.
                path=quote(request.path.encode("latin-1"), safe="/~"),
                query=query,
                values=values,
                payload=payload,
            )
            message = f"{ALGORITHM}\n{claim.date}\n{claim.scope}\n{sha256_hex(canonical)}"
            yield _hmac(key, message).hex()


def _as_sent(query: str) -> str:
    pieces = (piece.partition("=") for piece in query.split("&") if piece)
    return join_query(sorted((name, value) for name, _, value in pieces))


def _strict(query: str) -> str:
    """The query sorted by its encoded pairs."""
    return join_query(sorted(encode_pair(*pair) for pair in decode_query(query)))


def _payload(request: RequestCredentials, body: bytes) -> str:
    """The body's hash; raises Unauthenticated if another one is declared.

    Clients of neither service leave a body unsigned or sign it in chunks.
    """
    declared = request.headers.get(_PAYLOAD, "")
    return check_payload(declared, body) if declared else sha256_hex(body)


def _signing_key(secret: str, scope: str) -> bytes:
    """The signing key for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, message: str) -> bytes:
    return hmac.digest(key, message.encode(), hashlib.sha256)
