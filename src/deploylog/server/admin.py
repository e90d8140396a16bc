"""What an operator does to the store itself, without the service."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from deploylog.auth.access_keys import make_access_key, make_pair, open_secret
from deploylog.auth.api_keys import make_key
from deploylog.auth.encryption import Encryptor, make_encryption_key, read_encryptor, require_seal
from deploylog.auth.store import AccessKeyKind, Credential
from deploylog.errors import InvalidInput, OperatorError
from deploylog.events.access import Grant
from deploylog.store import (
    backup_store,
    key_file_of,
    migrate_store,
    open_store,
    restore_store,
    verify_store,
)
from deploylog.store import store_exists as exists
from deploylog.store.contract import Contents, Finding, Restored, Store, Verified
from deploylog.subscriptions.subscription import Subscription

_Result = TypeVar("_Result")


class _NobodyWatches:
    """A ``CommitObserver`` that looks away."""

    def committed(self, seconds: float, events: int) -> None:
        """Look away."""

    def damaged(self, reason: str) -> None:
        """Look away."""


def add_key(
    store_url: str, *, name: str, groups: Sequence[str], grants: Sequence[Grant]
) -> tuple[Credential, str]:
    """Make a key; the second part is the key itself, told this once."""
    key, secret = make_key(name=name, groups=groups, grants=grants, now=time.time_ns())
    _with_store(store_url, lambda store: store.credentials.add(key))
    return key, secret


def add_access_key(
    store_url: str,
    *,
    kind: AccessKeyKind,
    pair: tuple[str, str] | None,
    name: str,
    groups: Sequence[str],
    grants: Sequence[Grant],
    secret_key_file: str,
) -> tuple[Credential, str]:
    """Keep a ``pair`` of key id and secret of this kind, or make one; the second part is the
    secret.

    Raises OperatorError when it cannot be kept, such as without an encryption key.
    """
    seal = _seal(store_url, secret_key_file)
    id, secret = pair or make_pair(kind)
    try:
        access_key = make_access_key(
            kind=kind, id=id, secret=secret, name=name, groups=groups, grants=grants, seal=seal,
            now=time.time_ns(),
        )  # fmt: skip
    except InvalidInput as error:
        raise OperatorError(error.message) from error
    _with_store(store_url, lambda store: store.credentials.add(access_key))
    return access_key, secret


def list_credentials(store_url: str) -> list[Credential]:
    """Every key of every kind, oldest first; raises OperatorError when there is no such store."""
    _require_store(store_url)
    return _with_store(store_url, lambda store: store.credentials.list())


def revoke_key(store_url: str, id: str) -> None:
    """Let a key of any kind open nothing any more.

    Raises KeyNotFound, or OperatorError without a store.
    """
    _require_store(store_url)
    _with_store(store_url, lambda store: store.credentials.revoke(id, time.time_ns()))


def delete_subscription(store_url: str, id: str) -> None:
    """Delete a subscription, such as one whose encryption key is lost.

    Raises SubscriptionNotFound, or OperatorError without a store.
    """
    _require_store(store_url)
    _with_store(store_url, lambda store: store.subscriptions.delete(id))


def rotate_encryption(store_url: str, secret_key_file: str) -> int:
    """Re-encrypt every stored secret with the first encryption key; return how many.

    Raises OperatorError, before anything is changed, when one cannot be opened. Those of revoked
    keys nobody needs: they are left as they are.
    """
    _require_store(store_url)
    seal = _seal(store_url, secret_key_file)
    return _with_store(store_url, lambda store: _reencrypt(store, seal))


def new_encryption_key() -> str:
    """A new line for the file of encryption keys."""
    return make_encryption_key()


def migrate(store_url: str) -> list[str]:
    """Bring the store to this program's schema; return the names of the steps taken."""
    return migrate_store(store_url)


def backup(store_url: str, file: Path, *, force: bool) -> Contents:
    """Copy the store to a file and verify it; raises OperatorError."""
    _require_store(store_url)
    return backup_store(store_url, file, force=force)


def restore(store_url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored:
    """Make the store from a backup; raises OperatorError."""
    return restore_store(store_url, file, force=force, keep_ids=keep_ids)


def store_exists(store_url: str) -> bool:
    """Whether there is a store already, or a key would be the first thing in a new one."""
    return exists(store_url)


def _seal(store_url: str, secret_key_file: str) -> Encryptor:
    """The seal that the service would use; raises OperatorError.

    It is not created here: the service might not be able to read a file of this user's.
    """
    beside = key_file_of(store_url)
    file = secret_key_file or (str(beside) if beside is not None and beside.exists() else "")
    return require_seal(read_encryptor(file))


def verify(
    store_url: str, *, found: Callable[[Finding], None], progress: Callable[[int, int], None]
) -> Verified:
    """Name what is wrong in the store, which may be in use."""
    _require_store(store_url)
    return verify_store(store_url, found=found, progress=progress)


async def _reencrypt(store: Store, seal: Encryptor) -> int:
    credentials = await store.credentials.list()
    access_keys = [each for each in credentials if each.kind != "key" and each.revoked is None]
    secrets = [open_secret(access_key, seal) for access_key in access_keys]
    subscriptions = [_reencrypted(each, seal) for each in await store.subscriptions.list()]
    for access_key, secret in zip(access_keys, secrets, strict=True):
        await store.credentials.replace_secret(access_key.id, seal.seal(secret))
    for subscription in subscriptions:
        await store.subscriptions.change(subscription)
    return len(access_keys) + len(subscriptions)


def _reencrypted(subscription: Subscription, seal: Encryptor) -> Subscription:
    """It with its target and its secrets encrypted anew."""
    return msgspec.structs.replace(
        subscription,
        target=seal.seal(seal.open(subscription.target)),
        secrets=tuple(
            msgspec.structs.replace(term, sealed=seal.seal(seal.open(term.sealed)))
            for term in subscription.secrets
        ),
    )


def _require_store(store_url: str) -> None:
    if not exists(store_url):
        raise OperatorError(
            f"there is no store at {store_url}: name it with --store, or go where serve was started"
        )


def _with_store(store_url: str, act: Callable[[Store], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        async with open_store(store_url, observer=_NobodyWatches()) as store:
            return await act(store)

    return asyncio.run(run())
