"""Resources that have a name only, and stacks' durations."""

import pytest

from deploylog.events.event import Resource
from deploylog.events.filters import Filter
from deploylog.events.times import SECOND
from deploylog.ui.pages.resource import named
from deploylog.ui.pages.stack import draw_pace, usual_duration
from deploylog.ui.timeline import address_of
from support.factories import deployment, event


@pytest.mark.parametrize("resource", ["queue.jobs", "queue.jobs[eu]", "queue.a.b[0]", "queue"])
def test_the_name_of_a_resource_without_an_address_finds_it(resource: str):
    name, _, key = resource.removeprefix("queue").removeprefix(".").partition("[")
    found = event(
        type="resource.create.started",
        resource=Resource(type="queue", name=name, key=key.removesuffix("]") or None),
    )

    assert found.resource is not None
    assert address_of(found.resource) == resource
    assert Filter(all_of=tuple(named(resource, "queue"))).matches(found)
    assert not Filter(all_of=tuple(named(f"{resource}.x", "queue"))).matches(found)


def test_the_longest_deployment_is_the_highest():
    deployments = [
        deployment(started=0, ended=seconds * SECOND, status="completed") for seconds in (4, 2, 8)
    ]

    pace = draw_pace([*deployments, deployment(started=9, ended=None, status="running")])

    assert [bar.height for bar in pace] == [1.0, 0.25, 0.5]
    assert usual_duration(pace) == 4 * SECOND
    assert usual_duration(pace[1:]) is None


def test_deployments_that_took_no_time_have_no_height():
    [bar] = draw_pace([deployment(started=5, ended=5)])

    assert bar.height == 0
