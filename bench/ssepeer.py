"""sse-starlette as a peer: what is posted to ``/pub`` is sent to every reader of ``/sub``.

It keeps events in memory only, in a queue for each reader. The first argument is the port.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.http1 import HOST

_QUEUES: set[asyncio.Queue[str]] = set()


async def _publish(request: Request) -> Response:
    text = (await request.body()).decode()
    for queue in _QUEUES:
        queue.put_nowait(text)
    return Response(status_code=201)


async def _subscribe(_: Request) -> EventSourceResponse:
    queue: asyncio.Queue[str] = asyncio.Queue()
    _QUEUES.add(queue)

    async def events() -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield {"data": await queue.get()}
        finally:
            _QUEUES.discard(queue)

    return EventSourceResponse(events(), sep="\n", ping=3600)


async def _ready(_: Request) -> Response:
    return Response("ok")


_APP = Starlette(
    routes=[
        Route("/pub", _publish, methods=["POST"]),
        Route("/sub", _subscribe),
        Route("/readyz", _ready),
    ]
)

if __name__ == "__main__":
    uvicorn.run(
        _APP,
        host=HOST,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
        backlog=4096,
    )
