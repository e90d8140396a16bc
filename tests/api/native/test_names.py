"""Events and deployments by the names that people use."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from deploylog.store.contract import Store
from support.problems import assert_problem
from support.servers import DEPLOYMENTS, EVENTS, Local, running


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store) as server:
        yield server


@pytest.fixture
async def ids(server: Local) -> dict[str, str]:
    """The ids of deployments, by stack, environment and version."""
    opened = {}
    for stack, environment, version, project in (
        ("web", "prod", "1", "acme"),
        ("web", "dev", "2", "acme"),
        ("api", "prod", "2", "acme"),
        ("web", "prod", "9", "beta"),
    ):
        commits = [{"sha": f"4be3708{version}"}]
        deployment = await server.open(
            stack, project=project, environment=environment, version=version, commits=commits,
            labels={"team": stack},
        )  # fmt: skip
        opened[f"{project}/{stack}/{environment}"] = deployment["id"]
    return opened


async def named(server: Local, **names: object) -> set[str]:
    """The deployments, each as ``project/stack/environment``."""
    answer = await server.get(f"{DEPLOYMENTS}?{urlencode(names, doseq=True)}")
    assert answer.status == 200, answer.body
    found = answer.json["deployments"]
    return {f"{one['project']}/{one['stack']}/{one['environment']}" for one in found}


WEB = {"acme/web/prod", "acme/web/dev"}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"project": "acme", "stack": "web"}, WEB),
        ({"stack": "web"}, {*WEB, "beta/web/prod"}),
        ({"stack": ["web", "api"], "project": "acme"}, {*WEB, "acme/api/prod"}),
        ({"environment": "prod", "stack": "api"}, {"acme/api/prod"}),
        ({"version": ["1", "9"]}, {"acme/web/prod", "beta/web/prod"}),
        ({"commit": "4BE37082"}, {"acme/web/dev", "acme/api/prod"}),
        ({"label": "team=api"}, {"acme/api/prod"}),
        ({"status": "running", "project": "beta"}, {"beta/web/prod"}),
        ({"status": "completed"}, set()),
        ({"since": "2h", "project": "beta"}, {"beta/web/prod"}),
        ({"project": "gamma"}, set()),
    ],
)
async def test_deployments_are_found_by_names(
    server: Local, ids: dict[str, str], names: dict[str, object], found: set[str]
):
    assert await named(server, **names) == found


async def test_what_is_deployed_now(server: Local, ids: dict[str, str]):
    end = {"type": "deployment.completed", "source": "t"}
    for place in ("acme/web/prod", "acme/api/prod"):
        await server.append([end], f"{EVENTS}?deployment={ids[place]}")
    again = await server.open(environment="prod", version="3")
    await server.append(
        [{"type": "deployment.failed", "source": "t"}], f"{EVENTS}?deployment={again['id']}"
    )

    assert await named(server, current="true") == {"acme/web/prod", "acme/api/prod"}
    page = (await server.get(f"{DEPLOYMENTS}?current=true&stack=web")).json["deployments"]
    assert [one["version"] for one in page] == ["1"]


@pytest.mark.parametrize(
    ("names", "place"),
    [
        ({"project": "beta"}, ["beta/web/prod"]),
        ({"stack": "api"}, ["acme/api/prod"]),
        ({"project": "acme", "environment": "dev"}, ["acme/web/dev"]),
        ({"environment": "dev", "stack": "web", "project": "acme"}, ["acme/web/dev"]),
        ({"environment": "prod", "stack": "web"}, ["acme/web/prod", "beta/web/prod"]),
        ({"version": "2"}, ["acme/web/dev", "acme/api/prod"]),
        ({"label": "team=web", "environment": "dev"}, ["acme/web/dev"]),
    ],
)
async def test_events_are_found_by_names(
    server: Local, ids: dict[str, str], names: dict[str, str], place: list[str]
):
    query = urlencode({**names, "type": "deployment.started"})
    events = (await server.get(f"{EVENTS}?{query}")).json["events"]

    found = {path.split("/")[5] for e in events for path in e["scopes"].split() if "stack" in path}
    assert found == {ids[each] for each in place}


async def test_a_deployment_is_named_by_the_start_of_its_id(server: Local, ids: dict[str, str]):
    id = ids["acme/api/prod"]

    assert await named(server, deployment=id[:8]) == {"acme/api/prod"}
    events = (await server.get(f"{EVENTS}?deployment={id[:8].upper()}")).json["events"]
    assert [event["type"] for event in events] == ["deployment.started"]


async def test_a_stream_follows_what_is_named(server: Local, ids: dict[str, str]):
    async with server.stream("stack=web&environment=dev&from=start") as stream:
        frame = await stream.next()

    assert (frame.event, frame.data["data"]["version"]) == ("deployment.started", "2")


@pytest.mark.parametrize(
    ("query", "status", "kind", "said"),
    [
        ("project=acme&stack=wbe", 404, "stack-not-found", "did you mean 'web'?"),
        ("stack=nothing", 404, "stack-not-found", "there is no stack 'nothing'"),
        ("environment=prd", 400, "invalid-filter", "did you mean 'prod'?"),
        ("environment=zzz", 400, "invalid-filter", "no deployment has the environment 'zzz'"),
        ("status=done", 400, "invalid-filter", "running, completed, failed"),
        ("deployment=xyz", 400, "invalid-filter", "'xyz' is not the id of a deployment"),
        ("label=team", 400, "invalid-filter", "NAME=VALUE"),
    ],
)
@pytest.mark.parametrize("path", [EVENTS, f"{EVENTS}/stream", DEPLOYMENTS])
async def test_a_name_that_does_not_exist_is_said_so(
    server: Local, ids: dict[str, str], path: str, query: str, status: int, kind: str, said: str
):
    answer = await server.get(f"{path}?{query}")

    field = query.rpartition("&")[2].partition("=")[0] if status == 400 else None
    assert_problem(answer, status, kind, field)
    assert said in answer.json["detail"]


async def test_events_of_no_deployment_are_said_so(server: Local, ids: dict[str, str]):
    assert_problem(await server.get(f"{EVENTS}?version=7"), 404, "deployment-not-found")


async def test_a_scope_and_names_exclude_each_other(server: Local, ids: dict[str, str]):
    answer = await server.get(f"{EVENTS}?scope=project/acme&stack=web")

    assert_problem(answer, 400, "invalid-filter", "scope")
