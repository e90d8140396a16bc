"""Request bodies: read with a bound, unpacked with a bound."""

import asyncio
import zlib

import msgspec
from starlette.requests import Request
from starlette.types import Message

from deploylog.errors import InvalidInput, TooLarge, UnsupportedMedia

#: zlib's window sizes that mean gzip or zlib framing.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


#: How many times its size a body may unpack to, and the size that any may unpack to. Lines of
#: events shrink to a fiftieth; zeros shrink to a thousandth.
_RATIO = 200
_ANY = 1024 * 1024

#: Bytes unpacked in one step, between which others have their turn.
_STEP = 256 * 1024

#: Packed bodies up to this size are unpacked at once; a thread costs more.
_SMALL = 4 * 1024

#: Bytes of a body that is neither events nor a plan: a form, a query, a command.
DOCUMENT_BYTES = 256 * 1024


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes a body may have."""

    sent: int
    decompressed: int
    #: Seconds in which it must arrive; ``None`` while it moves.
    seconds: float | None = None

    def at_most(self, size: int) -> "BodyLimits":
        """The same for a body that is never longer than ``size``."""
        return BodyLimits(sent=min(self.sent, size), decompressed=min(self.decompressed, size))


class ReplayableBody:
    """A body that may be read before its endpoint reads it, which then gets the same bytes."""

    def __init__(self, request: Request, limit: int) -> None:
        """``limit`` in bytes, as they are sent."""
        self._request = request
        self._limit = limit
        self._body: bytes | None = None
        self._given = False

    async def read(self) -> bytes:
        """The bytes as they were sent, packed or not; raises TooLarge, or InvalidInput."""
        if self._body is None:
            _check_declared(self._request, self._limit)
            self._body = await _receive(self._request, self._limit)
        return self._body

    async def receive(self) -> Message:
        """The body once more in one message, then whatever comes: that the client goes."""
        if self._body is None or self._given:
            return await self._request.receive()
        self._given = True
        return {"type": "http.request", "body": self._body, "more_body": False}


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The body, unpacked; raises TooLarge before it has taken in more than ``limits``."""
    _check_declared(request, limits.sent)
    body = await _receive_in(request, limits)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    most = min(limits.decompressed, max(_RATIO * len(body), _ANY))
    if len(body) <= _SMALL:
        return _unpack(body, encoding, most)
    return await asyncio.to_thread(_unpack, body, encoding, most)


async def _receive_in(request: Request, limits: BodyLimits) -> bytes:
    if limits.seconds is None:
        return await _receive(request, limits.sent)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _receive(request, limits.sent)
    except TimeoutError as error:
        raise InvalidInput("the body did not arrive in time") from error


def _check_declared(request: Request, limit: int) -> None:
    declared = request.headers.get("content-length", "")
    # More digits than Python reads are too many bytes, too.
    is_long = len(declared) > 19
    if declared.isascii() and declared.isdigit() and (is_long or int(declared) > limit):
        raise TooLarge(f"the body is larger than {limit} bytes")


async def _receive(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("the body was cut off")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpack(body: bytes, encoding: str, limit: int) -> bytes:
    window = _WINDOWS.get(encoding)
    if window is None:
        raise UnsupportedMedia(f"content encoding {encoding[:32]!r} is not gzip or deflate")
    unpacker = zlib.decompressobj(window)
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while rest and not unpacker.eof:
            parts.append(unpacker.decompress(rest, _STEP))
            size += len(parts[-1])
            if size > limit:
                raise TooLarge(f"the body unpacks to more than {limit} bytes")
            if not parts[-1] and unpacker.unconsumed_tail == rest:
                break
            rest = unpacker.unconsumed_tail
    except zlib.error as error:
        raise InvalidInput(f"the body is not {encoding}: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidInput(f"the body is not one whole {encoding} stream")
    return b"".join(parts)
