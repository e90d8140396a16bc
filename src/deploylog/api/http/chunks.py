"""Chunks of a response's body (RFC 9112, section 7.1), for writing without ASGI."""

#: The ASGI extension in which the server puts a ``Writer`` of the response's connection.
CHUNK_WRITER = "deploylog.chunk_writer"


def encode_chunk(data: bytes) -> bytes:
    """``data`` as one chunk; empty data is no chunk, as an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
