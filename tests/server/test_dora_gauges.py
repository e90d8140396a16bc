"""DORA's metrics as gauges."""

import pytest

from deploylog.deployments.dora import DAY
from deploylog.errors import InvalidSettings
from deploylog.server.dora_gauges import Place, parse_places, parse_window_setting
from deploylog.store.contract import Store
from support.factories import deployment_event, now, stack_created
from support.servers import running
from support.waiting import until


def test_places_are_names_separated_by_slashes():
    places = parse_places("shop, a%2Fb/web ,shop/web/prod")

    assert places == (
        Place(project="shop"),
        Place(project="a/b", stack="web"),
        Place(project="shop", stack="web", environment="prod"),
    )


@pytest.mark.parametrize("text", ["/web", "a/b/c/d"])
def test_a_place_without_a_project_or_with_too_many_names_is_refused(text: str):
    with pytest.raises(InvalidSettings, match="dora_places"):
        parse_places(text)


def test_a_window_that_is_no_duration_is_refused():
    with pytest.raises(InvalidSettings, match="dora_window"):
        parse_window_setting("month")


async def test_a_scrape_shows_the_places_and_nothing_for_a_group(store: Store):
    started, ended = now() - 2 * DAY, now() - DAY
    await store.log.append([stack_created()])
    for id, groups in (("1", ()), ("2", ("ops",))):
        data = {"environment": "prod", "commits": [{"sha": "4be37088"}]}
        await store.log.append(
            [
                deployment_event(
                    "deployment.started", id=id, groups=groups, time=started, data=data
                ),
                deployment_event("deployment.completed", id=id, groups=groups, time=ended),
            ]
        )
    async with running(store, dora_places="acme/web,acme/gone", dora_window="10d") as service:

        async def lines() -> list[str]:
            return (await service.get("/metrics")).body.decode().splitlines()

        async def are_measured() -> bool:
            return any(line.startswith("deploylog_dora_known_ratio{") for line in await lines())

        await until(are_measured)
        shown = [line for line in await lines() if line.startswith("deploylog_dora_")]

    [often] = [line for line in shown if "deployments_per_day" in line]
    assert 'environment="",of="mean",project="acme",stack="web"} 0.1' in often
    assert not any("lead_time_seconds{" in line or "gone" in line for line in shown)
