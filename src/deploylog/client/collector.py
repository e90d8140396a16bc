"""A collector of OpenTelemetry, which receives traces over HTTP."""

import aiohttp

from deploylog.client.connection import Connection
from deploylog.errors import OperatorError


def parse_headers(text: str) -> dict[str, str]:
    """The headers of ``name=value,name=value``; raises OperatorError."""
    headers = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not name.strip() or not equals:
            # The text may be a secret.
            raise OperatorError("headers must be NAME=VALUE, separated by commas")
        headers[name.strip()] = value.strip()
    return headers


async def export(body: bytes, url: str, headers: str) -> None:
    """Send a trace, as OTLP in JSON; raises DeploylogError."""
    async with aiohttp.ClientSession(headers=parse_headers(headers)) as session:
        await Connection(session, url.rstrip("/")).fetch(
            "POST", "/v1/traces", body=body, headers={"Content-Type": "application/json"}
        )
