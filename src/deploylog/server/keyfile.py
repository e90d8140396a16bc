"""The default encryption key: created beside the store when the service first starts."""

import asyncio
import logging
from pathlib import Path

import msgspec

from deploylog.auth.encryption import create_key_file
from deploylog.server.settings import Settings
from deploylog.store.contract import Store

_LOGGER = logging.getLogger(__name__)


async def with_key_file(settings: Settings, store: Store, *, file: Path | None) -> Settings:
    """Set ``secret_key_file`` to ``file``, beside the store, unless the settings name another.

    Creates no key without ``file``.

    Raises OperatorError when the file cannot be created.
    """
    if settings.secret_key_file or file is None:
        return settings
    if not await asyncio.to_thread(file.exists):
        # A new key would decrypt nothing, and hide that the right one is missing.
        if await _has_encrypted(store):
            return settings
        if create_key_file(file):
            _LOGGER.info("created the encryption key %s: back it up, apart from the store", file)
    return msgspec.structs.replace(settings, secret_key_file=str(file))


async def _has_encrypted(store: Store) -> bool:
    """Whether the store holds an encrypted secret. API keys are hashed, not encrypted."""
    credentials = await store.credentials.list()
    if any(credential.kind != "key" for credential in credentials):
        return True
    return bool(await store.subscriptions.list())
