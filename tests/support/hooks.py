"""A receiver of webhooks in a process of its own, that fails by a script.

It is started with a folder: there it writes its ``port``, takes the script that stands in
``script`` (one word a request, then it is well for ever), and adds a line to ``arrivals`` for each
request that it accepts. A signature that is not good it writes to ``complaints``.

``ok`` accepts. ``500`` and ``429`` answer so, the latter with ``Retry-After: 30``; ``gone`` answers
410. ``hang`` never answers, ``cut`` breaks off within the answer, ``reset`` before it. ``refuse``
closes the listening socket for a moment, ``badcert`` shows a certificate of somebody else's for a
moment. ``redirect`` sends to where nobody may go.
"""

import asyncio
import json
import ssl
import sys
from collections import deque
from pathlib import Path

from standardwebhooks import Webhook, WebhookVerificationError

#: Seconds for which nobody listens, or somebody else seems to.
AWAY_SECONDS = 0.25

_ANSWERS = {
    "ok": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "500": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    "429": b"HTTP/1.1 429 Slow\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n",
    "gone": b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf",
    "reset": b"",
}


class Receiver:
    """Accepts what is signed, in the mood that the script says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._moods = deque((folder / "script").read_text().split())
        self._webhook = Webhook((folder / "secret").read_text())
        self._port = 0
        self._server: asyncio.Server | None = None

    async def listen(self, *, certificate: str = "good") -> None:
        """Listen, on the same port each time."""
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
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request: whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        mood = self._moods.popleft() if self._moods else "ok"
        self._verify(headers, body)
        if mood == "hang":
            await reader.read()
            return False
        if mood in ("refuse", "badcert"):
            asyncio.get_running_loop().create_task(self._go_away(mood))
            return False
        if mood == "ok":
            self._take(headers, body)
        writer.write(_ANSWERS[mood])
        await writer.drain()
        return mood not in ("cut", "reset")

    def _verify(self, headers: dict[str, str], body: bytes) -> None:
        try:
            self._webhook.verify(body, headers)
        except WebhookVerificationError as error:
            self._add("complaints", {"error": str(error), "headers": headers})

    def _take(self, headers: dict[str, str], body: bytes) -> None:
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

    async def _go_away(self, mood: str) -> None:
        """Let nobody be there for a moment, or somebody else."""
        assert self._server is not None
        self._server.close()
        if mood == "badcert":
            await self.listen(certificate="bad")
        await asyncio.sleep(AWAY_SECONDS)
        if mood == "badcert":
            self._server.close()
        await self.listen()


async def _run(folder: Path) -> None:
    receiver = Receiver(folder)
    await receiver.listen()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1])))
