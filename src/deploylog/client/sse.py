"""The messages of a Server-Sent Events stream, and how to read them."""

from collections.abc import Iterator

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a Server-Sent Events stream."""

    event: str
    data: str
    #: The stream's last id so far.
    id: str | None


class MessageParser:
    """Reads a Server-Sent Events stream (WHATWG HTML, 9.2.6) in pieces of any size."""

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        #: What the stream says to wait before reconnecting, in seconds.
        self.retry: float | None = None
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that ``piece`` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode(errors="replace")
            if text:
                self._take_field(*text.partition(":"))
            elif self._data:
                yield self._dispatch()
            else:
                self._event = ""

    def _take_field(self, name: str, _colon: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000

    def _dispatch(self) -> Message:
        message = Message(
            event=self._event or "message", data="\n".join(self._data), id=self._id or None
        )
        self._event, self._data = "", []
        return message
