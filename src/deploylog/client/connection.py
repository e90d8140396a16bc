"""A connection to one server: requests, and one-line errors for everything that can fail."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar
from urllib.parse import quote

import msgspec

from deploylog.client.models import Params
from deploylog.client.transport import NotHttp, Response, Timeouts, Transport
from deploylog.errors import DeploylogError, OperatorError

_T = TypeVar("_T")

_REQUEST = Timeouts(total=30)


class TransientError(DeploylogError):
    """A service cannot be reached, or asks for fewer requests: the same request may succeed later.

    ``retry_after`` is how many seconds the service asks to wait, if it says so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerUnreachable(TransientError):
    """The server does not respond."""


class ClientError(DeploylogError):
    """The server responded with an error.

    ``problem`` is the last segment of the problem type (RFC 9457), ``retry_after`` the header of
    that name in seconds.
    """

    def __init__(
        self, message: str, *, status: int, problem: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (408, 429) or self.status >= 500

    @property
    def is_permanent(self) -> bool:
        """Whether the same request fails again; a 401 may succeed with another key."""
        return 400 <= self.status < 500 and self.status != 401 and not self.is_transient


class _Problem(msgspec.Struct):
    """RFC 9457."""

    type: str = ""
    title: str = ""
    detail: str = ""


class Connection:
    """Sends requests to one server; the transport carries the key."""

    def __init__(self, transport: Transport, server: str) -> None:
        self.server = server
        self._transport = transport

    async def call(
        self,
        method: str,
        path: str,
        type_: type[_T],
        *,
        params: Params = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = _REQUEST,
    ) -> _T:
        """Return the response as a ``type_``; raises ServerUnreachable or ClientError."""
        return decode(
            type_,
            await self.fetch(
                method, path, params=params, body=body, headers=headers, timeouts=timeouts
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
        timeouts: Timeouts = _REQUEST,
    ) -> bytes:
        """Return the body of the response; raises ServerUnreachable or ClientError."""
        with translated_errors(self.server):
            async with self.request(
                method, path, params, timeouts, headers=headers or {}, body=body
            ) as response:
                content = await response.read()
        if not response.is_success:
            raise error_of(self.server, response, content)
        return content

    def request(
        self,
        method: str,
        path: str,
        params: Params,
        timeouts: Timeouts,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> AbstractAsyncContextManager[Response]:
        """Start a request; call it inside ``translated_errors``."""
        # A redirected POST would arrive as a GET, and the key might go to another host.
        return self._transport.request(
            method, path, params=params, headers=headers, body=body, timeouts=timeouts
        )


def segment(name: str) -> str:
    """Percent-encode ``name`` as one segment of a path."""
    return quote(name, safe="")


def decode(type_: type[_T], content: bytes | str) -> _T:
    """Decode a response as a ``type_``; raises ClientError."""
    return parse(lambda: msgspec.json.decode(content or b"null", type=type_))


def parse(decode_response: Callable[[], _T]) -> _T:
    """Call ``decode_response``; raises ClientError when the response is not Deploylog's."""
    try:
        return decode_response()
    except msgspec.DecodeError as error:
        raise ClientError(f"unexpected response from the server: {error}", status=200) from error


#: What to check after a 401: the server does not say why it refuses a key.
_CHECK_KEY = "Check DEPLOYLOG_KEY or --key: the key may be wrong or revoked."


def error_of(server: str, response: Response, content: bytes) -> ClientError:
    """Return the error that a response describes."""
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    fallback = f"{server} returned {response.status} {response.reason}"
    if 300 <= response.status < 400:
        fallback += f" to {response.headers.get('location')}: use the address of the service itself"
    message = problem.detail or problem.title or fallback
    return ClientError(
        f"{message} {_CHECK_KEY}" if response.status == 401 else message,
        status=response.status,
        problem=problem.type.rpartition(":")[2].rpartition("/")[2],
        retry_after=_parse_retry_after(response.headers.get("retry-after", "")),
    )


def _parse_retry_after(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


#: What OpenSSL calls bytes that are no TLS.
_NO_TLS = "WRONG_VERSION_NUMBER"


@contextmanager
def translated_errors(server: str) -> Iterator[None]:
    """Turn every error of the transport into ServerUnreachable or OperatorError."""
    try:
        yield
    except (NotHttp, OSError) as error:
        if isinstance(error, ssl.SSLError) and error.reason == _NO_TLS:
            raise OperatorError(f"{server} does not use TLS: write http:// for it") from error
        raise ServerUnreachable(f"no response from {server} ({reason_of(error)})") from error


def reason_of(error: Exception) -> str:
    """Say in a few words why there is no response."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", None) or error.reason or str(error)
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    if isinstance(error, socket.gaierror):
        return (error.strerror or str(error)).lower()
    return str(error).partition("\n")[0] or "connection lost"
