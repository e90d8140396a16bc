"""Requests to SNS, within limits of time and size, without cookies or redirects."""

from collections.abc import AsyncIterator

import aiohttp

from deploylog.auth.sns import Fetched
from deploylog.errors import Unavailable

#: Timeout of one request in seconds, and maximum size of its response in bytes.
_TIMEOUT_SECONDS = 5
_MAX_BYTES = 64 * 1024


async def fetch(url: str) -> Fetched:
    """Fetch ``url``; raises Unavailable if there is no response."""
    # A session for each call: certificates are cached for a day.
    http = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS), cookie_jar=aiohttp.DummyCookieJar()
    )
    try:
        async with http, http.get(url, allow_redirects=False) as response:
            return Fetched(status=response.status, body=await _read(response.content.iter_any()))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # A timeout is an OSError.
        raise Unavailable("SNS does not respond") from error


async def _read(chunks: AsyncIterator[bytes]) -> bytes:
    """The body; empty if it exceeds ``_MAX_BYTES``."""
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _MAX_BYTES:
            return b""
    return body
