"""Grafana: one annotation for each deployment, whatever gets lost."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from deploylog.deployments.catalog import Deployment
from deploylog.events.event import Event
from deploylog.events.times import MILLISECOND
from deploylog.subscriptions.delivery.kinds.grafana import MAX_TAG, GrafanaSender, render_new
from deploylog.subscriptions.delivery.kinds.kind import Notice
from deploylog.subscriptions.delivery.outcome import Outcome
from deploylog.subscriptions.delivery.transport import WebhookTransport
from deploylog.subscriptions.subscription import Endpoint
from support.factories import event
from support.fake_grafana import TOKEN, FakeGrafana, fake_grafana
from support.sinks import (
    ENDED,
    ID,
    SCOPE,
    STARTED,
    Owner,
    ended_deployment,
    ids_in,
    lifecycle_event,
    outgoing,
    sender_parts,
)


@pytest.fixture
async def grafana() -> AsyncIterator[FakeGrafana]:
    async with fake_grafana() as grafana:
        yield grafana


class Annotator:
    """A sender, which may be started again without what it remembers."""

    def __init__(self, transport: WebhookTransport, grafana: FakeGrafana) -> None:
        self.owner = Owner(ended_deployment())
        self.endpoint = Endpoint(url=grafana.url, token=TOKEN)
        self._transport = transport
        self.restart()

    def restart(self) -> None:
        self._sender = GrafanaSender(sender_parts(self._transport, self.owner))

    async def send(self, sent: Event, **fields: Any) -> Outcome:
        outcome = await self._sender.send(
            outgoing("grafana", msgspec.structs.replace(self.endpoint, **fields), sent)
        )
        self.owner.store(outcome)
        return outcome


@pytest.fixture
def annotator(transport: WebhookTransport, grafana: FakeGrafana) -> Annotator:
    return Annotator(transport, grafana)


async def test_a_start_is_a_point_and_the_end_makes_it_a_region(
    annotator: Annotator, grafana: FakeGrafana
):
    await annotator.send(lifecycle_event("deployment.started"))
    [point] = [dict(each) for each in grafana.annotations.values()]
    await annotator.send(lifecycle_event("deployment.completed", 2))

    [region] = grafana.annotations.values()
    assert point["time"] == STARTED // MILLISECOND
    assert "timeEnd" not in point
    assert "status:running" in point["tags"]
    assert (region["time"], region["timeEnd"]) == (STARTED // MILLISECOND, ENDED // MILLISECOND)
    assert region["tags"] == [
        "deploylog", "project:acme", "stack:web", "environment:prod", "version:1.4.2",
        "status:completed", f"deployment:{ID}",
    ]  # fmt: skip


async def test_the_text_has_names_counts_and_links_and_no_ids(
    annotator: Annotator, grafana: FakeGrafana
):
    await annotator.send(lifecycle_event())

    [annotation] = grafana.annotations.values()
    lines = annotation["text"].split("\n")
    assert lines[0] == "Deployment of web 1.4.2 to prod completed after 42 s"
    assert lines[1] == "3 added, 1 changed, 0 destroyed, 0 failed"
    assert '<a href="https://ci.example/run/7">Run</a>' in lines
    assert [each for each in ids_in(annotation["text"]) if each != ID] == []


async def test_a_name_cannot_become_markup(annotator: Annotator, grafana: FakeGrafana):
    annotator.owner.deployments[SCOPE] = ended_deployment(stack="<img src=x>")

    await annotator.send(lifecycle_event())

    [annotation] = grafana.annotations.values()
    assert "&lt;img src=x&gt;" in annotation["text"]


async def test_an_end_after_a_restart_closes_the_right_annotation(
    annotator: Annotator, grafana: FakeGrafana
):
    await annotator.send(lifecycle_event("deployment.started"))
    annotator.restart()
    outcome = await annotator.send(lifecycle_event("deployment.failed", 2))

    assert outcome.result == "delivered"
    assert grafana.requests == ["GET", "POST", "PATCH"]
    assert len(grafana.annotations) == 1


async def test_an_annotation_whose_response_was_lost_is_found_again(
    annotator: Annotator, grafana: FakeGrafana
):
    grafana.loses_next = True
    lost = await annotator.send(lifecycle_event("deployment.started"))
    annotator.restart()
    again = await annotator.send(lifecycle_event("deployment.started"))

    assert (lost.result, again.result) == ("retry", "delivered")
    assert len(grafana.annotations) == 1


async def test_a_start_that_arrives_again_leaves_a_closed_annotation(
    annotator: Annotator, grafana: FakeGrafana
):
    await annotator.send(lifecycle_event("deployment.completed", 2))
    before = dict(grafana.annotations[41])

    await annotator.send(lifecycle_event("deployment.started"))

    assert grafana.annotations == {41: before}


async def test_an_annotation_that_a_user_deleted_is_created_again(
    annotator: Annotator, grafana: FakeGrafana
):
    await annotator.send(lifecycle_event("deployment.started"))
    grafana.annotations.clear()

    outcome = await annotator.send(lifecycle_event("deployment.completed", 2))

    [annotation] = grafana.annotations.values()
    assert outcome.result == "delivered"
    assert annotation["timeEnd"] == ENDED // MILLISECOND


async def test_a_dashboard_is_annotated(annotator: Annotator, grafana: FakeGrafana):
    await annotator.send(lifecycle_event(), dashboard="jcIIG-07z")

    [annotation] = grafana.annotations.values()
    assert annotation["dashboardUID"] == "jcIIG-07z"


async def test_a_test_event_is_a_point(annotator: Annotator, grafana: FakeGrafana):
    outcome = await annotator.send(event(type="subscription.test", message="Test of ops"))

    [annotation] = grafana.annotations.values()
    assert outcome.result == "delivered"
    assert annotation["text"] == "Test of ops"


async def test_what_was_sent_is_recorded_without_the_token(annotator: Annotator):
    outcome = await annotator.send(lifecycle_event())

    assert b"timeEnd" in outcome.request
    assert TOKEN.encode() not in outcome.request


@pytest.mark.parametrize(
    ("status", "result"),
    [(401, "disable"), (403, "disable"), (400, "dead_letter"), (500, "retry"), (429, "retry")],
)
async def test_the_status_decides(
    annotator: Annotator, grafana: FakeGrafana, status: int, result: str
):
    grafana.errors = [status]

    outcome = await annotator.send(lifecycle_event())

    assert outcome.result == result
    assert f"Grafana responded with {status}" in (outcome.error or "")


async def test_a_deployment_that_the_owner_may_not_see_is_not_described(
    annotator: Annotator, grafana: FakeGrafana
):
    annotator.owner.deployments.clear()

    await annotator.send(lifecycle_event(message="Deployment completed"))

    [annotation] = grafana.annotations.values()
    assert annotation["text"] == "Deployment completed"
    assert annotation["tags"] == ["deploylog"]


def test_a_long_name_fits_into_a_tag():
    long: Deployment = ended_deployment(stack="x" * 128)

    request = render_new(Endpoint(url="http://g"), Notice(event=lifecycle_event(), deployment=long))

    tags = msgspec.json.decode(request.body)["tags"]
    assert max(map(len, tags)) == MAX_TAG
