"""What requests show of who sends them."""

from deploylog.auth import Presented


def presented(
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    path: str = "/log/v1/events",
    client: str | None = "127.0.0.1",
) -> Presented:
    """A request with these headers, by lower-case name."""
    return Presented(method=method, path=path, query="", headers=headers or {}, client=client)
