"""Damaged and large events in every API: other events are served, and paging continues."""

import re
from typing import Any

from deploylog.server.metrics import Metrics
from deploylog.store.contract import Store
from support.backends import Damage
from support.factories import new_events
from support.servers import EVENTS, Local

RFS = {"Client-Request-Id": "0f6c2a52-9c5e-4f0e-8a5d-5f3a2e6f9b11"}
STACK_EVENTS = "/v1/acme/stacks/web/events"
ESCAPE = "/api/v1/events/query/inventory/ip/"


class Logged:
    """The log's content: a deployment's resources, and as many releases."""

    def __init__(self, stack_id: str, positions: list[int]) -> None:
        self.stack_id = stack_id
        self.positions = positions


async def record(server: Local, store: Store, number: int, **fields: Any) -> Logged:
    run = await server.open(tool="terraform", operation="apply")
    scope = f"project/acme/stack/{run['stack_id']}/deployment/{run['id']}"
    scopes = (scope, "inventory/ip/ia/1.0")
    positions: list[int] = []
    for number_ in range(number):
        [event] = await store.log.append(
            new_events(
                1,
                type="resource.create.completed",
                scopes=scopes,
                resource=f"name-{number_}",
                subject=f"name-{number_}",
                **fields,
            )
        )
        positions.append(event.position)
        await store.log.append(new_events(1, type="inventory.release.uploaded", scopes=scopes))
    return Logged(run["stack_id"], positions)


async def native(server: Local, *, limit: int) -> tuple[list[str], list[str]]:
    """The subjects of resources on all pages, and the positions that are damaged."""
    path = f"{EVENTS}?type=resource.*&order=oldest&limit={limit}"
    cursor, subjects, damaged = "", [], []
    while True:
        response = await server.get(path + cursor)
        assert response.status == 200, response.body
        page = response.json
        subjects += [each["subject"] for each in page["events"]]
        damaged += [each["position"] for each in page.get("damaged", [])]
        if "next" not in page:
            return subjects, damaged
        cursor = f"&after={page['next']}"


async def rfs(server: Local, *, limit: int | None) -> list[str]:
    cursor, found = "", []
    query = f"?limit={limit}" if limit is not None else "?"
    while True:
        response = await server.get(f"{STACK_EVENTS}{query}{cursor}", headers=RFS)
        assert response.status == 200, response.body
        page = response.json
        found += [e["resource_name"] for e in page["stack_events"] if "resource_name" in e]
        marker = page["page_info"].get("next_marker")
        if marker is None:
            return found
        cursor = f"&marker={marker}"


async def escape(server: Local, *, size: int) -> list[str]:
    response = await server.get(f"{ESCAPE}?page_size={size}")
    assert response.status == 200, response.body
    return [each["id"] for each in response.json]


async def bluelink(server: Local, logged: Logged) -> list[str]:
    response = await server.get(f"/v1/deployments/instances/{logged.stack_id}")
    assert response.status == 200, response.body
    return sorted(each["name"] for each in response.json["resources"].values())


async def cloudformation(server: Local) -> list[str]:
    """The logical ids on the first page, in the order of the log."""
    form = "Action=DescribeStackEvents&Version=2010-05-15&StackName=web"
    response = await server.post(form, "application/x-www-form-urlencoded", "/")
    assert response.status == 200, response.body
    found = re.findall(
        "<LogicalResourceId>TerraformDataName([0-9]+)[A-Z2-7]{8}<", response.body.decode()
    )
    return [f"name-{number}" for number in reversed(found)]


def names(numbers: range, *, without: tuple[int, ...] = ()) -> list[str]:
    return [f"name-{number}" for number in numbers if number not in without]


async def test_every_api_serves_the_undamaged_events(server: Local, store: Store, damage: Damage):
    logged = await record(server, store, 8)
    # The second, and the last two of a page of four.
    bad = (1, 5, 6)
    damage(*(logged.positions[number] for number in bad))
    good = names(range(8), without=bad)

    for limit in (1, 2, 3, 4, 1000):
        assert await native(server, limit=limit) == (
            good,
            [str(logged.positions[number]) for number in bad],
        )
        assert await rfs(server, limit=limit) == good[::-1]
    assert await rfs(server, limit=None) == good[::-1]
    assert len(await escape(server, size=8)) == 8
    assert await bluelink(server, logged) == good
    assert await cloudformation(server) == good


async def test_a_damaged_event_is_missing_and_a_gap_on_a_stream(
    server: Local, store: Store, damage: Damage
):
    logged = await record(server, store, 4)
    events = (await server.get(f"{EVENTS}?type=resource.*&order=oldest")).json["events"]
    damage(logged.positions[2])

    response = await server.get(f"{EVENTS}/{events[2]['id']}")
    async with server.stream("from=start&type=resource.*") as stream:
        frames = [await stream.next() for _ in range(4)]

    assert response.status == 410
    assert response.json["type"] == "urn:deploylog:problem:event-damaged"
    assert [frame.event for frame in frames] == [
        "resource.create.completed",
        "resource.create.completed",
        "gap",
        "resource.create.completed",
    ]
    position = logged.positions[2]
    assert frames[2].data == {
        "after": str(position - 1),
        "oldest": str(position + 1),
        "reason": "damaged",
    }


def test_a_damaged_event_is_counted():
    metrics = Metrics()

    metrics.damaged("checksum")

    assert b'deploylog_damaged_events_total{reason="checksum"} 1.0' in metrics.render()


async def test_every_api_serves_large_events(server: Local, store: Store):
    logged = await record(server, store, 70, data="x" * 250_000)
    expected = names(range(70))

    assert await native(server, limit=1000) == (expected, [])
    assert await rfs(server, limit=1000) == expected[::-1]
    assert await rfs(server, limit=None) == expected[::-1]
    assert len(await escape(server, size=70)) == 70
    assert await bluelink(server, logged) == sorted(expected)
    assert await cloudformation(server) == expected
    async with server.stream("from=start&type=resource.*") as stream:
        followed = [(await stream.next()).data["subject"] for _ in range(70)]
    assert followed == expected
