"""Sinks end to end: a Grafana annotation that a kill of the service does not leave open."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_grafana import TOKEN, FakeGrafana, fake_grafana
from support.servers import EVENTS, spawned
from support.subscribers import LOOPBACK, encryption_key_file, subscribe
from support.waiting import until


@pytest.fixture
async def grafana() -> AsyncIterator[FakeGrafana]:
    async with fake_grafana() as grafana:
        yield grafana


async def test_an_annotation_is_closed_though_the_service_was_killed_in_between(
    store_url: str, tmp_path: Path, grafana: FakeGrafana
):
    options: dict[str, Any] = {
        "secret_key_file": encryption_key_file(tmp_path),
        "delivery_allowed_networks": LOOPBACK,
    }
    async with spawned(store_url, **options) as service:
        await subscribe(
            service, kind="grafana", url=grafana.url, token=TOKEN, project="acme",
            environment=["prod"], allow_missing=True,
        )  # fmt: skip
        await service.open("other", environment="dev")
        opened = await service.open("web", environment="prod", version="1.4.2")
        await until(lambda: grafana.annotations)
        await service.end(signal.SIGKILL)
    async with spawned(store_url, **options) as service:
        end = {"type": "deployment.completed", "source": "test", "id": "end", "specversion": "1.0"}
        await service.append([end], f"{EVENTS}?deployment={opened['id']}")
        await until(lambda: any("timeEnd" in each for each in grafana.annotations.values()))

    [annotation] = grafana.annotations.values()
    assert "stack:web" in annotation["tags"]
    assert "status:completed" in annotation["tags"]
    assert annotation["text"].startswith("Deployment of web 1.4.2 to prod completed after ")
