"""Subscriptions in the store itself, which few calls of ``subscriptions`` need."""

from deploylog.cli.options import own_name
from deploylog.server import admin

#: The actor of what a user without a name does.
_NAMELESS = "deploylog"


def delete(store: str, id: str) -> None:
    """Delete a subscription from the store, as this user; raises OperatorError."""
    admin.delete_subscription(store, id, actor=own_name() or _NAMELESS)
