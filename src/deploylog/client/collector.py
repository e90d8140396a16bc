"""A collector of OpenTelemetry, which receives traces over HTTP."""

from deploylog.client.connection import Connection
from deploylog.client.transport import open_transport
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
    url = url.rstrip("/")
    async with open_transport(url, parse_headers(headers)) as transport:
        await Connection(transport, url).fetch(
            "POST", "/v1/traces", body=body, headers={"Content-Type": "application/json"}
        )
