"""Every page, in the order of the navigation. To add one, list its module's value here."""

from deploylog.ui.page import Page
from deploylog.ui.pages import changeset, deployment, event, events, now, resource, stack

PAGES: tuple[Page, ...] = (
    now.PAGE,
    events.PAGE,
    deployment.PAGE,
    event.PAGE,
    changeset.PAGE,
    stack.PAGE,
    resource.PAGE,
)
