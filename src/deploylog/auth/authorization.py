"""The ``Authorization`` header: a scheme with credentials, or a signature of the request."""

import re

import msgspec

#: Prefixes of the algorithms that sign a whole request, supported or not.
SIGNATURE_PREFIXES = ("SDK-", "V11-", "AWS4-")

_SIGNATURE = re.compile(
    r"(?P<algorithm>\S+) +(?P<label>Access|Credential)=(?P<credential>[^,\s]+)"
    r", *SignedHeaders=(?P<names>[^,\s]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


class SignatureHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A signature as ``Authorization`` states it. Nothing in it is verified."""

    algorithm: str
    #: ``Access`` (Huawei Cloud) or ``Credential`` (AWS).
    label: str
    #: The key id; from AWS, with the scope after a slash.
    credential: str
    #: The names of the signed headers, separated by semicolons.
    names: str
    #: In lower-case hexadecimal.
    signature: str


def parse_credentials(header: str, scheme: str) -> str:
    """Return the credentials if the header has this lower-case scheme, else an empty string."""
    named, _, credentials = header.partition(" ")
    return credentials.strip() if named.lower() == scheme else ""


def is_signature(header: str) -> bool:
    """Whether the header is a signature of the whole request, by any algorithm."""
    return header.startswith(SIGNATURE_PREFIXES)


def parse_signature(header: str, *, algorithm: str, label: str) -> SignatureHeader | None:
    """Parse a signature; ``None`` unless it is well formed and of this algorithm and label."""
    match = _SIGNATURE.fullmatch(header)
    if match is None or (match["algorithm"], match["label"]) != (algorithm, label):
        return None
    return SignatureHeader(**match.groupdict())
