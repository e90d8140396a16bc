"""Where a response ends (RFC 9112, section 6.3), about which aiohttp's parser is too strict.

A response with status 204 or 304 ends with its head, whatever its headers say, and bytes that
follow a complete response do not change it. The parser rejects both, so that a receiver which
accepted an event would get it again and again.
"""

import re
from asyncio import AbstractEventLoop
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r\n]")

_HEAD_END = re.compile(rb"\r?\n\r?\n")

#: The headers that define the length of a body.
_LENGTHS = re.compile(rb"(?im)^(?:content-length|transfer-encoding)[ \t]*:.*\n(?:[ \t].*\n)*")

#: The parser rejects longer heads.
_MAX_HEAD_BYTES = 64 * 1024


class LenientResponseHandler(ResponseHandler):
    """Feeds the parser the head of a response alone, and a body only where there can be one."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__(loop)
        #: The part of a head received so far; ``None`` once it is complete.
        self._head: bytes | None = None

    def set_response_params(self, **params: Any) -> None:
        """Expect the head of a response: a request was sent."""
        self._head = b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            super().data_received(data)
            return
        # The previous data may end with a part of the end of the head.
        searched = max(len(self._head) - 3, 0)
        self._head += data
        while self._head and (end := self._end_of_head(self._head, searched)):
            head, self._head, searched = self._head[:end], self._head[end:], 0
            if not self._is_interim(head):
                self._feed(head)
                return

    def _end_of_head(self, data: bytes, searched: int) -> int:
        """The end of the head, or of data that is no head; 0 while that is not known."""
        if end := _HEAD_END.search(data, searched):
            return end.end()
        is_head = b"HTTP/1.".startswith(data[:7]) and len(data) <= _MAX_HEAD_BYTES
        return 0 if is_head else len(data)

    def _is_interim(self, head: bytes) -> bool:
        status = _STATUS.match(head)
        return status is not None and status[1].startswith(b"1") and status[1] != b"101"

    def _feed(self, head: bytes) -> None:
        rest, self._head = self._head or b"", None
        status = _STATUS.match(head)
        if status is None or status[1] not in (b"204", b"304"):
            super().data_received(head)
            if rest:
                super().data_received(rest)
            return
        without_lengths = _LENGTHS.sub(b"", head)
        super().data_received(without_lengths)
        if rest or without_lengths != head:
            # What follows, now or later, is no response to the next request.
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let the parser report an incomplete head."""
        if self._head:
            head, self._head = self._head, None
            super().data_received(head)
        super().connection_lost(exc)


class Connector(aiohttp.TCPConnector):
    """Connects to receivers with ``LenientResponseHandler``."""

    def __init__(self, **options: Any) -> None:
        """``options`` are those of ``TCPConnector``."""
        super().__init__(**options)
        # aiohttp has no public option for it; the tests of responses fail when it is gone.
        self._factory = partial(_make_handler, loop=self._loop)


def _make_handler(loop: AbstractEventLoop) -> ResponseHandler:
    return LenientResponseHandler(loop)
