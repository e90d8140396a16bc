"""Receivers that misbehave: raw sockets that follow a script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.waiting import until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Step = Callable[["Receiver", Streams], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Receiver:
    """Takes one step for each request."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.url = ""
        self.connections = 0
        #: Head and body of each request.
        self.requests: list[tuple[bytes, bytes]] = []
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        # A transport of uvloop that is closed raises RuntimeError.
        with suppress(ConnectionError, RuntimeError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                self.requests.append((head, body))
                step = self.steps.pop(0) if self.steps else say(OK)
                await step(self, (reader, writer))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self._open.discard(writer)

    async def end(self) -> None:
        """Drop every connection."""
        for writer in self._open:
            writer.transport.abort()
        await until(lambda: not self._open)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def say(answer: bytes) -> Step:
    """Respond with these bytes."""

    async def step(receiver: Receiver, streams: Streams) -> None:
        streams[1].write(answer)
        await streams[1].drain()

    return step


def status(code: int, *, body: bytes = b"", **headers: str) -> Step:
    """Respond with this status."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {code} So", f"Content-Length: {len(body)}", *lines, "", ""])
    return say(head.encode() + body)


def say_and_close(answer: bytes) -> Step:
    """Respond with these bytes, and close the connection."""

    async def step(receiver: Receiver, streams: Streams) -> None:
        streams[1].write(answer)
        streams[1].close()

    return step


async def reset(receiver: Receiver, streams: Streams) -> None:
    """Reset the connection without a response."""
    streams[1].transport.abort()


async def hang(receiver: Receiver, streams: Streams) -> None:
    """Never respond, until the other side disconnects."""
    await streams[0].read()


async def talk_without_end(receiver: Receiver, streams: Streams) -> None:
    """Respond with an endless body."""
    streams[1].write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        streams[1].write(b"x" * 65536)
        await streams[1].drain()


async def drip(receiver: Receiver, streams: Streams) -> None:
    """Respond with a body that is too slow ever to be complete."""
    streams[1].write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not streams[1].is_closing():
        streams[1].write(b"x")
        await streams[1].drain()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def receiving(*steps: Step, tls: SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(*steps)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        server.close()
        await receiver.end()


def certified(directory: Path, *, name: str = "127.0.0.1") -> tuple[SSLContext, str]:
    """The TLS context of a server with a self-signed certificate, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, SHA256())
    )
    certificates, keys = directory / f"{name}.pem", directory / f"{name}.key"
    certificates.write_bytes(certificate.public_bytes(Encoding.PEM))
    keys.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates, keys)
    return context, str(certificates)
