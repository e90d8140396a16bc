"""Request bodies: read with a bound, unpacked with a bound."""

import zlib

import msgspec
from starlette.requests import Request

from deploylog.errors import InvalidInput, TooLarge, UnsupportedMedia

#: zlib's window sizes that mean gzip or zlib framing.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes a body may have."""

    sent: int
    unpacked: int


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The body, unpacked; raises TooLarge before it has taken in more than ``limits``."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.sent:
        raise TooLarge(f"the body is larger than {limits.sent} bytes")
    body = await _receive(request, limits.sent)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    return body if encoding == "identity" else _unpack(body, encoding, limits.unpacked)


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
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"the body is not {encoding}: {error}") from error
    if len(unpacked) > limit:
        raise TooLarge(f"the body unpacks to more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidInput(f"the body is not one whole {encoding} stream")
    return unpacked
