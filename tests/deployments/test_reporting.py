"""Reports: deployments that producers name by keys of their own."""

import asyncio
from typing import Any

import msgspec
import pytest

from deploylog.deployments.catalog import Deployment
from deploylog.deployments.report import Report
from deploylog.deployments.reporting import DeploymentReports
from deploylog.errors import Forbidden, InvalidEvent
from deploylog.events.access import ALL, Grant, Principal, parse_grant
from deploylog.events.event import NewEvent
from deploylog.events.hub import Hub
from deploylog.events.service import EventService
from deploylog.events.streams import OpenStreams
from deploylog.store.contract import Store
from support.factories import now

CI = Principal(
    name="ci", grants=(parse_grant("write:project/acme"), parse_grant("write:state/acme"))
)


def reports_over(store: Store) -> DeploymentReports:
    """As each process has them."""
    events = EventService(store.log, Hub(store.log), open_streams=OpenStreams(max_per_principal=9))
    return DeploymentReports(events, store.catalog, clock=now)


@pytest.fixture
def reports(store: Store) -> DeploymentReports:
    return reports_over(store)


def report(type: str, time: int, *, key: str = "1", **fields: Any) -> Report:
    """A report about a deployment of web to prod."""
    groups = fields.pop("groups", ())
    source = fields.pop("source", "ci")
    names: dict[str, Any] = {"project": "acme", "stack": "web", "environment": "prod", "data": {}}
    event = NewEvent(
        type=f"deployment.{type}",
        source=source,
        scopes=(),
        time=time,
        producer_id=f"{key}/{type}/{time}",
        groups=groups,
    )
    return Report(key=key, event=event, **(names | fields))


async def deployments(store: Store) -> list[Deployment]:
    """What is recorded, first started first."""
    return list(reversed(await store.catalog.deployments(ALL)))


async def test_the_first_report_opens_the_deployment_in_a_new_stack(
    reports: DeploymentReports, store: Store
):
    [events] = await reports.append(CI, [report("queued", 10)])

    [shown] = await deployments(store)
    assert [event.type for event in events] == [
        "stack.created",
        "deployment.started",
        "deployment.queued",
    ]
    assert (shown.stack, shown.environment, shown.started) == ("web", "prod", 10)


async def test_a_report_of_the_start_is_the_start(reports: DeploymentReports, store: Store):
    [events] = await reports.append(CI, [report("started", 10, tool="helm")])

    [shown] = await deployments(store)
    assert [event.type for event in events] == ["stack.created", "deployment.started"]
    assert (shown.tool, events[-1].producer_id) == ("helm", "1/started/10")


async def test_reports_of_one_request_see_each_other(reports: DeploymentReports, store: Store):
    told = [
        report("started", 10),
        report("failed", 20),
        report("started", 30, key="2"),
        report("completed", 40, key="2"),
    ]

    await reports.append(CI, told)

    failed, fixed = await deployments(store)
    assert (failed.status, fixed.status) == ("failed", "completed")
    assert fixed.details.restores == failed.id


async def test_two_sources_may_use_the_same_key(reports: DeploymentReports, store: Store):
    await reports.append(CI, [report("started", 10), report("started", 10, source="cd")])

    assert len(await deployments(store)) == 2


async def test_a_success_restores_what_failed_last_in_its_environment_only(
    reports: DeploymentReports, store: Store
):
    await reports.append(
        CI,
        [
            report("failed", 10, key="1"),
            report("failed", 15, key="2", environment="staging"),
            report("failed", 20, key="3", operation="plan"),
            report("completed", 30, key="4"),
            report("completed", 40, key="5"),
        ],
    )

    shown = {each.started: each for each in await deployments(store)}
    assert shown[30].details.restores == shown[10].id
    assert shown[40].details.restores is None


async def test_a_success_does_not_tell_of_a_failure_that_its_readers_may_not_see(
    reports: DeploymentReports, store: Store
):
    await reports.append(CI, [report("failed", 10, key="1", groups=("ops",))])
    await reports.append(CI, [report("completed", 20, key="2")])
    await reports.append(CI, [report("completed", 30, key="3", groups=("ops",))])

    shown = {each.started: each for each in await deployments(store)}
    assert shown[20].details.restores is None
    assert shown[30].details.restores is None


async def test_later_events_are_for_the_groups_of_the_deployment(
    reports: DeploymentReports, store: Store
):
    await reports.append(CI, [report("started", 10, groups=("ops",))])

    [[end]] = await reports.append(CI, [report("completed", 20)])

    assert end.groups == ("ops",)


async def test_a_project_that_may_not_be_written_is_not_looked_at(
    reports: DeploymentReports, store: Store
):
    await reports.append(CI, [report("started", 10)])
    other = msgspec.structs.replace(CI, grants=(parse_grant("write:project/other"),))

    for stack in ("web", "unheard"):
        with pytest.raises(Forbidden, match=r"may not write project/acme$"):
            await reports.append(other, [report("failed", 20, stack=stack)])


async def test_who_may_write_a_stack_reports_its_deployments_only(
    reports: DeploymentReports, store: Store
):
    await reports.append(CI, [report("started", 10)])
    [stack] = await store.catalog.stacks(ALL)
    grants = (Grant("write", stack.scopes[0]), *CI.grants[1:])
    narrow = msgspec.structs.replace(CI, grants=grants)

    await reports.append(narrow, [report("failed", 20)])

    with pytest.raises(Forbidden, match=r"may not write project/acme$"):
        await reports.append(narrow, [report("failed", 20, stack="shop")])
    assert [each.status for each in await deployments(store)] == ["failed"]


async def test_an_item_that_is_not_valid_is_named_by_its_line(
    reports: DeploymentReports, store: Store
):
    with pytest.raises(InvalidEvent) as caught:
        await reports.append(CI, [report("started", 10), report("started", 10, stack=" web")])

    assert (caught.value.line, caught.value.field) == (2, "stack")
    assert await deployments(store) == []


async def test_the_source_of_the_log_itself_is_refused(reports: DeploymentReports):
    with pytest.raises(InvalidEvent, match="reserved"):
        await reports.append(CI, [report("started", 10, source="deploylog")])


async def test_reports_that_race_open_one_deployment(store: Store):
    processes = [reports_over(store) for _ in range(4)]

    await asyncio.gather(
        *(each.append(CI, [report("progress", 10 + n)]) for n in range(8) for each in processes)
    )

    assert len(await deployments(store)) == 1
    assert len(await store.catalog.stacks(ALL)) == 1


async def test_a_key_may_have_many_runs(store: Store):
    for number in range(6):
        # A new process remembers no runs.
        reports = reports_over(store)
        await reports.append(CI, [report("started", 10 * number + 1)])
        await reports.append(CI, [report("failed", 10 * number + 5)])

    assert [each.ended for each in await deployments(store)] == [5, 15, 25, 35, 45, 55]
