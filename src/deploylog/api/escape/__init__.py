"""The Escape API: what EscapeKit asks of its event service, and what its receivers get."""

from collections.abc import Iterator, Sequence

from deploylog.api.api import Api, DeliveryFormat
from deploylog.api.escape.errors import respond
from deploylog.api.escape.operations import CREATE_EVENT, ERROR, INTAKE, QUERIES, SUBSCRIPTIONS
from deploylog.api.escape.settings import EscapeSettings
from deploylog.api.escape.wire import VISIBLE, name_type, render_delivery
from deploylog.auth.authentication import Authenticator
from deploylog.auth.shared_secret import SharedSecret, read_secret


def _authenticators(settings: EscapeSettings, bases: Sequence[str]) -> Iterator[Authenticator]:
    """The secret of EscapeKit's services, if they have one."""
    secret = read_secret(settings.escape_secret_file)
    if secret:
        paths = [f"{base}{CREATE_EVENT}" for base in ("", *bases)]
        yield SharedSecret(secret, name="escape", paths=paths)


API = Api(
    title="Escape: EscapeKit's event service",
    prefixes=("/api/v1/", "/internal/"),
    settings=EscapeSettings,
    resources=(QUERIES, SUBSCRIPTIONS, INTAKE),
    respond=respond,
    error=ERROR,
    security={
        "escapeToken": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Escape-Token",
            "description": "An API key, as EscapeKit's clients send it.",
        },
        "escapeCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "X-Escape-Token",
            "description": "The same in a cookie.",
        },
    },
    authenticators=_authenticators,
    delivery=DeliveryFormat(
        name="escape",
        render=lambda event: ("application/json", render_delivery(event)),
        filter=VISIBLE,
        name_type=name_type,
    ),
    either_slash=True,
)
