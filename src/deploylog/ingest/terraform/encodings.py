"""The encodings of tools' output: UTF-8, or that of the shell in between (PowerShell: UTF-16)."""

import codecs
from typing import Protocol

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

#: Where the zeros are in the first four bytes of a text that begins with two ASCII characters.
_ZEROS = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}

#: Number of bytes that determine the encoding.
_PREFIX_LENGTH = 4


def encoding_of(start: bytes) -> tuple[str, int]:
    """The encoding of a text that begins with these bytes, and the length of its mark."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding, len(mark)
    zeros = tuple(byte == 0 for byte in start[:_PREFIX_LENGTH])
    for pattern, encoding in _ZEROS.items():
        if len(zeros) >= 2 and zeros == pattern[: len(zeros)] and any(zeros):
            return encoding, 0
    return "utf-8", 0


def to_utf8(text: bytes) -> bytes:
    """``text`` in UTF-8 without a byte order mark; raises UnicodeDecodeError.

    What seems to be UTF-8 is not checked.
    """
    encoding, mark = encoding_of(text[:_PREFIX_LENGTH])
    if encoding == "utf-8":
        return text[mark:]
    return text[mark:].decode(encoding).encode()


class _Decoder(Protocol):
    def decode(self, data: bytes, final: bool = False, /) -> str: ...


class Utf8Stream:
    """Turns the chunks of a text into UTF-8; UTF-8 passes through as it is."""

    def __init__(self) -> None:
        """Begin at the start of the text."""
        self._start: bytes | None = b""
        self._decoder: _Decoder | None = None

    def feed(self, chunk: bytes) -> bytes:
        """As much of the text as is known after ``chunk``."""
        if self._start is None:
            return self._decode(chunk)
        self._start += chunk
        return self._begin() if len(self._start) >= _PREFIX_LENGTH else b""

    def last(self) -> bytes:
        """The rest of the text."""
        rest = self._begin() if self._start is not None else b""
        return rest + (self._decoder.decode(b"", True).encode() if self._decoder else b"")

    def _begin(self) -> bytes:
        assert self._start is not None
        encoding, mark = encoding_of(self._start)
        start, self._start = self._start[mark:], None
        if encoding != "utf-8":
            self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        return self._decode(start)

    def _decode(self, chunk: bytes) -> bytes:
        return self._decoder.decode(chunk).encode() if self._decoder else chunk
