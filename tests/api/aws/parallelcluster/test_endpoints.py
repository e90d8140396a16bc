"""ParallelCluster's routes over a real server: which events a client finds, page by page."""

from typing import Any

import pytest

from deploylog.events.access import ALL
from deploylog.events.event import NewEvent
from deploylog.events.scope import scope
from deploylog.ingest.cloudformation.stack_event import StackEvent
from deploylog.store import open_store
from deploylog.store.contract import Store
from support.api_keys import key_headers
from support.factories import Commits, new_event, now
from support.servers import EVENTS, Answer, Local, line, running
from support.stacks import (
    ARN,
    NAME,
    collected,
    image_build,
    image_scope,
    own_event,
    recorded,
    stack_event,
)

IMAGE = "/v3/images/custom/{}/stackevents"
CLUSTER = "/v3/clusters/{}/stackevents"

ROLE = "AWS::IAM::Role"


@pytest.fixture
def options() -> dict[str, Any]:
    return {"base_paths": "/prod"}


async def page(server: Local, name: str = NAME, query: str = "", **how: Any) -> Any:
    response = await server.get(CLUSTER.format(name) + query, **how)
    assert response.status == 200, response.body
    assert response.headers["content-type"] == "application/json"
    assert response.body.endswith(b"}\n")
    return response.json


async def run(
    server: Local, *lines: dict[str, object], stack: str = "web", **fields: object
) -> Any:
    """A deployment in which this happens."""
    opened = await server.open(stack, **fields)
    for each in lines:
        each.pop("scopes")
    await server.append(lines, f"{EVENTS}?deployment={opened['id']}")
    return opened


def resource(
    name: str, type: str = "resource.create.started", **fields: object
) -> dict[str, object]:
    """Something happens to a resource."""
    return line(type, resourcetype="aws_vpc", resourcename=name, **fields)


async def pages(server: Local, name: str = NAME) -> list[list[Any]]:
    """Every page, following the tokens."""
    found = [await page(server, name)]
    while "nextToken" in found[-1]:
        found.append(await page(server, name, f"?nextToken={found[-1]['nextToken']}"))
    return [each["events"] for each in found]


def message(response: Answer) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/json"
    assert response.body.endswith(b"}\n")
    assert response.headers["x-amzn-requestid"]
    return response.status, response.json["message"]


def roles(number: int) -> list[StackEvent]:
    """``number`` events of one stack, one millisecond apart."""
    return [
        stack_event(
            "CREATE_COMPLETE", f"Role{n}", ROLE, f"2022-03-30T23:26:0{n // 1000}.{n % 1000:03}Z"
        )
        for n in range(number)
    ]


def logical_ids(events: list[Any]) -> list[str]:
    return [event["logicalResourceId"] for event in events]


# Requests


@pytest.mark.parametrize("path", [IMAGE, CLUSTER, "/prod" + IMAGE, "/prod" + CLUSTER])
async def test_a_stack_is_found_as_an_image_and_as_a_cluster(server: Local, path: str):
    await server.store.log.append(collected(image_build()))

    response = await server.get(path.format(NAME))

    assert response.status == 200
    assert len(response.json["events"]) == 11
    assert response.json["events"][-1]["resourceStatusReason"] == "User Initiated"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (IMAGE.format("a"), 400, "Bad Request: 'a' does not match '^[a-zA-Z][a-zA-Z0-9-]+$'"),
        (IMAGE.format("1bad"), 400, "Bad Request: '1bad' does not match '^[a-zA-Z][a-zA-Z0-9-]+$'"),
        (CLUSTER.format("a_b"), 400, "Bad Request: 'a_b' does not match '^[a-zA-Z][a-zA-Z0-9-]+$'"),
        (
            IMAGE.format("my%20img"),
            400,
            "Bad Request: 'my img' does not match '^[a-zA-Z][a-zA-Z0-9-]+$'",
        ),
        (
            IMAGE.format("missing") + "?region=mars-1&nextToken=x",
            400,
            "Bad Request: invalid or unsupported region 'mars-1'",
        ),
        (
            IMAGE.format("missing") + "?nextToken=x",
            404,
            "CloudFormation Stack for Image missing does not exist.",
        ),
        (
            CLUSTER.format("missing"),
            404,
            "Cluster 'missing' does not exist or belongs to an incompatible ParallelCluster major"
            " version.",
        ),
        (CLUSTER.format("a" * 300) + "?region=", 404, None),
        (IMAGE.format(NAME) + "?nextToken=x", 400, "Bad Request: nextToken is not valid"),
        *(
            (
                path,
                404,
                "The requested URL was not found on the server. If you entered the URL manually"
                " please check your spelling and try again.",
            )
            for path in (
                IMAGE.format(NAME) + "/",
                IMAGE.format(NAME).upper().replace("/V3", "/v3"),
                "/v3/clusters",
                "/v3/",
                "/prod/v3/nothing",
            )
        ),
    ],
)
async def test_errors_have_parallelclusters_messages(
    server: Local, path: str, status: int, text: str | None
):
    await server.store.log.append(collected(image_build()))

    response = await server.get(path)

    result = message(response)
    assert result[0] == status
    assert text is None or result[1] == text


@pytest.mark.parametrize("path", [IMAGE, CLUSTER])
async def test_other_methods_are_not_allowed(server: Local, path: str):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        response = await server.ask(method, path.format("1bad"))

        assert message(response) == (405, "The method is not allowed for the requested URL.")
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_head_returns_headers_only_and_options_lists_methods(server: Local):
    await server.store.log.append(collected(image_build()))

    head = await server.ask("HEAD", IMAGE.format(NAME))
    options = await server.ask("OPTIONS", IMAGE.format(NAME))

    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", "application/json")
    assert (options.status, options.body) == (200, b"")
    assert options.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_a_body_is_ignored_even_if_it_is_not_json(server: Local):
    await server.store.log.append(collected(image_build()))

    response = await server.get(
        IMAGE.format(NAME), data=b'{"nextToken": ', headers={"Content-Type": "application/json"}
    )

    assert response.status == 200


async def test_without_a_default_a_region_is_required(store: Store):
    await store.log.append(collected(image_build()))

    async with running(store, parallelcluster_region="") as server:
        without = await server.get(IMAGE.format(NAME))
        empty = await server.get(IMAGE.format(NAME) + "?region=")
        named = await server.get(IMAGE.format(NAME) + "?region=mars-1&region=us-east-1")

    assert message(without) == (400, "Bad Request: region needs to be set")
    assert message(empty) == (400, "Bad Request: region needs to be set")
    assert named.status == 200


# Which stack


async def test_a_recorded_stack_is_only_in_its_own_region(server: Local):
    other = ARN.replace("us-east-1", "eu-west-1")
    ours = [own_event("CREATE_COMPLETE", "2022-03-30T23:26:01.120Z")]
    theirs = [own_event("UPDATE_COMPLETE", "2022-03-30T23:26:01.120Z", arn=other)]
    beside = (scope("cluster", NAME),)
    await server.store.log.append(collected(ours, beside=beside))
    await server.store.log.append(collected(theirs, arn=other, project="beta", beside=beside))

    here = await page(server)
    there = await page(server, query="?region=eu-west-1")
    nowhere = await server.get(CLUSTER.format(NAME) + "?region=eu-west-2")

    assert [event["stackId"] for event in here["events"]] == [ARN]
    assert [event["stackId"] for event in there["events"]] == [other]
    assert nowhere.status == 404


async def test_other_stacks_are_in_every_region(server: Local):
    await server.open("web")

    visible = await page(server, "web", "?region=eu-west-1")

    [event] = visible["events"]
    assert event["stackId"].startswith("arn:aws:cloudformation:us-east-1:000000000000:stack/web/")
    assert event["physicalResourceId"] == event["stackId"]


async def test_the_newest_visible_stack_of_a_name_is_returned(server: Local):
    await server.open("web")
    await server.open("web", project="beta")
    reader = await key_headers(server.store, "read:project/acme", header="X-Api-Key")
    reader_of_all = await key_headers(server.store, "read:/", header="X-Api-Key")

    newest = await page(server, "web", headers=reader_of_all)
    visible = await page(server, "web", headers=reader)

    stacks = {stack.project: stack.id for stack in await server.store.catalog.stacks(ALL)}
    assert newest["events"][0]["stackId"].endswith(stacks["beta"])
    assert visible["events"][0]["stackId"].endswith(stacks["acme"])


async def test_stacks_can_be_limited_to_one_project(store: Store):
    async with running(store, cloudformation_project="acme") as server:
        await server.open("web")
        await server.open("other", project="beta")

        visible = await page(server, "web")
        hidden = await server.get(CLUSTER.format("other"))

    assert len(visible["events"]) == 1
    assert hidden.status == 404


async def test_a_deleted_stack_is_not_found(server: Local):
    await server.open("web")

    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")

    assert (await server.get(IMAGE.format("web"))).status == 404


async def test_events_of_an_image_need_no_stack(server: Local):
    created = [
        line("resource.create.started", scopes="image/my-image", resourcetype="AWS::EC2::Image",
             resourcename="root"),
        line("deployment.started", scopes="image/my-image"),
    ]  # fmt: skip
    await server.append(created)

    image = await server.get(IMAGE.format("my-image"))
    cluster = await server.get(CLUSTER.format("my-image"))

    own, resource = image.json["events"]
    assert (own["resourceStatus"], own["stackName"]) == ("CREATE_IN_PROGRESS", "my-image")
    assert resource["eventId"].startswith("root-CREATE_IN_PROGRESS-")
    assert own["stackId"] == resource["stackId"]
    assert cluster.status == 404


async def test_events_of_an_image_are_merged_with_its_stack(server: Local):
    await run(server, resource("first"))
    await server.append([resource("second", scopes="image/web")])

    image = await server.get(IMAGE.format("web"))
    cluster = await server.get(CLUSTER.format("web"))

    assert sorted(logical_ids(image.json["events"])) == ["AwsVpcFirst", "AwsVpcSecond", "web"]
    assert len({event["stackId"] for event in image.json["events"]}) == 1
    assert sorted(logical_ids(cluster.json["events"])) == ["AwsVpcFirst", "web"]


async def test_an_event_in_both_scopes_is_returned_once(server: Local):
    await server.store.log.append(collected(image_build(), beside=(image_scope(),)))

    response = await server.get(IMAGE.format(NAME))

    assert len(response.json["events"]) == 11


async def test_an_image_whose_stack_was_deleted_is_not_found_until_it_is_built_again(server: Local):
    built = [
        own_event("CREATE_IN_PROGRESS", "2022-03-30T23:26:01.120Z"),
        own_event("DELETE_COMPLETE", "2022-03-30T23:27:01.120Z"),
    ]
    again = own_event("CREATE_IN_PROGRESS", "2022-03-31T23:26:01.120Z", arn=ARN[:-1] + "7")
    await server.store.log.append([recorded(event, (image_scope(),)) for event in built])

    deleted = await server.get(IMAGE.format(NAME))
    await server.store.log.append([recorded(again, (image_scope(),), again.stack_id)])
    anew = await server.get(IMAGE.format(NAME))

    assert deleted.status == 404
    assert [event["stackId"] for event in anew.json["events"]] == [again.stack_id]


# Events


async def test_statuses_may_be_raw(store: Store):
    await store.log.append(collected(image_build()))

    async with running(store, parallelcluster_raw_statuses=True) as server:
        visible = await page(server)

    newest = visible["events"][0]
    assert newest["resourceStatus"] == "ROLLBACK_COMPLETE"
    assert "resourceStatusReason" not in newest


async def test_deployments_have_their_actions(server: Local):
    for operation in ("plan", "apply", "plan", "apply", "destroy", "apply"):
        await run(server, line("deployment.completed"), operation=operation)

    visible = await page(server, "web")

    statuses = [event["resourceStatus"] for event in reversed(visible["events"])]
    assert statuses == [
        f"{action}_{phase}"
        for action in ("CREATE", "UPDATE", "DELETE", "CREATE")
        for phase in ("IN_PROGRESS", "COMPLETE")
    ]


async def test_repeated_progress_is_one_event(server: Local):
    progress = [resource("slow", "resource.create.progress") for _ in range(5)]
    await run(server, resource("slow"), *progress, resource("slow", "resource.create.completed"))

    visible = await page(server, "web")

    slow = [e for e in visible["events"] if e["logicalResourceId"] == "AwsVpcSlow"]
    statuses = [event["resourceStatus"] for event in slow]
    assert sorted(statuses) == ["CREATE_COMPLETE", "CREATE_IN_PROGRESS"]


async def test_a_hidden_event_is_left_out(server: Local):
    await run(server, resource("open"), resource("secret", groups="ops"))
    reader = await key_headers(server.store, "read:project/acme", header="X-Api-Key")
    member = await key_headers(
        server.store, "read:project/acme", groups=("ops",), header="X-Api-Key"
    )

    visible = await page(server, "web", headers=reader)
    more = await page(server, "web", headers=member)

    assert sorted(logical_ids(visible["events"])) == ["AwsVpcOpen", "web"]
    assert sorted(logical_ids(more["events"])) == ["AwsVpcOpen", "AwsVpcSecret", "web"]


# Pages


@pytest.mark.parametrize(
    ("number", "sizes"), [(100, [100]), (101, [100, 1]), (250, [100, 100, 50])]
)
async def test_a_page_has_a_hundred_events_and_the_last_has_no_token(
    server: Local, number: int, sizes: list[int]
):
    await server.store.log.append(collected(roles(number)))

    found = await pages(server)

    assert [len(each) for each in found] == sizes
    result = [name for each in found for name in logical_ids(each)]
    assert result == [f"Role{n}" for n in reversed(range(number))]


async def test_pages_are_full_even_where_many_events_have_no_stack_event(server: Local):
    other = ("deployment.log", "resource.read.completed", "deployment.error")
    mixed = [each for _ in range(120) for each in (*map(line, other), resource("n"))]
    await run(server, *mixed)

    found = await pages(server, "web")

    assert [len(each) for each in found] == [100, 21]


async def test_pages_are_stable_while_events_arrive(server: Local):
    await server.store.log.append(collected(roles(150)))
    first = await page(server)
    late = stack_event("DELETE_COMPLETE", "Late", ROLE, "2023-01-01T00:00:00.000Z")
    [_, *events] = collected([late])

    await server.store.log.append(events)
    second = await page(server, query=f"?nextToken={first['nextToken']}")

    result = logical_ids(first["events"]) + logical_ids(second["events"])
    assert result == [f"Role{n}" for n in reversed(range(150))]
    assert "nextToken" not in second


async def test_a_token_is_valid_only_for_its_stack(server: Local):
    other = ARN.replace(NAME, "other")
    await server.store.log.append(collected(roles(101)))
    started = own_event("CREATE_COMPLETE", "2022-03-30T23:26:01.120Z", arn=other)
    await server.store.log.append(collected([started], arn=other))
    token = (await page(server))["nextToken"]
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")

    for name, visible in (("other", token), (NAME, changed), (NAME, token + "A"), (NAME, "%00")):
        response = await server.get(CLUSTER.format(name) + f"?nextToken={visible}")
        assert message(response) == (400, "Bad Request: nextToken is not valid")


async def test_a_token_survives_a_restart(store_url: str):
    async with open_store(store_url, observer=Commits()) as store, running(store) as server:
        await store.log.append(collected(roles(101)))
        token = (await page(server))["nextToken"]

    async with open_store(store_url, observer=Commits()) as store, running(store) as server:
        second = await page(server, query=f"?nextToken={token}")

    assert logical_ids(second["events"]) == ["Role0"]


async def test_a_token_below_the_floor_is_refused(server: Local):
    opened = await run(server, *(resource("n") for _ in range(150)))
    token = (await page(server, "web"))["nextToken"]

    await server.store.log.prune(now())
    await server.append([line("deployment.completed")], f"{EVENTS}?deployment={opened['id']}")
    response = await server.get(CLUSTER.format("web") + f"?nextToken={token}")

    text = "Bad Request: The events after this cursor are no longer retained."
    assert message(response) == (400, text)


async def test_events_of_one_millisecond_are_ordered_last_recorded_first(server: Local):
    time = "2022-03-30T23:26:01.000Z"
    same = [stack_event("CREATE_COMPLETE", f"R{n}", ROLE, time) for n in range(5)]
    await server.store.log.append(collected(same))

    visible = await page(server)

    assert logical_ids(visible["events"]) == ["R4", "R3", "R2", "R1", "R0"]


async def test_other_data_under_cloudformations_source_is_left_out(server: Local):
    events: list[NewEvent] = collected(roles(150))
    forged = [
        new_event("resource.create.started", source="cloudformation", scopes=events[0].scopes,
                  data={"StackId": n})
        for n in range(50)
    ]  # fmt: skip
    await server.store.log.append([*events[:100], *forged, *events[100:]])

    found = await pages(server)

    assert [len(each) for each in found] == [100, 50]


async def test_a_page_beyond_the_read_limit_is_short_and_loses_nothing(
    server: Local, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deploylog.api.aws.stacks.stack_view._MAX_EVENTS_READ", 40)
    await server.store.log.append(collected(roles(150)))

    found = await pages(server)

    assert [len(each) for each in found] == [40, 40, 40, 30]
    result = [name for each in found for name in logical_ids(each)]
    assert result == [f"Role{n}" for n in reversed(range(150))]


# Access


async def test_without_credentials_the_error_is_the_gateways(server: Local):
    await key_headers(server.store, "read:/", header="X-Api-Key")

    response = await server.get(IMAGE.format("1bad"))

    assert message(response) == (403, "Missing Authentication Token")
    assert response.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"


async def test_too_many_requests_are_throttled(store: Store):
    async with running(store, max_requests_per_second=1) as server:
        responses = [await server.get(IMAGE.format("aa")) for _ in range(3)]

    assert message(responses[-1]) == (429, "Too Many Requests")
    assert int(responses[-1].headers["retry-after"]) >= 1
