"""Secrets of sources: with them, webhooks of other systems write on paths of their own."""

import logging
from collections.abc import Callable

from deploylog.auth.access_keys import open_secret, principal_of
from deploylog.auth.authentication import RequestCredentials
from deploylog.auth.cache import TtlCache
from deploylog.auth.encryption import Encryptor
from deploylog.auth.source_signatures import SCHEMES, signatures_in
from deploylog.auth.store import Credential, Credentials, SourceKind
from deploylog.errors import OperatorError
from deploylog.events.access import Principal

_LOGGER = logging.getLogger(__name__)

_PrincipalAndSecret = tuple[Principal, str]


class SourceSecrets:
    """Authenticates the webhooks of each source on its own path, and nowhere else.

    Any secret of the source is accepted that is not revoked, so that it can be replaced.
    """

    kind = "source"

    def __init__(
        self,
        credentials: Credentials,
        encryptor: Encryptor | None,
        *,
        clock: Callable[[], float],
    ) -> None:
        """Without ``encryptor`` no secret is known. ``clock`` is monotonic, in seconds."""
        self._credentials = credentials
        self._encryptor = encryptor
        #: By source.
        self._cache = TtlCache(self._load, clock=clock)

    async def principal(self, request: RequestCredentials) -> Principal | None:
        found = signatures_in(request.method, request.path, request.headers)
        if found is None:
            return None
        source, schemes = found
        body = await request.body() if request.is_signed_webhook else b""
        for principal, secret in await self._secrets(source):
            if any(scheme.is_valid(request.headers, body, secret) for scheme in schemes):
                return principal
        return None

    async def is_valid(self, principal: Principal) -> bool:
        return await self.find(principal.id) is not None

    async def find(self, id: str) -> Principal | None:
        for source in SCHEMES:
            for principal, _ in await self._secrets(source):
                if principal.id == id:
                    return principal
        return None

    async def _secrets(self, source: SourceKind) -> tuple[_PrincipalAndSecret, ...]:
        return await self._cache.get(source) or ()

    async def _load(self, source: str) -> tuple[_PrincipalAndSecret, ...]:
        """The principals and secrets of a source, newest first: the newest is mostly in use."""
        known = [
            each
            for each in await self._credentials.list()
            if each.kind == source and each.revoked is None
        ]
        opened = ((each, self._open(each)) for each in reversed(known))
        return tuple(
            (principal_of(each, kind=self.kind), secret)
            for each, secret in opened
            if secret is not None
        )

    def _open(self, credential: Credential) -> str | None:
        try:
            return open_secret(credential, self._encryptor)
        except OperatorError as error:
            _LOGGER.error("a secret of a source cannot be used: %s", error.message)
            return None
