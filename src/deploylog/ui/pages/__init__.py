"""Every page, in the order of the navigation. To add one, list its module's value here."""

from deploylog.ui.page import Page
from deploylog.ui.pages import changeset, deployment, event, events, now

PAGES: tuple[Page, ...] = (now.PAGE, events.PAGE, deployment.PAGE, event.PAGE, changeset.PAGE)
