"""What a service answers: its routes."""

from typing import Any

from deploylog.api.http.endpoint import Endpoint
from deploylog.server.app import create_app
from deploylog.server.metrics import Metrics
from deploylog.server.settings import load_settings
from deploylog.store.contract import Store


async def mounted(store: Store) -> list[tuple[str, str, Endpoint]]:
    """The method, the path and the endpoint of everything that the service answers."""
    settings = load_settings({}, environ={}, config=None)
    async with create_app(store, settings, Metrics()) as application:
        router: Any = application.asgi
        routes: list[Any] = router._application._application._app.routes
    return [
        (method, route.path, route.endpoint)
        for route in routes
        for method in sorted(route.endpoint._endpoints)
    ]
