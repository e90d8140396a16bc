"""The vault: what subscriptions keep secret, closed and opened."""

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
from deploylog.subscriptions.targets import CheckUrl, apply_patch

#: Secrets that may sign at a time: each makes every request longer.
MAX_SECRETS = 5


class Cipher(Protocol):
    """Encrypts what the store keeps."""

    def seal(self, secret: str) -> bytes:
        """The secret, encrypted."""
        ...

    def open(self, sealed: bytes) -> str:
        """The secret again."""
        ...


class SecretStore:
    """Seals targets and secrets, and raises NoEncryptionKey where it would need a seal."""

    def __init__(
        self,
        seal: Cipher | None,
        *,
        check_url: CheckUrl,
        make_secret: Callable[[], str],
        parse_secret: Callable[[str], bytes],
        clock: Callable[[], int],
    ) -> None:
        """``parse_secret`` raises InvalidSubscription; ``clock`` gives ns since 1970."""
        self._seal = seal
        self._check_url = check_url
        self._make_secret = make_secret
        self._parse_secret = parse_secret
        self._clock = clock

    def patched(self, kind: Kind, patch: EndpointPatch, *, before: bytes | None = None) -> Endpoint:
        """The target that ``before`` becomes; raises InvalidSubscription, naming the field."""
        old = self._target(before) if before is not None else Endpoint()
        return apply_patch(kind, old, patch, check_url=self._check_url)

    def seal(self, target: Endpoint) -> bytes:
        """The target as it is kept."""
        return self._required().seal(msgspec.json.encode(target).decode())

    def endpoint(self, subscription: Subscription) -> Endpoint:
        """Where it delivers to."""
        return self._target(subscription.target)

    def secrets(self, subscription: Subscription) -> tuple[bytes, ...]:
        """The secrets that sign now, the newest first; raises OperatorError, or NoEncryptionKey."""
        now = self._clock()
        return tuple(
            self._parse_secret(self._required().open(term.sealed))
            for term in subscription.secrets
            if term.expires is None or term.expires > now
        )

    def begin(self, kind: Kind, secret: str | None) -> tuple[tuple[SigningSecret, ...], str | None]:
        """The first secret of a subscription, and what is to be told of it.

        Requests to Slack are not signed. Raises InvalidSubscription.
        """
        if kind == "webhook":
            return self.rotate((), secret, overlap=0)
        if secret is not None:
            raise InvalidSubscription("requests to Slack are not signed", field="secret")
        return (), None

    def rotate(
        self, terms: tuple[SigningSecret, ...], secret: str | None, *, overlap: int
    ) -> tuple[tuple[SigningSecret, ...], str | None]:
        """The terms with a new secret before them, and the secret if it was drawn.

        The others sign for ``overlap`` ns more. Raises InvalidSubscription, or Conflict when too
        many do.
        """
        now, seal = self._clock(), self._required()
        text = secret if secret is not None else self._make_secret()
        self._parse_secret(text)
        kept = tuple(
            msgspec.structs.replace(term, expires=_earlier(term.expires, now + overlap))
            for term in terms
            if overlap and (term.expires is None or term.expires > now)
        )
        if len(kept) >= MAX_SECRETS:
            raise Conflict(f"{MAX_SECRETS} secrets sign already: wait, or let them not overlap")
        new = SigningSecret(sealed=seal.seal(text), created=now)
        return (new, *kept), text if secret is None else None

    def _target(self, sealed: bytes) -> Endpoint:
        return msgspec.json.decode(self._required().open(sealed), type=Endpoint)

    def _required(self) -> Cipher:
        if self._seal is None:
            raise NoEncryptionKey(
                "the service has no encryption key, so it cannot keep secrets: make one with: "
                "deploylog keys new-encryption-key, and start the service with secret_key_file"
            )
        return self._seal


def _earlier(one: int | None, other: int) -> int:
    return other if one is None else min(one, other)


async def check_decryptable(subscriptions: Subscriptions, vault: SecretStore) -> None:
    """Raise OperatorError unless what every subscription that may deliver keeps secret can be
    opened: the service would disable them one by one.
    """
    for subscription in await subscriptions.list():
        if subscription.state != "disabled":
            _require_opened(subscription, vault)


def _require_opened(subscription: Subscription, vault: SecretStore) -> None:
    named = f"subscription {subscription.id}"
    otherwise = f"if that key is lost: deploylog subscriptions delete {subscription.id} --store …"
    try:
        vault.endpoint(subscription)
        vault.secrets(subscription)
    except NoEncryptionKey as error:
        raise OperatorError(
            f"{named} is sealed: put the encryption key back beside the store, or name its file "
            f"with --secret-key-file or DEPLOYLOG_SECRET_KEY_FILE; {otherwise}"
        ) from error
    except OperatorError as error:
        raise OperatorError(f"{named}: {error.message}; {otherwise}") from error
