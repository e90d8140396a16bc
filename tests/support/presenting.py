"""What requests show of who sends them."""

from collections.abc import Sequence

from deploylog.auth.authentication import RequestCredentials


def presented(
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    path: str = "/log/v1/events",
    client: str | None = "127.0.0.1",
) -> RequestCredentials:
    """A request with these headers, by lower-case name."""
    return RequestCredentials(
        method=method, path=path, query="", headers=headers or {}, client=client
    )


def presented_raw(
    headers: Sequence[tuple[str, bytes]],
    *,
    method: str = "GET",
    path: str = "/log/v1/events",
    query: str = "",
    body: bytes = b"",
    client: str | None = "127.0.0.1",
) -> RequestCredentials:
    """A request that is signed as a whole, with these headers, in any case and order."""

    async def read() -> bytes:
        return body

    raw = [(name.lower().encode(), value) for name, value in headers]
    return RequestCredentials(
        method=method,
        path=path,
        query=query,
        headers={name.decode(): value.decode("latin-1") for name, value in reversed(raw)},
        client=client,
        raw_headers=raw,
        body=read,
    )
