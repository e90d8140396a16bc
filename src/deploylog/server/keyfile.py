"""The encryption key of a service that names none: created beside its store at the first start."""

import asyncio
import logging
from pathlib import Path

import msgspec

from deploylog.auth.encryption import create_key_file
from deploylog.server.settings import Settings
from deploylog.store.contract import Store

_LOGGER = logging.getLogger(__name__)


async def with_key_file(settings: Settings, store: Store, *, file: Path | None) -> Settings:
    """The settings with a ``secret_key_file``: ``file``, beside the store, unless one is named.

    Without ``file``, no key is created.

    Raises OperatorError when it cannot be created.
    """
    if settings.secret_key_file or file is None:
        return settings
    if not await asyncio.to_thread(file.exists):
        # A new key would open none of what is there, and hide that the right one is missing.
        if await _has_encrypted(store):
            return settings
        if create_key_file(file):
            _LOGGER.info("created the encryption key %s: back it up, apart from the store", file)
    return msgspec.structs.replace(settings, secret_key_file=str(file))


async def _has_encrypted(store: Store) -> bool:
    """Whether the store has a secret that some key encrypted. Those of API keys are hashed."""
    credentials = await store.credentials.list()
    if any(credential.kind != "key" for credential in credentials):
        return True
    return bool(await store.subscriptions.list())
