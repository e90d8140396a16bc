"""Access keys: key pairs, and secrets of sources, that sign requests. They are stored encrypted."""

import base64
import logging
import re
import secrets
import string
from collections.abc import Callable, Sequence

from deploylog.auth.cache import TtlCache
from deploylog.auth.encryption import Encryptor
from deploylog.auth.standard_webhooks import make_secret
from deploylog.auth.store import AccessKeyKind, Credential, Credentials, SourceKind
from deploylog.errors import InvalidInput, KeyNotFound, OperatorError
from deploylog.events.access import Grant, Principal

#: A Bluelink key id is quoted in a header, between commas and equal signs.
_BLUELINK_ID = re.compile(r"[!#-+\--<>-~]{1,128}")

#: Other key ids are not quoted; AWS's is followed by a slash.
_BARE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_CAPITALS = string.ascii_uppercase + string.digits

_PrincipalAndSecret = tuple[Principal, str]

_LOGGER = logging.getLogger(__name__)


def generate_key_pair(kind: AccessKeyKind | SourceKind) -> tuple[str, str]:
    """Return a new key id and secret, of the length and alphabet that the vendor uses."""
    if kind == "huawei":
        return _random_text(_CAPITALS, 20), _random_text(string.ascii_letters + string.digits, 40)
    if kind == "aws":
        secret = base64.b64encode(secrets.token_bytes(30)).decode()
        return "AKIA" + base64.b32encode(secrets.token_bytes(10)).decode(), secret
    if kind == "gitlab":
        # GitLab takes no signing token of another form.
        return secrets.token_hex(16), make_secret()
    return secrets.token_hex(16), secrets.token_hex(32)


def make_access_key(
    *,
    kind: AccessKeyKind | SourceKind,
    id: str,
    secret: str,
    name: str,
    groups: Sequence[str],
    grants: Sequence[Grant],
    encryptor: Encryptor,
    now: int,
) -> Credential:
    """Return a key pair as it is stored; ``now`` in ns. Raises InvalidInput."""
    _check_id(kind, id)
    if not secret:
        raise InvalidInput("the secret is empty")
    return Credential(
        kind=kind,
        id=id,
        name=name,
        secret=encryptor.encrypt(secret),
        groups=tuple(sorted(set(groups))),
        grants=tuple(grants),
        created=now,
    )


class AccessKeyCache:
    """Caches the principals and decrypted secrets of one kind of access key."""

    def __init__(
        self,
        kind: AccessKeyKind,
        credentials: Credentials,
        encryptor: Encryptor | None,
        *,
        clock: Callable[[], float],
    ) -> None:
        """Without ``encryptor`` every key is unknown. ``clock`` is monotonic, in seconds."""
        self._kind = kind
        self._credentials = credentials
        self._encryptor = encryptor
        self._cache = TtlCache(self._load, clock=clock)
        #: Ids of the keys whose failure to decrypt was logged.
        self._logged: set[str] = set()

    async def get(self, id: str) -> _PrincipalAndSecret | None:
        """The principal and the secret; ``None`` if unknown, revoked or undecryptable."""
        return await self._cache.get(id)

    async def _load(self, id: str) -> _PrincipalAndSecret | None:
        try:
            key = await self._credentials.get(self._kind, id)
        except KeyNotFound:
            return None
        secret = self._decrypt(key) if key.revoked is None else None
        return None if secret is None else (principal_of(key, kind=key.kind), secret)

    def _decrypt(self, key: Credential) -> str | None:
        try:
            return open_secret(key, self._encryptor)
        except OperatorError as error:
            if key.id not in self._logged:
                self._logged.add(key.id)
                _LOGGER.error("rejected a signature: %s", error.message)
            return None


async def check_decryptable(credentials: Credentials, encryptor: Encryptor | None) -> None:
    """Raise OperatorError unless the secret of every access key that is not revoked decrypts."""
    for credential in await credentials.list():
        if credential.kind != "key" and credential.revoked is None:
            open_secret(credential, encryptor)


def open_secret(key: Credential, encryptor: Encryptor | None) -> str:
    """Decrypt the secret of an access key; raises OperatorError, which names the key."""
    name = f"{key.kind} key {key.id}"
    remedy = f"if that key is lost: deploylog keys revoke {key.id}"
    if encryptor is None:
        raise OperatorError(
            f"{name} is encrypted: put the encryption key back beside the store, or name its file "
            f"with --secret-key-file or DEPLOYLOG_SECRET_KEY_FILE; {remedy}"
        )
    try:
        return encryptor.decrypt(key.secret)
    except OperatorError as error:
        raise OperatorError(f"{name}: {error.message}; {remedy}") from error


def _check_id(kind: AccessKeyKind | SourceKind, id: str) -> None:
    if kind == "bluelink" and not _BLUELINK_ID.fullmatch(id):
        raise InvalidInput('a key id has 1 to 128 visible characters, and no comma, "=" or quote')
    if kind != "bluelink" and not _BARE_ID.fullmatch(id):
        raise InvalidInput(f'a key id of {kind} has 1 to 128 letters, digits, "-" or "_"')


def _random_text(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def principal_of(key: Credential, *, kind: str) -> Principal:
    """The principal that uses the key; ``kind`` is that of its authenticator."""
    return Principal(
        name=key.name,
        id=key.id,
        groups=frozenset(key.groups),
        grants=key.grants,
        kind=kind,
    )
