"""Plain appends: requests to append events that can be read without a parser of HTTP.

A request is plain when it lies whole in what was received, and when nothing about it is unusual.
Everything else is left to the parser, which reads a plain request in the same way.
"""

import re
from functools import lru_cache

import msgspec

from deploylog.api.native import query_string
from deploylog.api.native.paths import EVENTS
from deploylog.auth.authentication import CREDENTIAL_HEADERS, RequestCredentials
from deploylog.auth.authorization import is_signature
from deploylog.errors import InvalidInput
from deploylog.events.access import Principal

#: Bytes of a request line, and of the headers after it.
MAX_LINE = 1024
MAX_HEADERS = 2048

_START = f"POST {EVENTS}".encode()
_VERSION = b" HTTP/1.1"

#: Nothing that ends a query, and nothing that a parser could refuse.
_QUERY = re.compile(rb"(?:\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*)?")
_HEADER = re.compile(rb"([A-Za-z0-9-]+): ?([!-~](?:[ -~]*[!-~])?)")
_LENGTH = re.compile(rb"[1-9][0-9]{0,6}")

#: Headers with which a request is not plain: they change how it is read, recorded or answered,
#: or hold a credential that is not the same in the next request.
_UNUSUAL = frozenset(
    {
        "content-encoding",
        "cookie",
        "expect",
        "idempotency-key",
        "keep-alive",
        # The answer may need headers for a browser.
        "origin",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        CREDENTIAL_HEADERS[-1],
    }
)


class Head:
    """The headers of a plain request, and who sent it; the next request mostly has the same."""

    def __init__(self, before: bytes, after: bytes, headers: dict[str, str], size: int) -> None:
        """``before`` and ``after`` are the bytes around the digits of ``Content-Length``."""
        self.before = before
        self.after = after
        #: By lower-case name.
        self.headers = headers
        #: Bytes, as the limits count them.
        self.size = size
        #: The authenticated principal, and until when that is cached: seconds of a monotonic clock.
        self.principal: Principal | None = None
        self.until = 0.0

    def credentials(self, query: str, client: str | None) -> RequestCredentials:
        """The credentials of a request with these headers."""
        return RequestCredentials(
            method="POST",
            path=EVENTS,
            query=query,
            headers=self.headers,
            client=client,
            raw_headers=[(k.encode(), v.encode()) for k, v in self.headers.items()],
        )


class PlainAppend(msgspec.Struct, frozen=True, gc=False):
    """A plain request."""

    head: Head
    query: str
    body: bytes


class PlainLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a plain request may have; a request beyond it is left to the parser."""

    target_bytes: int
    header_bytes: int
    headers: int
    body_bytes: int


def read_plain(data: bytes, known: Head | None, limits: PlainLimits) -> PlainAppend | None:
    """The request that ``data`` is, if it is a plain one.

    ``known`` is the head of an earlier request of the same connection.
    """
    if not data.startswith(_START):
        return None
    line = data.find(b"\r\n", len(_START), MAX_LINE)
    if line < 0 or not data.startswith(_VERSION, line - len(_VERSION)):
        return None
    target = data[len(_START) : line - len(_VERSION)]
    query = _known_query(target)
    if query is None:
        return None
    start = line + 2
    head = known if known is not None and data.startswith(known.before, start) else None
    if head is None or _length_end(data, start, head) is None:
        head = parse_head(data, start, limits)
        if head is None:
            return None
    digits = start + len(head.before)
    end = _length_end(data, start, head)
    url = len(EVENTS) + len(target)
    if end is None or url > limits.target_bytes or url + head.size > limits.header_bytes:
        return None
    body = data[end + len(head.after) :]
    if len(body) != int(data[digits:end]) or len(body) > limits.body_bytes:
        return None
    return PlainAppend(head, query, body)


def _length_end(data: bytes, start: int, head: Head) -> int | None:
    """Where the digits of ``Content-Length`` end, if the headers that begin at ``start`` are
    those of ``head`` but for these digits.
    """
    digits = start + len(head.before)
    end = data.find(b"\r\n", digits, digits + 9)
    if end < 0 or not data.startswith(head.after, end):
        return None
    return end if _LENGTH.fullmatch(data, digits, end) else None


def parse_head(data: bytes, start: int, limits: PlainLimits) -> Head | None:
    """The headers that begin at ``start``, if they are plain."""
    end = data.find(b"\r\n\r\n", start, start + MAX_HEADERS)
    if end < 0:
        return None
    headers: dict[str, str] = {}
    size, length, position = 0, (0, 0), start
    for line in data[start:end].split(b"\r\n"):
        found = _HEADER.fullmatch(line)
        if found is None:
            return None
        name = found[1].decode().lower()
        if name in headers:
            return None
        headers[name] = found[2].decode()
        size += len(found[1]) + len(found[2]) + 4
        if name == "content-length":
            length = (position + found.start(2), position + found.end(2))
        position += len(line) + 2
    if len(headers) > limits.headers or not _is_plain(headers):
        return None
    return Head(data[start : length[0]], data[length[1] : end + 4], headers, size)


def _is_plain(headers: dict[str, str]) -> bool:
    if _UNUSUAL & headers.keys() or "content-length" not in headers:
        return False
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return False
    if is_signature(headers.get("authorization", "")):
        return False
    return sum(name in headers for name in CREDENTIAL_HEADERS) <= 1


@lru_cache(maxsize=1024)
def _known_query(target: bytes) -> str | None:
    """The query of a target, from the question mark that may begin it; ``None`` if it has one
    that cannot be read.
    """
    if not _QUERY.fullmatch(target):
        return None
    query = target[1:].decode()
    try:
        query_string.parse_append_query(query)
    except InvalidInput:
        return None
    return query
