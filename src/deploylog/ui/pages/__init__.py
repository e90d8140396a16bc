"""Every page, in the order of the navigation. To add one, list its module's value here."""

from deploylog.ui.page import Page
from deploylog.ui.pages import (
    audit,
    changeset,
    compare,
    delivery,
    deployment,
    event,
    events,
    keys,
    new_subscription,
    now,
    resource,
    stack,
    subscription,
    subscriptions,
)

PAGES: tuple[Page, ...] = (
    now.PAGE,
    events.PAGE,
    delivery.PAGE,
    subscriptions.PAGE,
    audit.PAGE,
    keys.PAGE,
    deployment.PAGE,
    compare.PAGE,
    event.PAGE,
    changeset.PAGE,
    stack.PAGE,
    resource.PAGE,
    subscription.PAGE,
    new_subscription.PAGE,
)
