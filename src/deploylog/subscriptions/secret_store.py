"""The secrets of subscriptions: encrypting, decrypting and rotating them."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from deploylog.errors import Conflict, InvalidSubscription, NoEncryptionKey, OperatorError
from deploylog.subscriptions.store import Subscriptions
from deploylog.subscriptions.subscription import (
    Endpoint,
    EndpointPatch,
    Kind,
    SigningSecret,
    Subscription,
)
from deploylog.subscriptions.targets import CheckUrl, apply_patch, kind_of

#: Secrets that may sign at a time: each makes every request longer.
MAX_SECRETS = 5


class Cipher(Protocol):
    """Encrypts secrets for the store."""

    def encrypt(self, secret: str) -> bytes:
        """Encrypt a secret."""
        ...

    def decrypt(self, sealed: bytes) -> str:
        """Decrypt it; raises OperatorError without the key that encrypted it."""
        ...


class SecretStore:
    """Encrypts and decrypts endpoints and secrets; raises NoEncryptionKey without a cipher."""

    def __init__(
        self,
        cipher: Cipher | None,
        *,
        check_url: CheckUrl,
        make_secret: Callable[[], str],
        parse_secret: Callable[[str], bytes],
        clock: Callable[[], int],
    ) -> None:
        """``parse_secret`` raises InvalidSubscription; ``clock`` returns ns since 1970."""
        self._cipher = cipher
        self._check_url = check_url
        self._make_secret = make_secret
        self._parse_secret = parse_secret
        self._clock = clock

    def patched(
        self, kind: Kind, patch: EndpointPatch, *, encrypted: bytes | None = None
    ) -> Endpoint:
        """Apply ``patch`` to an encrypted endpoint, or to an empty one.

        Raises InvalidSubscription, naming the field.
        """
        before = self._decrypt(encrypted) if encrypted is not None else Endpoint()
        return apply_patch(kind_of(kind), before, patch, check_url=self._check_url)

    def encrypt(self, endpoint: Endpoint) -> bytes:
        """Encrypt an endpoint for the store."""
        return self._required_cipher().encrypt(msgspec.json.encode(endpoint).decode())

    def endpoint(self, subscription: Subscription) -> Endpoint:
        """Decrypt the subscription's endpoint; raises OperatorError."""
        return self._decrypt(subscription.target)

    def secrets(self, subscription: Subscription) -> tuple[bytes, ...]:
        """Decrypt the secrets that sign now, newest first; raises OperatorError."""
        now = self._clock()
        return tuple(
            self._parse_secret(self._required_cipher().decrypt(secret.sealed))
            for secret in subscription.secrets
            if secret.expires is None or secret.expires > now
        )

    def initial_secrets(
        self, kind: Kind, secret: str | None
    ) -> tuple[tuple[SigningSecret, ...], str | None]:
        """The secrets of a new subscription, and the generated one if ``secret`` is ``None``.

        Some kinds do not sign. Raises InvalidSubscription.
        """
        if kind_of(kind).is_signed:
            return self.rotate((), secret, overlap=0)
        if secret is not None:
            raise unsigned(kind)
        return (), None

    def rotate(
        self, former: tuple[SigningSecret, ...], secret: str | None, *, overlap: int
    ) -> tuple[tuple[SigningSecret, ...], str | None]:
        """Put a new secret first, and return the generated one if ``secret`` is ``None``.

        The former secrets also sign for another ``overlap`` ns. Raises InvalidSubscription, or
        Conflict when ``MAX_SECRETS`` would sign.
        """
        now, cipher = self._clock(), self._required_cipher()
        text = secret if secret is not None else self._make_secret()
        self._parse_secret(text)
        active = tuple(
            msgspec.structs.replace(each, expires=_earlier(each.expires, now + overlap))
            for each in former
            if overlap and (each.expires is None or each.expires > now)
        )
        if len(active) >= MAX_SECRETS:
            message = f"{MAX_SECRETS} secrets are active: wait until one expires, or use overlap 0"
            raise Conflict(message)
        new = SigningSecret(sealed=cipher.encrypt(text), created=now)
        return (new, *active), text if secret is None else None

    def _decrypt(self, encrypted: bytes) -> Endpoint:
        return msgspec.json.decode(self._required_cipher().decrypt(encrypted), type=Endpoint)

    def _required_cipher(self) -> Cipher:
        if self._cipher is None:
            raise NoEncryptionKey(
                "no encryption key configured: create one with "
                "`deploylog keys new-encryption-key`, and set `secret_key_file`"
            )
        return self._cipher


def unsigned(kind: Kind) -> InvalidSubscription:
    """The error about a secret for a kind that does not sign."""
    return InvalidSubscription(f"requests of the kind {kind} are not signed", field="secret")


def _earlier(one: int | None, other: int) -> int:
    return other if one is None else min(one, other)


async def check_decryptable(subscriptions: Subscriptions, secret_store: SecretStore) -> None:
    """Raise OperatorError unless every enabled subscription can be decrypted.

    Otherwise the service would run without delivering them.
    """
    for subscription in await subscriptions.list():
        if subscription.state != "disabled":
            _check_decryptable(subscription, secret_store)


def _check_decryptable(subscription: Subscription, secret_store: SecretStore) -> None:
    name = f"subscription {subscription.id}"
    otherwise = (
        f"if the key is lost, run: deploylog subscriptions delete {subscription.id} --store …"
    )
    try:
        secret_store.endpoint(subscription)
        secret_store.secrets(subscription)
    except NoEncryptionKey as error:
        raise OperatorError(
            f"{name} is encrypted: put the encryption key back beside the store, or set "
            f"--secret-key-file or DEPLOYLOG_SECRET_KEY_FILE; {otherwise}"
        ) from error
    except OperatorError as error:
        raise OperatorError(f"{name}: {error.message}; {otherwise}") from error
