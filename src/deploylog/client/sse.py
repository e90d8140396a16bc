"""Server-Sent Events: messages, and a parser for the stream they come in."""

from collections.abc import Iterator

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a Server-Sent Events stream."""

    event: str
    data: str
    #: The last id of the stream, which may be that of an earlier message.
    id: str | None


class MessageParser:
    """Parses a Server-Sent Events stream (WHATWG HTML, 9.2.6) from chunks of any size."""

    def __init__(self) -> None:
        #: Seconds to wait before reconnecting, if the stream says so.
        self.retry: float | None = None
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield the messages that ``chunk`` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode(errors="replace")
            if text:
                self._set_field(*text.partition(":"))
            elif self._data:
                yield self._dispatch()
            else:
                self._event = ""

    def _set_field(self, name: str, _colon: str, value: str) -> None:
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
