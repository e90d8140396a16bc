"""Revocation: a stream ends soon after its reader's credential does."""

import aiohttp
import pytest

from deploylog.auth.api_keys import make_key
from deploylog.auth.cache import CACHE_TTL
from deploylog.auth.store import Credential
from deploylog.events.access import parse_grant
from deploylog.events.store import IdempotencyKey
from deploylog.server.authentication import WATCH_SECONDS
from deploylog.store.contract import Store
from support.factories import now, untouched_changeset
from support.servers import line, running
from support.waiting import PATIENCE


async def add_key(store: Store, *grants: str) -> tuple[Credential, dict[str, str]]:
    """A key, and the headers of who has it."""
    granted = [parse_grant(grant) for grant in grants]
    key, secret = make_key(name="ann", groups=(), grants=granted, now=now())
    await store.credentials.add(key)
    return key, {"Authorization": f"Bearer {secret}"}


def test_what_is_looked_at_how_often_makes_less_than_a_second():
    assert WATCH_SECONDS + CACHE_TTL < 1


async def test_the_streams_of_a_revoked_key_end_and_others_continue(store: Store):
    revoked, hers = await add_key(store, "read:/", "write:/")
    _, his = await add_key(store, "read:/")

    async with running(store) as service:
        async with service.stream(headers=hers) as ended, service.stream(headers=his) as kept:
            await store.credentials.revoke(revoked.id, now())
            while await ended.block() is not None:
                pass
            _, writer = await add_key(store, "write:/")
            await service.post(line(), headers=writer)
            seen = await kept.next()
        again = await service.get("/log/v1/events/stream", headers=hers)

    assert seen.event == "resource.create.started"
    assert again.status == 401


async def test_a_bluelink_stream_is_torn_off_so_that_its_client_comes_back(store: Store):
    revoked, hers = await add_key(store, "read:/")
    changeset = untouched_changeset()
    timeout = aiohttp.ClientTimeout(total=None, sock_read=PATIENCE)

    async with running(store) as service:
        request = IdempotencyKey(key="a", fingerprint=b"")
        await store.changesets.add(changeset, b"{}", request=request, since=0)
        path = f"/v1/deployments/changes/{changeset.id}/stream"
        async with service.http.get(path, headers=hers, timeout=timeout) as stream:
            await store.credentials.revoke(revoked.id, now())
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.content.read()


async def test_the_first_key_ends_the_streams_of_those_who_have_none(store: Store):
    async with running(store) as service, service.stream() as stream:
        await add_key(store, "admin:/")

        while await stream.block() is not None:
            pass


async def test_somebody_may_have_so_many_streams_open(store: Store):
    async with running(store, max_streams_per_principal=2) as service:
        async with service.stream(), service.stream():
            refused = await service.get("/log/v1/events/stream")
        await service.until(lambda: not service.hub.readers)
        async with service.stream():
            pass

    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1


async def test_somebody_may_ask_so_often(store: Store):
    async with running(store, max_requests_per_second=0.01) as service:
        answers = [await service.get("/log/v1/projects") for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 429]
    assert int(answers[1].headers["retry-after"]) >= 1
