"""Owners: what those may see who have left something to be done, while they do not ask."""

from deploylog.auth.open import configured
from deploylog.errors import KeyNotFound
from deploylog.principals import ANYBODY, Principal, Visibility
from deploylog.store.base import Store, StoredKey, StoredSigner


class Owners:
    """Looks up what the owners of subscriptions may see now."""

    def __init__(self, store: Store, *, issuer: str) -> None:
        """``issuer`` is the token issuer, if one is set."""
        self._store = store
        self._issuer = issuer

    async def visibility(self, kind: str, id: str) -> Visibility | None:
        """What a principal of this kind and id may see; ``None`` when its credential is good no
        more.
        """
        if kind == ANYBODY.kind:
            locked = await configured(self._store, self._issuer)
            return None if locked else ANYBODY.visibility
        credential = await self._credential(kind, id)
        if credential is None or credential.revoked is not None:
            return None
        return Principal(
            name=credential.name, groups=frozenset(credential.groups), grants=credential.grants
        ).visibility

    async def _credential(self, kind: str, id: str) -> StoredKey | StoredSigner | None:
        try:
            if kind == "key":
                return await self._store.keys.get(id)
            if kind == "bluelink":
                return await self._store.signers.get("bluelink", id)
        except KeyNotFound:
            return None
        return None
