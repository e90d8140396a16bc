"""One webhook told to several workers at once: one stack, one deployment, each event once."""

import asyncio
import re

from support.github import headers, status_event
from support.servers import Spawned, spawned
from support.waiting import until

STORY = [
    status_event("queued", "12:00:01"),
    status_event("in_progress", "12:00:05"),
    status_event("failure", "12:03:00"),
]

WORKERS = 3

#: How often each status is delivered, each time over a connection that any worker may take.
DELIVERIES = 20


async def are_all_serving(service: Spawned) -> bool:
    """Whether every worker reports what it serves."""
    text = (await service.get("/metrics", headers={"Connection": "close"})).body.decode()
    return len(re.findall(r'^deploylog_head_position{worker="\d+"}', text, re.M)) == WORKERS


async def test_workers_that_are_told_the_same_record_it_once(store_url: str):
    async with spawned(store_url, workers=WORKERS) as service:
        await until(lambda: are_all_serving(service))

        async def deliver(number: int) -> int:
            answer = await service.post(
                STORY[number % len(STORY)],
                "application/json",
                "/log/v1/ingest/github?project=acme",
                headers={**headers("deployment_status"), "Connection": "close"},
            )
            return answer.status

        statuses = await asyncio.gather(*map(deliver, range(DELIVERIES * len(STORY))))

        stacks = (await service.get("/log/v1/stacks")).json["stacks"]
        deployments = (await service.get("/log/v1/deployments")).json["deployments"]
        events = (await service.get("/log/v1/events?source=github&order=oldest")).json["events"]

    assert set(statuses) == {201}
    assert [stack["name"] for stack in stacks] == ["web"]
    assert [(each["status"], each["ended"]) for each in deployments] == [
        ("failed", "2026-03-01T12:03:00.000000Z")
    ]
    assert sorted(event["type"] for event in events) == [
        "deployment.failed",
        "deployment.progress",
        "deployment.queued",
        "deployment.started",
    ]
