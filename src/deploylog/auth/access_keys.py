"""The credentials that sign: made, sealed, and known by their id."""

import base64
import logging
import re
import secrets
import string
from collections.abc import Callable, Sequence

from deploylog.auth.cache import TtlCache
from deploylog.auth.encryption import Encryptor
from deploylog.auth.store import AccessKeyKind, Credential, Credentials
from deploylog.errors import InvalidInput, KeyNotFound, OperatorError
from deploylog.events.access import Grant, Principal

#: Bluelink's key id stands quoted in a header, between commas and equal signs.
_BLUELINK_ID = re.compile(r"[!#-+\--<>-~]{1,128}")

#: Others stand there bare, AWS's before a slash.
_BARE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_CAPITALS = string.ascii_uppercase + string.digits

_Known = tuple[Principal, str]

_LOGGER = logging.getLogger(__name__)


def generate_key_pair(kind: AccessKeyKind) -> tuple[str, str]:
    """A new key id and its secret, as long and of such letters as the vendor's own."""
    if kind == "huawei":
        return _drawn(_CAPITALS, 20), _drawn(string.ascii_letters + string.digits, 40)
    if kind == "aws":
        secret = base64.b64encode(secrets.token_bytes(30)).decode()
        return "AKIA" + base64.b32encode(secrets.token_bytes(10)).decode(), secret
    return secrets.token_hex(16), secrets.token_hex(32)


def make_access_key(
    *,
    kind: AccessKeyKind,
    id: str,
    secret: str,
    name: str,
    groups: Sequence[str],
    grants: Sequence[Grant],
    encryptor: Encryptor,
    now: int,
) -> Credential:
    """A key pair as it is stored; ``now`` in ns. Raises InvalidInput."""
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
    """The principals and the secrets of one kind, each looked up once in a while."""

    def __init__(
        self,
        kind: AccessKeyKind,
        credentials: Credentials,
        seal: Encryptor | None,
        *,
        clock: Callable[[], float],
    ) -> None:
        """Without ``seal`` none is known. ``clock`` is monotonic, in seconds."""
        self._kind = kind
        self._credentials = credentials
        self._seal = seal
        self._known = TtlCache(self._look_up, clock=clock)
        self._told: set[str] = set()

    async def get(self, id: str) -> _Known | None:
        """The principal of a key that is not revoked, and its secret."""
        return await self._known.get(id)

    async def _look_up(self, id: str) -> _Known | None:
        try:
            signer = await self._credentials.get(self._kind, id)
        except KeyNotFound:
            return None
        secret = self._open(signer) if signer.revoked is None else None
        return None if secret is None else (_principal(signer), secret)

    def _open(self, signer: Credential) -> str | None:
        try:
            return open_secret(signer, self._seal)
        except OperatorError as error:
            if signer.id not in self._told:
                self._told.add(signer.id)
                _LOGGER.error("a signature is refused: %s", error.message)
            return None


async def check_decryptable(credentials: Credentials, seal: Encryptor | None) -> None:
    """Raise OperatorError unless every stored secret that is not revoked can be opened."""
    for signer in await credentials.list():
        if signer.kind != "key" and signer.revoked is None:
            open_secret(signer, seal)


def open_secret(signer: Credential, seal: Encryptor | None) -> str:
    """Its secret; raises OperatorError, which names it."""
    named = f"{signer.kind} key {signer.id}"
    otherwise = f"if that key is lost: deploylog keys revoke {signer.id}"
    if seal is None:
        raise OperatorError(
            f"{named} is sealed: put the encryption key back beside the store, or name its file "
            f"with --secret-key-file or DEPLOYLOG_SECRET_KEY_FILE; {otherwise}"
        )
    try:
        return seal.decrypt(signer.secret)
    except OperatorError as error:
        raise OperatorError(f"{named}: {error.message}; {otherwise}") from error


def _check_id(kind: AccessKeyKind, id: str) -> None:
    if kind == "bluelink" and not _BLUELINK_ID.fullmatch(id):
        raise InvalidInput('a key id has 1 to 128 visible characters, and no comma, "=" or quote')
    if kind != "bluelink" and not _BARE_ID.fullmatch(id):
        raise InvalidInput(f'a key id of {kind} has 1 to 128 letters, digits, "-" or "_"')


def _drawn(letters: str, number: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(number))


def _principal(signer: Credential) -> Principal:
    return Principal(
        name=signer.name,
        id=signer.id,
        groups=frozenset(signer.groups),
        grants=signer.grants,
        kind=signer.kind,
    )
