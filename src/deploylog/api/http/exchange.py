"""What endpoints read of a request beside its body, and the JSON that they answer with."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response


def query_of(request: Request) -> str:
    """The query string, still encoded."""
    query: bytes = request.scope["query_string"]
    return query.decode("latin-1")


def json_response(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with ``body``, which is JSON already if it is bytes."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Response(content, status_code=status, headers=headers, media_type="application/json")
