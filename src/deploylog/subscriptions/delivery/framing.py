"""Where an answer ends (RFC 9112, section 6.3), which aiohttp's parser is too strict about.

An answer with status 204 or 304 ends with its head, whatever its headers say, and what follows a
complete answer does not make it another one. The parser refuses both for good, so that a receiver
which took an event would get it again and again.
"""

import re
from asyncio import AbstractEventLoop
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r\n]")

_HEAD_END = re.compile(rb"\r?\n\r?\n")

#: The headers that tell the length of a body.
_LENGTHS = re.compile(rb"(?im)^(?:content-length|transfer-encoding)[ \t]*:.*\n(?:[ \t].*\n)*")

#: The parser refuses heads that are longer.
_LONGEST_HEAD = 64 * 1024


class Answering(ResponseHandler):
    """Gives the parser the head of an answer by itself, and a body only where there can be one."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Wait for a request."""
        super().__init__(loop)
        #: What came of a head; ``None`` once it was whole.
        self._head: bytes | None = None

    def set_response_params(self, **params: Any) -> None:
        """A request is sent: a head is next."""
        self._head = b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._head is None:
            super().data_received(data)
            return
        # The end of the head may have begun in what came before.
        seen = max(len(self._head) - 3, 0)
        self._head += data
        while self._head and (end := self._end_of_head(self._head, seen)):
            head, self._head, seen = self._head[:end], self._head[end:], 0
            if not self._is_interim(head):
                self._begin(head)
                return

    def _end_of_head(self, data: bytes, seen: int) -> int:
        """Where the head ends, or all of what is none; 0 while that is not known."""
        if end := _HEAD_END.search(data, seen):
            return end.end()
        is_head = b"HTTP/1.".startswith(data[:7]) and len(data) <= _LONGEST_HEAD
        return 0 if is_head else len(data)

    def _is_interim(self, head: bytes) -> bool:
        status = _STATUS.match(head)
        return status is not None and status[1].startswith(b"1") and status[1] != b"101"

    def _begin(self, head: bytes) -> None:
        rest, self._head = self._head or b"", None
        status = _STATUS.match(head)
        if status is None or status[1] not in (b"204", b"304"):
            super().data_received(head)
            if rest:
                super().data_received(rest)
            return
        plain = _LENGTHS.sub(b"", head)
        super().data_received(plain)
        if rest or plain != head:
            # What follows, or is about to, is no answer to the next request.
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let the parser say what half a head is."""
        if self._head:
            head, self._head = self._head, None
            super().data_received(head)
        super().connection_lost(exc)


class Connector(aiohttp.TCPConnector):
    """Connects to receivers."""

    def __init__(self, **options: Any) -> None:
        """``options`` are those of ``TCPConnector``."""
        super().__init__(**options)
        # There is no public way to it; the tests of answers tell when it has gone.
        self._factory = partial(_answering, loop=self._loop)


def _answering(loop: AbstractEventLoop) -> ResponseHandler:
    return Answering(loop)
