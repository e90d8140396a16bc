"""Requests to the token issuer, within limits of time and size, without cookies or redirects."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from deploylog.auth.oidc import TIMEOUT_SECONDS, IssuerUnavailable

#: Maximum size of a response, in bytes.
_MAX_BYTES = 1 << 20


class HttpSession:
    """Requests over connections of one session, as ``IssuerHttp`` has them."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, url: str) -> bytes:
        return await self._request("GET", url)

    async def post(self, url: str, form: Mapping[str, str]) -> bytes:
        return await self._request("POST", url, form)

    async def _request(self, method: str, url: str, form: Mapping[str, str] | None = None) -> bytes:
        try:
            async with self._session.request(
                method, url, data=form, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise IssuerUnavailable(f"{url} responded with status {response.status}")
                return await _read(url, response.content.iter_any())
        except TimeoutError:
            raise IssuerUnavailable(f"{url} did not respond within {TIMEOUT_SECONDS} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise IssuerUnavailable(f"{url}: {error}") from error


async def _read(url: str, chunks: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _MAX_BYTES:
            raise IssuerUnavailable(f"{url} responded with more than {_MAX_BYTES} bytes")
    return body


@asynccontextmanager
async def open_http() -> AsyncIterator[HttpSession]:
    """Open a session for requests to the issuer."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json"},
    ) as session:
        yield HttpSession(session)
