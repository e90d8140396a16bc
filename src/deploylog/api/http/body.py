"""Request bodies, read and decompressed within limits."""

import asyncio
import zlib

import msgspec
from starlette.requests import Request
from starlette.types import Message

from deploylog.api.http.body_budget import BodyShare
from deploylog.errors import InvalidInput, TooLarge, UnsupportedMedia

#: zlib's window sizes that mean gzip or zlib framing.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

#: The highest compression ratio of a body. Lines of events compress to a fiftieth; zeros, to a
#: thousandth.
_MAX_RATIO = 200

#: Bytes to which a body of any size may decompress.
_ALWAYS_ALLOWED = 1024 * 1024

#: Bytes decompressed in one step; between steps, other threads run.
_STEP = 256 * 1024

#: A compressed body up to this size is decompressed on the event loop; a thread costs more.
_SMALL = 4 * 1024

#: The limit of a body that is neither events nor a plan: a form, a query, a command.
DOCUMENT_BYTES = 256 * 1024


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a body's size, in bytes, and of its arrival."""

    sent: int
    decompressed: int
    #: Seconds in which the whole body must arrive; ``None`` is no limit.
    seconds: float | None = None

    def at_most(self, size: int) -> "BodyLimits":
        """These limits, but never more than ``size`` bytes."""
        return BodyLimits(sent=min(self.sent, size), decompressed=min(self.decompressed, size))


class ReplayableBody:
    """A body that authentication can read before its endpoint reads the same bytes."""

    def __init__(self, request: Request, limit: int) -> None:
        """``limit`` is in bytes, as sent."""
        self._request = request
        self._limit = limit
        self._body: bytes | None = None
        self._replayed = False

    async def read(self) -> bytes:
        """The bytes as sent, still compressed; raises TooLarge or InvalidInput."""
        if self._body is None:
            self._body = await _receive(self._request, self._limit)
        return self._body

    async def receive(self) -> Message:
        """ASGI's ``receive``: the body in one message, then what follows, such as a disconnect."""
        if self._body is None or self._replayed:
            return await self._request.receive()
        self._replayed = True
        return {"type": "http.request", "body": self._body, "more_body": False}


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The decompressed body; raises TooLarge before more than ``limits`` is in memory, Overloaded
    before all requests hold more than the budget.
    """
    body = await _receive_in(request, limits)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    limit = min(limits.decompressed, max(_MAX_RATIO * len(body), _ALWAYS_ALLOWED))
    share = share_of(request)
    if len(body) <= _SMALL:
        return _decompress(body, encoding, limit, share)
    return await asyncio.to_thread(_decompress, body, encoding, limit, share)


async def _receive_in(request: Request, limits: BodyLimits) -> bytes:
    if limits.seconds is None:
        return await _receive(request, limits.sent)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _receive(request, limits.sent)
    except TimeoutError as error:
        raise InvalidInput(f"the body did not arrive within {limits.seconds:g} seconds") from error


def share_of(request: Request) -> BodyShare:
    """What the request holds of the budget."""
    share: BodyShare = request.state.body_share
    return share


def _declared(request: Request, limit: int) -> int:
    """The size that the request says its body has, or 0; raises TooLarge."""
    declared = request.headers.get("content-length", "")
    if not (declared.isascii() and declared.isdigit()):
        return 0
    # Python refuses to parse very long numbers; those are too large anyway.
    if len(declared) > 19 or int(declared) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    return int(declared)


async def _receive(request: Request, limit: int) -> bytes:
    share = share_of(request)
    # So that nobody sends what is refused in the end. Only what has arrived is held.
    share.require(_declared(request, limit))
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("the client disconnected before it had sent the whole body")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        share.grow(len(part))
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _decompress(body: bytes, encoding: str, limit: int, share: BodyShare) -> bytes:
    window = _WINDOWS.get(encoding)
    if window is None:
        raise UnsupportedMedia(f"content encoding {encoding[:32]!r} is not gzip or deflate")
    decompressor = zlib.decompressobj(window)
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while rest and not decompressor.eof:
            parts.append(decompressor.decompress(rest, _STEP))
            size += len(parts[-1])
            if size > limit:
                raise TooLarge(f"the body decompresses to more than {limit} bytes")
            share.grow(len(parts[-1]))
            if not parts[-1] and decompressor.unconsumed_tail == rest:
                break
            rest = decompressor.unconsumed_tail
    except zlib.error as error:
        raise InvalidInput(f"the body is not valid {encoding}: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise InvalidInput(f"the body is not a single complete {encoding} stream")
    return b"".join(parts)
