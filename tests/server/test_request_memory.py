"""Bodies in memory: over the budget requests are refused at once, and say when to come back."""

import asyncio
import gzip
import json
import re

import pytest

from deploylog.store.contract import Store
from support.servers import EVENTS, LINES, Local, line, running
from support.waiting import until


async def held(server: Local) -> int:
    metrics = (await server.get("/metrics")).body.decode()
    found = re.search(r"^deploylog_request_body_bytes (\S+)$", metrics, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def holds(server: Local, size: int) -> bool:
    return await held(server) == size


def large(size: int) -> bytes:
    return json.dumps(line(message="x" * size)).encode()


async def test_what_would_exceed_the_budget_is_refused_until_the_other_request_ends(store: Store):
    body = large(60_000) + b"\n"
    async with running(store, max_request_memory_mib=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\n"
        writer.write(f"{head}Content-Length: {12 * len(body)}\r\n\r\n".encode() + 11 * body)
        await until(lambda: holds(server, 11 * len(body)))

        refused = [await server.post(each) for each in (large(130_000), b" " * 150_000)]
        accepted = await server.post(line())
        writer.write(body)
        answer = await reader.readline()

        assert [each.status for each in refused] == [503, 503]
        assert refused[0].json["type"] == "urn:deploylog:problem:overloaded"
        assert refused[0].headers["retry-after"] == "1"
        assert accepted.status == 201
        assert b" 201 " in answer
        await until(lambda: holds(server, 0))
        writer.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_nothing_is_held_once_requests_are_answered(store: Store, fast: bool):
    zipped = gzip.compress(json.dumps(line(message="x" * 500)).encode())
    async with running(store, is_fast=fast) as server:
        answers = [
            await server.post(line()),
            await server.post(b"{", LINES),
            await server.post(zipped, headers={"Content-Encoding": "gzip"}),
            await server.post(zipped[:-9], headers={"Content-Encoding": "gzip"}),
        ]

        assert [each.status for each in answers] == [201, 400, 201, 400]
        assert await held(server) == 0
