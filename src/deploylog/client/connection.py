"""A connection to one server: requests, refusals, and an error in one line for every silence."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from deploylog.client.models import Params
from deploylog.errors import DeploylogError, OperatorError

_T = TypeVar("_T")

CONNECT_SECONDS = 5.0
_REQUEST = aiohttp.ClientTimeout(total=30, sock_connect=CONNECT_SECONDS)


class ServerUnreachable(DeploylogError):
    """The server does not answer."""


class ClientError(DeploylogError):
    """The server refused the request."""

    def __init__(
        self, message: str, *, status: int, problem: str = "", retry_after: float | None = None
    ) -> None:
        """Keep the HTTP ``status``, the last word of the ``problem`` type, and Retry-After (s)."""
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status in (408, 429) or self.status >= 500

    @property
    def is_permanent(self) -> bool:
        """Whether the same request will be refused again; with another key a 401 may not be."""
        return 400 <= self.status < 500 and self.status != 401 and not self.transient


class _Problem(msgspec.Struct):
    """RFC 9457."""

    type: str = ""
    title: str = ""
    detail: str = ""


class Connection:
    """Sends requests to one server."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        """Use ``session``, which carries the key."""
        self.server = server
        self._session = session

    async def call(
        self,
        method: str,
        path: str,
        type_: type[_T],
        *,
        params: Params = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = _REQUEST,
    ) -> _T:
        """The answer, as a ``type_``; raises ServerUnreachable or ClientError."""
        return decode(
            type_,
            await self.fetch(
                method, path, params=params, body=body, headers=headers, timeout=timeout
            ),
        )

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = _REQUEST,
    ) -> bytes:
        """The answer's body; raises likewise."""
        with reaching(self.server):
            async with self.request(
                method, path, params, timeout, headers=headers or {}, body=body
            ) as response:
                content = await response.read()
        if not response.ok or response.status >= 300:
            raise refusal(self.server, response, content)
        return content

    def request(
        self,
        method: str,
        path: str,
        params: Params,
        timeout: aiohttp.ClientTimeout,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """One request, below ``reaching``."""
        # A redirected POST would arrive as a GET, and the key might go to another host.
        return self._session.request(
            method, self.server + path, params=list(params), data=body,
            headers=headers, timeout=timeout, allow_redirects=False,
        )  # fmt: skip


def segment(name: str) -> str:
    """``name`` as one segment of a path."""
    return quote(name, safe="")


def decode(type_: type[_T], content: bytes | str) -> _T:
    """An answer as a ``type_``; raises ClientError when it is none."""
    return parse(lambda: msgspec.json.decode(content or b"null", type=type_))


def parse(answer: Callable[[], _T]) -> _T:
    """What ``answer`` makes of an answer; raises ClientError when it cannot."""
    try:
        return answer()
    except msgspec.DecodeError as error:
        raise ClientError(f"the server's answer is not Deploylog's: {error}", status=200) from error


#: What to look at, since the service tells nobody why.
_UNKNOWN = "Is DEPLOYLOG_KEY or --key a key of this service, not revoked?"


def refusal(server: str, response: aiohttp.ClientResponse, content: bytes) -> ClientError:
    """The error that an answer tells of."""
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    fallback = f"{server} answered {response.status} {response.reason}"
    message = problem.detail or problem.title or fallback
    return ClientError(
        f"{message} {_UNKNOWN}" if response.status == 401 else message,
        status=response.status,
        problem=problem.type.rpartition(":")[2].rpartition("/")[2],
        retry_after=_parse_retry_after(response.headers.get("Retry-After", "")),
    )


def _parse_retry_after(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


@contextmanager
def reaching(server: str) -> Iterator[None]:
    """Say in one line that ``server`` did not answer, whatever the reason."""
    try:
        yield
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise OperatorError(f"{server!r} is not a server's address") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ServerUnreachable(f"{server} does not answer ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    if isinstance(error, aiohttp.ServerDisconnectedError) or not str(error):
        return "connection lost"
    return str(error).partition("\n")[0]
