"""Subscriptions in the store itself, which few calls of ``subscriptions`` need."""

from deploylog.server import admin


def delete(store: str, id: str) -> None:
    """Delete a subscription from the store; raises OperatorError."""
    admin.delete_subscription(store, id)
