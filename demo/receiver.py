"""A receiver of webhooks, which verifies requests and stores the genuine ones."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

#: Seconds for which a signature is valid.
MAX_AGE = 300


class Receiver:
    """The requests, in the order in which they arrived."""

    def __init__(self) -> None:
        self.url = ""
        #: The signing secret, which is shown only once.
        self.secret = ""
        #: The id and type of each event with a valid signature.
        self.genuine: list[tuple[str, str]] = []
        self.forged = 0
        self._arrived = asyncio.Event()

    @property
    def ids(self) -> list[str]:
        return [id for id, _ in self.genuine]

    async def wait_for(self, id: str) -> None:
        """Wait until this event has arrived."""
        while id not in self.ids:
            self._arrived.clear()
            await self._arrived.wait()

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not verify(self.secret, request.headers, body):
            self.forged += 1
            return web.Response(status=401)
        self.genuine.append((request.headers["webhook-id"], json.loads(body)["type"]))
        self._arrived.set()
        return web.Response(status=204)


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the signature is valid and recent (Standard Webhooks)."""
    sent = headers["webhook-timestamp"]
    signed = f"{headers['webhook-id']}.{sent}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    signatures = headers["webhook-signature"].encode().split()
    is_fresh = abs(time.time() - int(sent)) <= MAX_AGE
    return is_fresh and any(hmac.compare_digest(expected, signature) for signature in signatures)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens on a port of its own."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/hook", receiver.receive)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()
