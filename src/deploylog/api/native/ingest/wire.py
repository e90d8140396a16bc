"""Webhooks of other systems: what their addresses say, and what they are answered; pure."""

from collections.abc import Mapping, Sequence

import msgspec

from deploylog.api.native.query_string import Parameters
from deploylog.api.native.wire import Receipt
from deploylog.auth.source_signatures import SCHEMES, SHARED_HEADERS
from deploylog.deployments.catalog import check_name, deployment_ref
from deploylog.errors import UnsupportedMedia
from deploylog.events.event import Event
from deploylog.ingest.delivery import Place


class IngestReceipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a webhook recorded, or why it recorded nothing."""

    #: Ids of the deployments that it is about.
    deployments: list[str] = []
    events: list[Receipt] = []
    ignored: str | None = None


def render_receipt(reported: Sequence[Sequence[Event]]) -> IngestReceipt:
    """The response to a webhook; ``reported`` are the events of each report."""
    events = [event for group in reported for event in group]
    if not events:
        return IngestReceipt(ignored="the deployment is not known, and this does not open one")
    places = (deployment_ref(event.scopes) for event in events)
    ids = [place.deployment_id for place in places if place and place.deployment_id]
    return IngestReceipt(
        deployments=list(dict.fromkeys(ids)),
        events=[Receipt(event.id, str(event.position)) for event in events],
    )


def parse_place(query: str) -> Place:
    """Parse the query of a webhook's address: where its deployments belong."""
    parameters = Parameters(query)
    place = Place(
        project=parameters.required("project"),
        stack=parameters.one("stack"),
        environment=parameters.one("environment"),
        groups=tuple(sorted(set(parameters.all("group")))),
        workflows=parameters.all("workflow"),
    )
    parameters.done()
    for field in ("project", "stack", "environment"):
        if (name := getattr(place, field)) is not None:
            check_name(field, name)
    return place


def check_is_no_webhook(headers: Mapping[str, str]) -> None:
    """Raise UnsupportedMedia for a webhook of a source, which says where to post it."""
    for source, schemes in SCHEMES.items():
        own = {scheme.header for scheme in schemes}.difference(SHARED_HEADERS)
        if any(header in headers for header in own):
            raise UnsupportedMedia(
                f"this is a webhook of {source}: post it to /log/v1/ingest/{source}?project=PROJECT"
            )
