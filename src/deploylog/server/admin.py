"""Offline administration of the store, without the service."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from deploylog.auth.access_keys import generate_key_pair, make_access_key, open_secret
from deploylog.auth.api_keys import make_key
from deploylog.auth.encryption import (
    Encryptor,
    make_encryption_key,
    read_encryptor,
    require_encryptor,
)
from deploylog.auth.store import AccessKeyKind, Credential, SourceKind
from deploylog.errors import InvalidInput, OperatorError
from deploylog.events.access import Grant, Principal
from deploylog.store import (
    backup_store,
    copy_store,
    key_file_of,
    migrate_store,
    open_store,
    restore_store,
    shown_url,
    verify_store,
)
from deploylog.store import store_exists as exists
from deploylog.store.contract import Contents, Finding, Restored, Store, Verified
from deploylog.store.copying import Copied
from deploylog.subscriptions.audit import change_event
from deploylog.subscriptions.subscription import Subscription

_Result = TypeVar("_Result")


class _NoObserver:
    """A ``CommitObserver`` that ignores everything."""

    def committed(self, seconds: float, events: int) -> None:
        pass

    def damaged(self, reason: str) -> None:
        pass

    def rows_read(self, rows: int, *, in_vain: int) -> None:
        pass


def add_key(
    store_url: str, *, name: str, groups: Sequence[str], grants: Sequence[Grant]
) -> tuple[Credential, str]:
    """Create an API key; return it with its secret, which is not stored."""
    key, secret = make_key(name=name, groups=groups, grants=grants, now=time.time_ns())
    _with_store(store_url, lambda store: store.credentials.add(key))
    return key, secret


def add_access_key(
    store_url: str,
    *,
    kind: AccessKeyKind | SourceKind,
    pair: tuple[str, str] | None,
    name: str,
    groups: Sequence[str],
    grants: Sequence[Grant],
    secret_key_file: str,
) -> tuple[Credential, str]:
    """Add an access key, or a secret of a source, from a ``pair`` of id and secret, or create one;
    return it with its secret.

    Raises OperatorError when it cannot be stored, for example without an encryption key.
    """
    encryptor = _encryptor(store_url, secret_key_file)
    id, secret = pair or generate_key_pair(kind)
    try:
        access_key = make_access_key(
            kind=kind,
            id=id,
            secret=secret,
            name=name,
            groups=groups,
            grants=grants,
            encryptor=encryptor,
            now=time.time_ns(),
        )
    except InvalidInput as error:
        raise OperatorError(error.message) from error
    _with_store(store_url, lambda store: store.credentials.add(access_key))
    return access_key, secret


def new_key_pair(kind: AccessKeyKind | SourceKind) -> tuple[str, str]:
    """Create the id and the secret of a key; nothing is stored."""
    return generate_key_pair(kind)


def list_credentials(store_url: str) -> list[Credential]:
    """List the keys of every kind, oldest first; raises OperatorError without a store."""
    _require_store(store_url)
    return _with_store(store_url, lambda store: store.credentials.list())


def revoke_key(store_url: str, id: str) -> None:
    """Revoke a key of any kind.

    Raises KeyNotFound, or OperatorError without a store.
    """
    _require_store(store_url)
    _with_store(store_url, lambda store: store.credentials.revoke(id, time.time_ns()))


def delete_subscription(store_url: str, id: str, *, actor: str) -> None:
    """Delete a subscription, for example one whose encryption key is lost, and record who did so.

    Raises SubscriptionNotFound, or OperatorError without a store.
    """
    _require_store(store_url)

    async def delete(store: Store) -> None:
        found = await store.subscriptions.get(id)
        person = Principal(name=actor)
        await store.log.append([change_event(person, found, "deleted", time=time.time_ns())])
        await store.subscriptions.delete(found.id)

    _with_store(store_url, delete)


def rotate_encryption(store_url: str, secret_key_file: str) -> int:
    """Re-encrypt every stored secret with the first encryption key; return how many.

    Raises OperatorError, before it changes anything, when a secret cannot be decrypted. Secrets of
    revoked keys stay as they are.
    """
    _require_store(store_url)
    encryptor = _encryptor(store_url, secret_key_file)
    return _with_store(store_url, lambda store: _reencrypt(store, encryptor))


def new_encryption_key() -> str:
    """Create a line for the file of encryption keys."""
    return make_encryption_key()


def migrate(store_url: str) -> list[str]:
    """Migrate the store to this program's schema; return the names of the steps."""
    return migrate_store(store_url)


def backup(store_url: str, file: Path, *, force: bool) -> Contents:
    """Copy the store to a file and verify it; raises OperatorError."""
    _require_store(store_url)
    return backup_store(store_url, file, force=force)


def restore(store_url: str, file: Path, *, force: bool, keep_ids: bool) -> Restored:
    """Restore the store from a backup; raises OperatorError."""
    return restore_store(store_url, file, force=force, keep_ids=keep_ids)


def copy(source_url: str, target_url: str, *, progress: Callable[[int, int], None]) -> Copied:
    """Copy a store to another; raises OperatorError."""
    _require_store(source_url)
    return copy_store(source_url, target_url, progress=progress)


def key_file(store_url: str) -> Path | None:
    """The encryption key that the service created beside the store, if it is there."""
    file = key_file_of(store_url)
    return file if file is not None and file.exists() else None


def store_name(store_url: str) -> str:
    """The URL without its password."""
    return shown_url(store_url)


def store_exists(store_url: str) -> bool:
    """Whether the store exists."""
    return exists(store_url)


def _encryptor(store_url: str, secret_key_file: str) -> Encryptor:
    """The encryptor that the service would use; raises OperatorError.

    Never creates the key file: the service might not be able to read a file of this user.
    """
    beside = key_file_of(store_url)
    file = secret_key_file or (str(beside) if beside is not None and beside.exists() else "")
    return require_encryptor(read_encryptor(file))


def verify(
    store_url: str,
    *,
    found: Callable[[Finding], None],
    progress: Callable[[int, int], None],
    mend: bool,
) -> Verified:
    """Report damage in the store, which may be in use; with ``mend``, repair what is derived."""
    _require_store(store_url)
    return verify_store(store_url, found=found, progress=progress, mend=mend)


async def _reencrypt(store: Store, encryptor: Encryptor) -> int:
    credentials = await store.credentials.list()
    access_keys = [each for each in credentials if each.kind != "key" and each.revoked is None]
    secrets = [open_secret(access_key, encryptor) for access_key in access_keys]
    subscriptions = [_reencrypted(each, encryptor) for each in await store.subscriptions.list()]
    for access_key, secret in zip(access_keys, secrets, strict=True):
        await store.credentials.replace_secret(access_key.id, encryptor.encrypt(secret))
    for subscription in subscriptions:
        await store.subscriptions.change(subscription)
    return len(access_keys) + len(subscriptions)


def _reencrypted(subscription: Subscription, encryptor: Encryptor) -> Subscription:
    """The subscription with its target and secrets encrypted by the first key."""
    return msgspec.structs.replace(
        subscription,
        target=encryptor.encrypt(encryptor.decrypt(subscription.target)),
        secrets=tuple(
            msgspec.structs.replace(term, sealed=encryptor.encrypt(encryptor.decrypt(term.sealed)))
            for term in subscription.secrets
        ),
    )


def _require_store(store_url: str) -> None:
    if not exists(store_url):
        raise OperatorError(
            f"no store at {store_name(store_url)}: pass --store, or run this where deploylog serve"
            " was started"
        )


def _with_store(store_url: str, act: Callable[[Store], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        async with open_store(store_url, observer=_NoObserver()) as store:
            return await act(store)

    return asyncio.run(run())
