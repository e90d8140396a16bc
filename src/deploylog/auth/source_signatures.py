"""How the webhooks of each source are signed: by an HMAC of the body, or with the secret itself."""

import hmac
from collections.abc import Mapping

import msgspec

from deploylog.auth.standard_webhooks import is_signed
from deploylog.auth.store import SourceKind


class HmacOfBody(msgspec.Struct, frozen=True, kw_only=True):
    """The hexadecimal HMAC of the body."""

    #: In lower case.
    header: str
    #: Hash functions, by what the header starts with.
    digests: Mapping[str, str]
    signs_body: bool = True

    def is_valid(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        """Whether the header proves that the sender of the body knows the secret."""
        prefix, separator, signature = headers[self.header].rpartition("=")
        digest = self.digests.get(prefix + separator)
        if digest is None:
            return False
        expected = hmac.new(secret.encode(), body, digest).hexdigest()
        return _are_equal(signature.lower(), expected)


class SecretInHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The secret itself."""

    header: str
    #: What precedes the secret.
    prefix: str = ""
    signs_body: bool = False

    def is_valid(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        """Whether the header is the secret."""
        return _are_equal(headers[self.header], self.prefix + secret)


class StandardWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A signature by Standard Webhooks, with a secret that starts with ``whsec_``."""

    header: str = "webhook-signature"
    signs_body: bool = True

    def is_valid(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        """Whether the headers prove that the sender of the body knows the secret."""
        return is_signed(headers, body, secret)


Scheme = HmacOfBody | SecretInHeader | StandardWebhook

#: How each source may sign: one valid signature is enough.
SCHEMES: dict[SourceKind, tuple[Scheme, ...]] = {
    "github": (HmacOfBody(header="x-hub-signature-256", digests={"sha256=": "sha256"}),),
    # The signing token, since GitLab 19.0, and the secret token.
    "gitlab": (StandardWebhook(), SecretInHeader(header="x-gitlab-token")),
    "hcp-terraform": (HmacOfBody(header="x-tfe-notification-signature", digests={"": "sha512"}),),
    "flux": (
        HmacOfBody(
            header="x-signature",
            digests={"sha256=": "sha256", "sha384=": "sha384", "sha512=": "sha512"},
        ),
    ),
    "atlantis": (SecretInHeader(header="authorization", prefix="Bearer "),),
    "pulumi": (HmacOfBody(header="pulumi-webhook-signature", digests={"": "sha256"}),),
}

#: Headers that other senders have, too.
SHARED_HEADERS = ("authorization", "webhook-signature")

#: What the path of a source's webhooks ends with, before the source. A base path may precede it.
_PATH = "/log/v1/ingest/"


def source_of(method: str, path: str) -> SourceKind | None:
    """The source whose webhooks are posted to this path."""
    _, found, name = path.rstrip("/").rpartition(_PATH)
    if method != "POST" or not found:
        return None
    return next((source for source in SCHEMES if source == name), None)


def signatures_in(
    method: str, path: str, headers: Mapping[str, str]
) -> tuple[SourceKind, list[Scheme]] | None:
    """The source of a webhook, and its signatures that the request has, if it has any."""
    source = source_of(method, path)
    if source is None:
        return None
    found = [scheme for scheme in SCHEMES[source] if scheme.header in headers]
    return (source, found) if found else None


def signs_body(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether the request has a signature of a source's, which only the body can verify."""
    found = signatures_in(method, path, headers)
    return found is not None and any(scheme.signs_body for scheme in found[1])


def _are_equal(sent: str, expected: str) -> bool:
    return hmac.compare_digest(
        sent.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass")
    )
