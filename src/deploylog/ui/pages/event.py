"""*Event*: everything that one event says."""

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.api.native.wire import render_one
from deploylog.deployments.catalog import DeploymentRef, deployment_ref
from deploylog.events.event import Event
from deploylog.ui.page import Page, View


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The model of the page."""

    event: Event
    #: The event as the native API gives it, indented.
    document: str
    #: The stack and the deployment that it belongs to.
    ref: DeploymentRef | None


async def load(view: View) -> Shown:
    """The event that the path names."""
    Parameters(view.query).done()
    event = await view.services.events.event(view.principal, view.path["id"])
    document = msgspec.json.format(render_one(event), indent=2).decode()
    return Shown(event=event, document=document, ref=deployment_ref(event.scopes))


PAGE = Page(path="events/{id}", template="event.html", load=load)
