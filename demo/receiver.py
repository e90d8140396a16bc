"""A receiver of webhooks: it verifies what comes, and remembers what was genuine."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

#: Seconds that a signature is good for.
FRESH = 300


class Receiver:
    """What came, in the order in which it came."""

    def __init__(self) -> None:
        self.url = ""
        #: It is told nowhere else.
        self.secret = ""
        #: Id and type of each event whose signature is right.
        self.genuine: list[tuple[str, str]] = []
        self.forged = 0
        self._come = asyncio.Event()

    @property
    def ids(self) -> list[str]:
        return [id for id, _ in self.genuine]

    async def wait_for(self, id: str) -> None:
        """Wait until this event has come."""
        while id not in self.ids:
            self._come.clear()
            await self._come.wait()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not verify(self.secret, request.headers, body):
            self.forged += 1
            return web.Response(status=401)
        self.genuine.append((request.headers["webhook-id"], json.loads(body)["type"]))
        self._come.set()
        return web.Response(status=204)


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the bytes were sent by who has the secret, a short time ago (Standard Webhooks)."""
    sent = headers["webhook-timestamp"]
    signed = f"{headers['webhook-id']}.{sent}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    right = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    shown = headers["webhook-signature"].encode().split()
    is_fresh = abs(time.time() - int(sent)) <= FRESH
    return is_fresh and any(hmac.compare_digest(right, signature) for signature in shown)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens on a port of its own."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()
