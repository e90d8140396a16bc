"""Other systems as tests play them: each signs what it posts as its documentation says."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from deploylog.auth.access_keys import generate_key_pair, make_access_key
from deploylog.auth.encryption import parse_encryptor
from deploylog.auth.store import Credential, SourceKind
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now
from support.servers import Answer, Running

#: The rights that a webhook needs whose deployments have environments.
GRANTS = ("write:project/acme", "write:state/acme")


def _hmac(digest: str, secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, getattr(hashlib, digest)).hexdigest()


def signature(source: SourceKind, secret: str, body: bytes) -> dict[str, str]:
    """The header with which the source proves that it knows the secret."""
    return {
        "github": lambda: {"X-Hub-Signature-256": f"sha256={_hmac('sha256', secret, body)}"},
        "gitlab": lambda: {"X-Gitlab-Token": secret},
        "hcp-terraform": lambda: {"X-TFE-Notification-Signature": _hmac("sha512", secret, body)},
        "flux": lambda: {"X-Signature": f"sha256={_hmac('sha256', secret, body)}"},
        "atlantis": lambda: {"Authorization": f"Bearer {secret}"},
        "pulumi": lambda: {"Pulumi-Webhook-Signature": _hmac("sha256", secret, body)},
    }[source]()


class PlayedSource:
    """Posts the webhooks of one source to a service, with a secret that the service has."""

    def __init__(self, server: Running, source: SourceKind, secret: str) -> None:
        self.secret = secret
        self._server = server
        self._source = source

    async def post(
        self,
        body: Any,
        headers: Mapping[str, str] | None = None,
        *,
        query: str = "project=acme",
        secret: str | None = None,
    ) -> Answer:
        """Post the body, as JSON unless it is bytes; the signature is made with ``secret``."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        signed = signature(self._source, secret or self.secret, data)
        return await self._server.ask(
            "POST",
            f"/log/v1/ingest/{self._source}?{query}",
            data=data,
            headers={"Content-Type": "application/json", **(headers or {}), **signed},
        )


async def add_secret(
    store: Store,
    source: SourceKind,
    encryption_key: str,
    *,
    grants: tuple[str, ...] = GRANTS,
) -> tuple[Credential, str]:
    """Store a new secret of the source's; the secret itself, too."""
    id, secret = generate_key_pair(source)
    credential = make_access_key(
        kind=source,
        id=id,
        secret=secret,
        name=f"{source} of acme",
        groups=(),
        grants=[parse_grant(grant) for grant in grants],
        encryptor=parse_encryptor(encryption_key),
        now=now(),
    )
    await store.credentials.add(credential)
    return credential, secret


async def played(
    server: Running, store: Store, source: SourceKind, encryption_key: str
) -> PlayedSource:
    """The source, with a secret that is stored."""
    _, secret = await add_secret(store, source, encryption_key)
    return PlayedSource(server, source, secret)
