"""What every store must do with credentials: ``Credentials``, sentence by sentence."""

import asyncio

import msgspec
import pytest

from deploylog.auth.store import Credential
from deploylog.errors import (
    Conflict,
    KeyNotFound,
)
from deploylog.events.access import Grant
from deploylog.events.scope import Scope
from deploylog.store.contract import Store
from support.factories import (
    OpenStoreAgain,
    now,
    unique,
)

KINDS = ("key", "bluelink", "huawei", "aws")


def _credential(id: str, **fields: object) -> Credential:
    return Credential(
        id=id,
        name=unique("name"),
        secret=b"\x00secret",
        groups=("ops",),
        grants=(Grant("read", Scope("project/acme")),),
        **({"kind": "bluelink", "created": now()} | fields),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_credential_is_stored_until_it_is_revoked(open_again: OpenStoreAgain, kind: str):
    first, second = _credential("z", kind=kind), _credential("a", kind=kind)
    async with open_again() as store:
        await store.credentials.add(first)
        await store.credentials.add(second)
        await store.credentials.revoke("z", 5)
        await store.credentials.revoke("z", 9)
    async with open_again() as store:
        assert await store.credentials.list() == [msgspec.structs.replace(first, revoked=5), second]
        assert (await store.credentials.get(first.kind, "z")).revoked == 5
        assert await store.credentials.get(second.kind, "a") == second


async def test_credentials_are_listed_oldest_first(store: Store):
    for id, created, kind in (("a", 3, "key"), ("b", 1, "aws"), ("c", 2, "key")):
        await store.credentials.add(_credential(id, created=created, kind=kind))

    assert [each.id for each in await store.credentials.list()] == ["b", "c", "a"]


@pytest.mark.parametrize("taken", KINDS)
async def test_an_id_that_is_taken_is_refused_whatever_the_kind(store: Store, taken: str):
    first = _credential("1", kind=taken)
    await store.credentials.add(first)

    for kind in KINDS:
        with pytest.raises(Conflict, match=f"key '1', of kind {taken}"):
            await store.credentials.add(_credential("1", kind=kind))

    assert await store.credentials.list() == [first]


async def test_a_credential_is_one_of_its_kind_only(store: Store):
    added = [_credential(kind, kind=kind, created=n) for n, kind in enumerate(KINDS)]
    for each in added:
        await store.credentials.add(each)

    assert await store.credentials.list() == added
    assert await store.credentials.get("aws", "aws") == added[3]
    for kind, id in (("aws", "huawei"), ("key", "aws"), ("bluelink", "key")):
        with pytest.raises(KeyNotFound):
            await store.credentials.get(kind, id)  # type: ignore[arg-type]


async def test_of_credentials_of_one_id_at_once_one_wins(store: Store):
    answers = await asyncio.gather(
        *(store.credentials.add(_credential("1", kind=KINDS[n % 4])) for n in range(8)),
        return_exceptions=True,
    )

    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, Conflict) for answer in answers) == 7


async def test_a_reencrypted_credential_has_only_its_secret_changed(store: Store):
    first, other = _credential("1"), _credential("2")
    await store.credentials.add(first)
    await store.credentials.add(other)
    await store.credentials.revoke("1", 5)

    await store.credentials.replace_secret("1", b"new")

    changed = msgspec.structs.replace(first, revoked=5, secret=b"new")
    assert await store.credentials.get("bluelink", "1") == changed
    assert await store.credentials.get("bluelink", "2") == other


async def test_an_unknown_credential_is_not_found(store: Store):
    with pytest.raises(KeyNotFound):
        await store.credentials.get("key", "1")
    with pytest.raises(KeyNotFound):
        await store.credentials.get("bluelink", "1")
    with pytest.raises(KeyNotFound):
        await store.credentials.revoke("1", now())
    with pytest.raises(KeyNotFound):
        await store.credentials.replace_secret("1", b"")
