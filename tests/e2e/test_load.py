"""Load: what one key asks for is not in the way of others."""

import asyncio

import msgspec

from deploylog.auth.api_keys import make_key
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import new_events, now
from support.servers import STREAM, line, running, spawned

EVENTS, QUERIES = 20_000, 400

#: Every event has both words and none has the phrase, so each row is read.
MESSAGE = "never together"
SLOW = '/log/v1/events?q="together never"'


async def add_key(store: Store, grant: str) -> tuple[str, dict[str, str]]:
    key, secret = make_key(name="ann", groups=(), grants=[parse_grant(grant)], now=now())
    await store.credentials.add(key)
    return key.id, {"Authorization": f"Bearer {secret}"}


async def test_slow_queries_hold_up_neither_an_append_nor_a_revocation(
    store: Store, store_url: str
):
    events = [msgspec.structs.replace(e, message=MESSAGE) for e in new_events(EVENTS)]
    await store.log.append(events)
    _, attacker = await add_key(store, "read:/")
    _, writer = await add_key(store, "write:/")
    id, revoked = await add_key(store, "read:/")

    async with spawned(store_url) as service, service.stream(headers=revoked) as stream:
        queries = [asyncio.create_task(service.get(SLOW, headers=attacker)) for _ in range(QUERIES)]
        await asyncio.wait(queries, return_when=asyncio.FIRST_COMPLETED)
        appended = await service.post(line(), headers=writer)
        await store.credentials.revoke(id, now())
        while await stream.block() is not None:
            pass
        answered = sum(query.done() for query in queries)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)

    assert appended.status == 201
    assert answered < QUERIES / 2


async def test_a_query_that_takes_too_long_is_the_callers_mistake(store: Store):
    events = [msgspec.structs.replace(e, message=MESSAGE) for e in new_events(EVENTS)]
    await store.log.append(events)

    async with running(store) as service:
        store.log._readers.queries._seconds = 0.01  # type: ignore[attr-defined]
        refused = await service.get(SLOW)
        store.log._readers.queries._seconds = 10  # type: ignore[attr-defined]
        answered = await service.get("/log/v1/events?limit=1")

    assert refused.status == 422
    assert refused.json["type"] == "urn:deploylog:problem:query-too-expensive"
    assert answered.status == 200


async def test_a_stream_whose_client_reads_nothing_ends_when_its_key_is_revoked(store: Store):
    large = [msgspec.structs.replace(e, message="x" * 60_000) for e in new_events(400)]
    await store.log.append(large)
    id, revoked = await add_key(store, "read:/")

    async with running(store) as service:
        _reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1024)
        request = f"GET {STREAM}?from=start HTTP/1.1\r\nHost: localhost\r\n"
        request += "".join(f"{name}: {value}\r\n" for name, value in revoked.items())
        writer.write(request.encode() + b"\r\n")
        await service.until(lambda: service.hub.readers == 1)
        await store.credentials.revoke(id, now())

        await service.until(lambda: not service.hub.readers)
        writer.transport.abort()
