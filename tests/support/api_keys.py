"""API keys for tests of access."""

from deploylog.auth.api_keys import make_key
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now


async def new_key(
    store: Store, *grants: str, groups: tuple[str, ...] = (), name: str = "ci"
) -> str:
    """Store a new key with these grants; return its text."""
    stored, key = make_key(
        name=name, groups=groups, grants=[parse_grant(grant) for grant in grants], now=now()
    )
    await store.credentials.add(stored)
    return key


async def key_headers(
    store: Store,
    *grants: str,
    groups: tuple[str, ...] = (),
    name: str = "ci",
    header: str = "Authorization",
) -> dict[str, str]:
    """The request header that sends a new key with these grants."""
    key = await new_key(store, *grants, groups=groups, name=name)
    return {header: f"Bearer {key}" if header == "Authorization" else key}
