"""PagerDuty: change events of its Events API v2."""

import msgspec

from deploylog.deployments.lifecycle import DEPLOYMENT_ENDS
from deploylog.events.times import render_time
from deploylog.subscriptions.delivery.kinds.kind import EndpointKind, Notice
from deploylog.subscriptions.delivery.kinds.notice_sender import notice_senders
from deploylog.subscriptions.delivery.kinds.wording import facts, headline, links
from deploylog.subscriptions.delivery.outcome import Outcome, Request, Response, classify_status
from deploylog.subscriptions.delivery.sender import JSON_HEADERS
from deploylog.subscriptions.subscription import Endpoint

#: Where change events go; accounts in Europe have another host.
URL = "https://events.pagerduty.com/v2/change/enqueue"

#: Characters of a summary that PagerDuty accepts.
MAX_SUMMARY = 1024

_REFUSED = frozenset({400, 413, 422})


def render(endpoint: Endpoint, notice: Notice) -> list[Request]:
    """The change event."""
    change = {
        "routing_key": endpoint.token,
        "payload": {
            "summary": headline(notice)[:MAX_SUMMARY],
            "timestamp": render_time(notice.event.time),
            "source": _source(notice),
            "custom_details": _details(notice),
        },
        "links": [{"href": url, "text": title} for title, url in links(notice)],
    }
    return [Request(url=endpoint.url, headers=JSON_HEADERS, body=msgspec.json.encode(change))]


def _source(notice: Notice) -> str:
    deployment = notice.deployment
    if deployment is None:
        return notice.event.source
    return "/".join(filter(None, (deployment.project, deployment.stack, deployment.environment)))


def _details(notice: Notice) -> dict[str, str]:
    """The facts, by the names that custom details usually have."""
    return {name.lower().replace(" ", "_"): text for name, text in facts(notice)}


def classify(response: Response) -> Outcome:
    """Classify the response, which is 202 when PagerDuty accepts the event."""
    return classify_status(response, "PagerDuty", disabling=frozenset(), refusing=_REFUSED)


PAGERDUTY = EndpointKind(
    name="pagerduty",
    title="Change events in PagerDuty",
    required=("token",),
    optional=("url",),
    default_url=URL,
    default_types=lambda endpoint: tuple(DEPLOYMENT_ENDS),
    open_senders=notice_senders(render, classify),
)
