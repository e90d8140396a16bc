"""Grafana: an annotation for each deployment, a region from its start to its end."""

from html import escape
from typing import Any
from urllib.parse import urlencode

import msgspec

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.lifecycle import DEPLOYMENT_LIFECYCLE, DEPLOYMENT_STARTED
from deploylog.events.scope import Scope
from deploylog.events.times import MILLISECOND
from deploylog.subscriptions.delivery.kinds.kind import (
    EndpointKind,
    Notice,
    SenderParts,
    deployment_of,
    notice_of,
    one_sender,
)
from deploylog.subscriptions.delivery.kinds.notice_sender import recorded_body
from deploylog.subscriptions.delivery.kinds.posted import PostedMessages
from deploylog.subscriptions.delivery.kinds.wording import counts, headline, links
from deploylog.subscriptions.delivery.outcome import Outcome, Request, Response, classify_status
from deploylog.subscriptions.delivery.sender import JSON_HEADERS, OutgoingBatch
from deploylog.subscriptions.subscription import (
    MAX_RESPONSE_BYTES,
    Endpoint,
    Message,
    Subscription,
)

PATH = "/api/annotations"

#: Characters of a tag that Grafana stores.
MAX_TAG = 100

#: A search for one annotation answers with its text.
_MAX_RESPONSE_BYTES = 64 * 1024

_FORBIDDEN = frozenset({401, 403})
_REFUSED = frozenset({400, 404, 409, 412, 422})


class _Annotation(msgspec.Struct, frozen=True):
    """An annotation in a response."""

    id: int


class _Failed(Exception):
    """A call failed, and the remaining calls are not made."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


class GrafanaSender:
    """Creates the annotation of a deployment, and closes it when the deployment ends."""

    def __init__(self, parts: SenderParts) -> None:
        self._parts = parts
        self._posted = PostedMessages(parts.find_message)

    async def send(self, batch: OutgoingBatch) -> Outcome:
        subscription, endpoint = batch.subscription, batch.endpoint
        notice = await notice_of(self._parts, subscription, batch.event)
        scope = deployment_of(batch.event)
        try:
            if notice.lifecycle is None or scope is None:
                return (await self._call(endpoint, render_new(endpoint, notice)))[0]
            return await self._annotate(subscription, endpoint, scope, notice)
        except _Failed as failure:
            return failure.outcome

    async def _annotate(
        self, subscription: Subscription, endpoint: Endpoint, scope: Scope, notice: Notice
    ) -> Outcome:
        """Change the annotation of the deployment, or create it if there is none."""
        known = await self._posted.latest(subscription.id, scope)
        id = int(known.id) if known is not None else await self._find(endpoint, notice)
        outcome = None
        if id is not None:
            outcome = await self._change(endpoint, render_change(endpoint, notice, id))
        if outcome is None:
            outcome, response = await self._call(endpoint, render_new(endpoint, notice))
            id = msgspec.json.decode(response.body, type=_Annotation).id
        message = Message(deployment=scope, channel="", id=str(id))
        self._posted.remember(subscription.id, message)
        return msgspec.structs.replace(outcome, messages=(message,))

    async def _find(self, endpoint: Endpoint, notice: Notice) -> int | None:
        """The annotation that a request posted whose response was lost."""
        _, response = await self._call(endpoint, render_search(endpoint, notice))
        found = msgspec.json.decode(response.body, type=list[_Annotation])
        return found[0].id if found else None

    async def _change(self, endpoint: Endpoint, request: Request) -> Outcome | None:
        """Change an annotation; ``None`` if it was deleted."""
        try:
            return (await self._call(endpoint, request))[0]
        except _Failed as failure:
            if failure.outcome.response.status != 404:
                raise
            return None

    async def _call(self, endpoint: Endpoint, request: Request) -> tuple[Outcome, Response]:
        """Make one call, and return its outcome and the whole response; raises _Failed."""
        response = await self._parts.transport.send(request, max_bytes=_MAX_RESPONSE_BYTES)
        excerpt = msgspec.structs.replace(response, body=response.body[:MAX_RESPONSE_BYTES])
        outcome = msgspec.structs.replace(
            classify(excerpt), request=recorded_body(request, endpoint)
        )
        if outcome.result != "delivered":
            raise _Failed(outcome)
        return outcome, response


def render_new(endpoint: Endpoint, notice: Notice) -> Request:
    """The request for a new annotation: a point, or a region once the deployment has ended."""
    annotation = _annotation(notice)
    if endpoint.dashboard:
        annotation["dashboardUID"] = endpoint.dashboard
    return _request("POST", endpoint, PATH, annotation)


def render_change(endpoint: Endpoint, notice: Notice, id: int) -> Request:
    """The request that changes an annotation.

    A start that arrives again says no more than its time: the deployment may have ended.
    """
    annotation = _annotation(notice)
    if notice.event.type == DEPLOYMENT_STARTED:
        annotation = {"time": annotation["time"]}
    return _request("PATCH", endpoint, f"{PATH}/{id}", annotation)


def render_search(endpoint: Endpoint, notice: Notice) -> Request:
    """The request that finds the annotation of a deployment by its tag."""
    assert notice.deployment is not None
    query = urlencode(
        {"tags": _id_tag(notice.deployment), "type": "annotation", "limit": 1}, safe=":"
    )
    return _request("GET", endpoint, f"{PATH}?{query}")


def _request(
    method: str, endpoint: Endpoint, path: str, annotation: dict[str, Any] | None = None
) -> Request:
    return Request(
        method=method,
        url=endpoint.url.rstrip("/") + path,
        headers={**JSON_HEADERS, "authorization": f"Bearer {endpoint.token}"},
        body=msgspec.json.encode(annotation) if annotation is not None else b"",
    )


def _annotation(notice: Notice) -> dict[str, Any]:
    deployment = notice.lifecycle
    start = deployment.started if deployment is not None else notice.event.time
    annotation: dict[str, Any] = {"time": start // MILLISECOND}
    if deployment is not None and deployment.ended is not None:
        annotation["timeEnd"] = deployment.ended // MILLISECOND
    return annotation | {"text": _text(notice), "tags": _tags(deployment)}


def _text(notice: Notice) -> str:
    """The text, which Grafana shows as HTML."""
    deployment = notice.lifecycle
    lines = [escape(headline(notice))]
    if deployment is not None and deployment.ended is not None:
        lines.append(escape(counts(deployment.counts)))
    lines += [f'<a href="{escape(url)}">{title}</a>' for title, url in links(notice)]
    return "\n".join(lines)


def _tags(deployment: Deployment | None) -> list[str]:
    if deployment is None:
        return ["deploylog"]
    named = {
        "project": deployment.project,
        "stack": deployment.stack,
        "environment": deployment.environment,
        "version": deployment.details.version,
        "status": deployment.status,
    }
    tags = [f"{name}:{value}"[:MAX_TAG] for name, value in named.items() if value]
    return ["deploylog", *tags, _id_tag(deployment)]


def _id_tag(deployment: Deployment) -> str:
    return f"deployment:{deployment.id}"


def classify(response: Response) -> Outcome:
    """Classify the response: a token that is not valid any more stops the subscription."""
    return classify_status(response, "Grafana", disabling=_FORBIDDEN, refusing=_REFUSED)


GRAFANA = EndpointKind(
    name="grafana",
    title="Annotations in Grafana",
    required=("url", "token"),
    optional=("dashboard",),
    default_order=lambda endpoint: "per_deployment",
    default_types=lambda endpoint: DEPLOYMENT_LIFECYCLE,
    only_types=DEPLOYMENT_LIFECYCLE,
    open_senders=one_sender(lambda parts: GrafanaSender(parts).send),
)
