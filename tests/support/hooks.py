"""A receiver of webhooks in a process of its own, that fails by a script.

It is started with a folder. There it writes its ``port``, reads the steps in ``script`` (one per
request; afterwards it accepts every request), and adds a line to ``arrivals`` for each request
that it accepts, and to ``bad_signatures`` for each with an invalid signature.

``ok`` accepts. ``500`` and ``429`` respond with this status, the latter with ``Retry-After: 30``;
``gone`` responds with 410. ``hang`` never responds, ``cut`` closes the connection within the
response, ``reset`` before it. ``refuse`` closes the listening socket for a moment, ``badcert``
presents another host's certificate for a moment. ``redirect`` redirects to a blocked address.
"""

import asyncio
import json
import ssl
import sys
from collections import deque
from pathlib import Path

from standardwebhooks import Webhook, WebhookVerificationError

#: Seconds for which the receiver does not listen, or presents another certificate.
AWAY_SECONDS = 0.25

_RESPONSES = {
    "ok": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "500": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    "429": b"HTTP/1.1 429 Slow\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n",
    "gone": b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf",
    "reset": b"",
}


class Receiver:
    """Follows the script, and verifies signatures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps = deque((folder / "script").read_text().split())
        self._webhook = Webhook((folder / "secret").read_text())
        self._port = 0
        self._server: asyncio.Server | None = None

    async def listen(self, *, certificate: str = "good") -> None:
        """Listen, always on the same port."""
        context = None
        if (self._folder / "good.pem").exists():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._folder / f"{certificate}.pem")
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, ssl=context, reuse_address=True
        )
        self._port = self._server.sockets[0].getsockname()[1]
        written = self._folder / "port.new"
        written.write_text(str(self._port))
        written.rename(self._folder / "port")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._respond(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Respond to one request, and return whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        step = self._steps.popleft() if self._steps else "ok"
        self._verify(headers, body)
        if step == "hang":
            await reader.read()
            return False
        if step in ("refuse", "badcert"):
            asyncio.get_running_loop().create_task(self._go_away(step))
            return False
        if step == "ok":
            self._accept(headers, body)
        writer.write(_RESPONSES[step])
        await writer.drain()
        return step not in ("cut", "reset")

    def _verify(self, headers: dict[str, str], body: bytes) -> None:
        try:
            self._webhook.verify(body, headers)
        except WebhookVerificationError as error:
            self._add("bad_signatures", {"error": str(error), "headers": headers})

    def _accept(self, headers: dict[str, str], body: bytes) -> None:
        event = json.loads(body)
        self._add(
            "arrivals",
            {
                "webhook-id": headers["webhook-id"],
                "id": event["id"],
                "position": headers["deploylog-position"],
                "previous": headers.get("deploylog-previous-position"),
                "scopes": event["scopes"],
            },
        )

    def _add(self, name: str, line: object) -> None:
        with (self._folder / name).open("a") as file:
            file.write(json.dumps(line) + "\n")

    async def _go_away(self, step: str) -> None:
        """Stop listening for a moment, or listen with another certificate."""
        assert self._server is not None
        self._server.close()
        if step == "badcert":
            await self.listen(certificate="bad")
        await asyncio.sleep(AWAY_SECONDS)
        if step == "badcert":
            self._server.close()
        await self.listen()


async def _run(folder: Path) -> None:
    receiver = Receiver(folder)
    await receiver.listen()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1])))
