"""CloudFormation's actions over a real server."""

from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from yarl import URL

from deploylog.api.aws.cloudformation.xml import NAMESPACE
from deploylog.auth.api_keys import make_key
from deploylog.events.access import parse_grant
from deploylog.store.contract import Store
from support.factories import now
from support.servers import EVENTS, Answer, Local, line, running
from support.stacks import (
    ARN,
    NAME,
    NESTED,
    collected,
    image_build,
    image_scope,
    own_event,
    stack_event,
)

FORM = "application/x-www-form-urlencoded; charset=utf-8"


@pytest.fixture
def options() -> dict[str, Any]:
    return {"base_paths": "/prod"}


async def call(server: Local, action: str, *, how: str = "POST", **parameters: str) -> Answer:
    form = urlencode({"Action": action, "Version": "2010-05-15", **parameters})
    if how == "GET":
        return await server.get(f"/?{form}")
    return await server.post(form, FORM, "/")


def members(response: Answer, member: str) -> list[dict[str, str]]:
    """The members of a list, each by the names of its parts."""
    assert response.status == 200, response.body
    assert response.headers["content-type"].startswith("text/xml")
    root = ElementTree.fromstring(response.body)
    [list] = root.iter(f"{{{NAMESPACE}}}{member}")
    return [{_name(part): _text(part) for part in each} for each in list]


def _name(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


def _text(element: ElementTree.Element) -> str:
    if len(element):
        return "|".join(_text(part) for part in element)
    return element.text or ""


def token(response: Answer) -> str | None:
    return ElementTree.fromstring(response.body).findtext(f".//{{{NAMESPACE}}}NextToken")


def error_of(response: Answer) -> tuple[int, str, str]:
    root = ElementTree.fromstring(response.body)
    assert _name(root) == "ErrorResponse"
    [error] = root.iter(f"{{{NAMESPACE}}}Error")
    parts = {_name(part): _text(part) for part in error}
    assert root.findtext(f"{{{NAMESPACE}}}RequestId") == response.headers["x-amzn-requestid"]
    return response.status, parts["Code"], parts["Message"]


async def end(server: Local, opened: Any, type: str) -> None:
    ended = {"type": type, "source": "terraform", "message": "because"}
    await server.append([ended], f"{EVENTS}?deployment={opened['id']}")


async def statuses(server: Local) -> dict[str, str]:
    """By name, of the stacks that exist."""
    stacks = members(await call(server, "DescribeStacks"), "Stacks")
    return {stack["StackName"]: stack["StackStatus"] for stack in stacks}


# The root


async def test_a_browser_is_redirected_to_the_documentation(server: Local):
    plain = await server.get("/", allow_redirects=False)
    below = await server.get("/prod/?x=1", allow_redirects=False)
    odd = await server.get(
        URL(f"{server.url}/?x=%C3%A9&y=%FF", encoded=True), allow_redirects=False
    )
    head = await server.ask("HEAD", "/", allow_redirects=False)

    assert (odd.status, odd.headers["location"]) == (307, "/docs")
    assert (plain.status, plain.headers["location"]) == (307, "/docs")
    assert (below.status, below.headers["location"]) == (307, "/prod/docs")
    assert head.status == 307


@pytest.mark.parametrize("query", ["a=%C3%A9", "%ff", "Action%ff=1", "Acti%6fn"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_no_unauthenticated_query_causes_a_server_error(
    server: Local, method: str, query: str
):
    url = URL(f"{server.url}/?{query}", encoded=True)

    response = await server.ask(method, url, allow_redirects=False)

    assert response.status == (400 if query == "Acti%6fn" else 307)


async def test_a_browser_needs_no_credentials_but_an_action_does(server: Local):
    stored, _ = make_key(name="ci", groups=(), grants=[parse_grant("read:/")], now=now())
    await server.store.credentials.add(stored)

    browser = await server.get("/", allow_redirects=False)
    posted = await call(server, "DescribeStacks")
    request = await call(server, "DescribeStacks", how="GET")

    assert browser.status == 307
    for response in (posted, request):
        assert error_of(response) == (
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        )


async def test_other_methods_are_refused_in_cloudformations_form(server: Local):
    response = await server.ask("PUT", "/")

    assert error_of(response)[:2] == (405, "InvalidAction")


@pytest.mark.parametrize("action", ["CreateStack", "describestacks", "Nope"])
async def test_an_unknown_action_is_refused(server: Local, action: str):
    response = await call(server, action)

    message = f"Could not find operation {action} for version 2010-05-15"
    assert error_of(response) == (400, "InvalidAction", message)


# DescribeStacks


async def test_a_stack_is_described_by_its_name_and_by_its_arn(server: Local):
    opened = await server.open("web")

    by_name = await call(server, "DescribeStacks", StackName="web")
    [stack] = members(by_name, "Stacks")
    by_arn = await call(server, "DescribeStacks", StackName=stack["StackId"], how="GET")

    region = "arn:aws:cloudformation:us-east-1:000000000000"
    assert stack["StackId"] == f"{region}:stack/web/{opened['stack_id']}"
    assert members(by_arn, "Stacks") == [stack]
    assert stack["StackStatus"] == "CREATE_IN_PROGRESS"
    assert stack["DisableRollback"] == "false"
    assert (stack["Parameters"], stack["Outputs"]) == ("", "")
    assert stack["Tags"] == "parallelcluster:version|3.0.0|parallelcluster:cluster-name|web"


async def test_settings_determine_arns_and_tags(store: Store):
    async with running(
        store,
        cloudformation_region="eu-west-1",
        cloudformation_account="123456789012",
        parallelcluster_version="3.12.0",
    ) as server:
        await server.open("web")
        [stack] = members(await call(server, "DescribeStacks"), "Stacks")

    assert stack["StackId"].startswith("arn:aws:cloudformation:eu-west-1:123456789012:stack/web/")
    assert "|3.12.0|" in stack["Tags"]


async def test_a_stack_of_an_image_has_its_tag(server: Local):
    await server.store.log.append(collected(image_build(), beside=(image_scope(),)))

    [stack] = members(await call(server, "DescribeStacks", StackName=NAME), "Stacks")

    assert stack["StackId"] == ARN
    assert stack["Tags"] == f"parallelcluster:version|3.0.0|parallelcluster:image_id|{NAME}"


CLUSTER_TAGS = {"parallelcluster:version": "3.12.0", "parallelcluster:cluster-name": "prod"}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (CLUSTER_TAGS, CLUSTER_TAGS),
        (
            {"parallelcluster:image_id": "i", "k": "v"},
            {"parallelcluster:version": "3.0.0", "parallelcluster:image_id": "i", "k": "v"},
        ),
        (
            {"k": "v"},
            {"parallelcluster:version": "3.0.0", "parallelcluster:cluster-name": NAME, "k": "v"},
        ),
        ({}, {"parallelcluster:version": "3.0.0", "parallelcluster:cluster-name": NAME}),
    ],
)
async def test_a_recorded_stack_has_its_own_tags_and_those_that_pcluster_needs(
    server: Local, tags: dict[str, str], expected: dict[str, str]
):
    await server.store.log.append(collected(image_build(), tags=tags))

    [stack] = members(await call(server, "DescribeStacks"), "Stacks")

    words = stack["Tags"].split("|")
    assert dict(zip(words[::2], words[1::2], strict=True)) == expected


async def test_tags_are_the_last_ones_recorded(server: Local):
    async def visible(tags: dict[str, str] | None, minute: int) -> str:
        start = own_event("UPDATE_IN_PROGRESS", f"2022-03-30T23:{minute}:01.120Z")
        ended = own_event("UPDATE_COMPLETE", f"2022-03-30T23:{minute}:02.120Z")
        await server.store.log.append(collected([start, ended], tags=tags))
        [stack] = members(await call(server, "DescribeStacks", StackName=NAME), "Stacks")
        return str(stack["Tags"])

    first = await visible({**CLUSTER_TAGS, "k": "1"}, 10)
    second = await visible({**CLUSTER_TAGS, "k": "2"}, 20)
    # Notifications of SNS and EventBridge have no tags.
    third = await visible(None, 30)

    assert "k|1" in first
    assert "k|2" in second
    assert third == second


async def test_tags_of_another_stack_of_the_same_image_are_not_used(server: Local):
    other = ARN[:-1] + "7"
    again = [own_event("CREATE_IN_PROGRESS", "2022-03-31T01:00:00.000Z", arn=other)]
    beside = (image_scope(),)
    await server.store.log.append(collected(image_build(), beside=beside))
    await server.store.log.append(
        collected(again, arn=other, long=True, beside=beside, tags=CLUSTER_TAGS)
    )

    [stack] = members(await call(server, "DescribeStacks", StackName=ARN), "Stacks")

    assert stack["Tags"] == f"parallelcluster:version|3.0.0|parallelcluster:image_id|{NAME}"


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ([], "CREATE_COMPLETE"),
        ([("apply", "deployment.completed")], "UPDATE_COMPLETE"),
        ([("apply", "deployment.failed")], "UPDATE_FAILED"),
        ([("apply", "deployment.completed"), ("plan", "deployment.failed")], "UPDATE_COMPLETE"),
        ([("destroy", "deployment.failed")], "DELETE_FAILED"),
        ([("destroy", "deployment.completed")], "DELETE_COMPLETE"),
        ([("destroy", "deployment.completed"), ("apply", "deployment.failed")], "CREATE_FAILED"),
        ([("apply", "")], "UPDATE_IN_PROGRESS"),
    ],
)
async def test_the_status_is_that_of_the_last_mutating_deployment(
    server: Local, runs: list[tuple[str, str]], status: str
):
    for operation, ending in [("apply", "deployment.completed"), *runs]:
        opened = await server.open("web", operation=operation)
        if ending:
            await end(server, opened, ending)

    assert await statuses(server) == {"web": status}


async def test_a_stack_with_plans_only_is_in_review(server: Local):
    await server.open("web", operation="plan")

    assert await statuses(server) == {"web": "REVIEW_IN_PROGRESS"}


async def test_a_recorded_stack_has_its_recorded_status(server: Local):
    await server.store.log.append(collected(image_build()))

    assert await statuses(server) == {NAME: "ROLLBACK_COMPLETE"}


async def test_a_deleted_stack_is_described_by_its_arn_only(server: Local):
    await server.open("web")
    [stack] = members(await call(server, "DescribeStacks"), "Stacks")
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")
    await server.open("web")

    by_arn = members(await call(server, "DescribeStacks", StackName=stack["StackId"]), "Stacks")
    by_name = members(await call(server, "DescribeStacks", StackName="web"), "Stacks")

    assert [each["StackId"] for each in by_arn] == [stack["StackId"]]
    assert by_arn[0]["StackStatus"] == "DELETE_COMPLETE"
    assert by_arn[0]["DeletionTime"]
    assert by_name[0]["StackId"] != stack["StackId"]
    assert len(await statuses(server)) == 1


async def test_a_recorded_stack_whose_name_was_taken_is_found_by_its_arn(server: Local):
    other = ARN[:-1] + "7"
    events = [
        own_event("CREATE_IN_PROGRESS", "2022-03-30T23:26:01.120Z", arn=other),
        # The newest event belongs to a nested stack.
        own_event("CREATE_IN_PROGRESS", "2022-03-30T23:26:02.120Z", arn=NESTED),
    ]
    await server.store.log.append(collected(image_build()))
    await server.store.log.append(collected(events, arn=other, long=True))

    [stack] = members(await call(server, "DescribeStacks", StackName=other), "Stacks")

    assert (stack["StackId"], stack["StackName"]) == (other, NAME)


async def test_a_cluster_outside_the_catalog_is_described(server: Local):
    await server.append([line("deployment.started", scopes="cluster/hpc")])

    [stack] = members(await call(server, "DescribeStacks", StackName="hpc"), "Stacks")
    [again] = members(await call(server, "DescribeStacks", StackName=stack["StackId"]), "Stacks")

    assert stack == again
    assert stack["StackStatus"] == "CREATE_IN_PROGRESS"
    assert stack["Tags"].endswith("parallelcluster:cluster-name|hpc")


@pytest.mark.parametrize("name", ["nope", "arn:aws:x", f"{ARN}x", "a/b", "%"])
async def test_an_unknown_stack_is_refused_with_each_actions_message(server: Local, name: str):
    stacks = await call(server, "DescribeStacks", StackName=name)
    events = await call(server, "DescribeStackEvents", StackName=name)
    resource = await call(server, "DescribeStackResource", StackName=name, LogicalResourceId="A")

    recorded = [error_of(response) for response in (stacks, events, resource)]
    assert recorded == [
        (400, "ValidationError", f"Stack with id {name} does not exist"),
        (400, "ValidationError", f"Stack [{name}] does not exist"),
        (400, "ValidationError", f"Stack '{name}' does not exist"),
    ]


async def test_stacks_are_paged(server: Local):
    for number in range(101):
        await server.open(f"stack-{number}")

    first = await call(server, "DescribeStacks")
    following = token(first)
    assert following is not None
    second = await call(server, "DescribeStacks", NextToken=following)
    elsewhere = await call(
        server, "ListStacks", NextToken=following, **{"StackStatusFilter.member.1": "DELETE_FAILED"}
    )

    names = [
        stack["StackName"] for response in (first, second) for stack in members(response, "Stacks")
    ]
    assert names == [f"stack-{number}" for number in reversed(range(101))]
    assert token(second) is None
    assert error_of(elsewhere)[1] == "ValidationError"


# DescribeStackEvents


async def test_events_are_paged(server: Local):
    role = "AWS::IAM::Role"
    time = "2022-03-30T23:26:01.000Z"
    events = [stack_event("CREATE_COMPLETE", f"R{n}", role, time) for n in range(101)]
    await server.store.log.append(collected(events))

    first = await call(server, "DescribeStackEvents", StackName=ARN)
    following = token(first)
    assert following is not None
    second = await call(server, "DescribeStackEvents", StackName=NAME, NextToken=following)
    bad = await call(server, "DescribeStackEvents", StackName=NAME, NextToken=following + "A")

    assert len(members(first, "StackEvents")) == 100
    assert [each["LogicalResourceId"] for each in members(second, "StackEvents")] == ["R0"]
    assert token(second) is None
    assert error_of(bad) == (400, "ValidationError", "nextToken is not valid")


async def test_a_recorded_event_is_unchanged(server: Local):
    await server.store.log.append(collected(image_build()))

    events = members(await call(server, "DescribeStackEvents", StackName=NAME), "StackEvents")

    [failed] = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert (
        failed["ResourceStatusReason"]
        == 'Phase "build" <failed> & stopped\N{REPLACEMENT CHARACTER}[0m'
    )
    assert failed["ResourceProperties"].startswith('{"ImageRecipeArn"')
    assert events[0]["ResourceStatus"] == "ROLLBACK_COMPLETE"
    assert {event["StackId"] for event in events} == {ARN}


async def test_events_require_a_stack(server: Local):
    response = await call(server, "DescribeStackEvents")

    message = "The request must contain the parameter StackName"
    assert error_of(response) == (400, "MissingParameter", message)


# DescribeStackResource


async def test_a_resource_has_the_state_of_its_newest_event(server: Local):
    await server.store.log.append(collected(image_build()))

    response = await call(
        server, "DescribeStackResource", StackName=NAME, LogicalResourceId="InstanceRole"
    )
    missing = await call(server, "DescribeStackResource", StackName=NAME, LogicalResourceId="Nope")
    itself = await call(server, "DescribeStackResource", StackName=NAME, LogicalResourceId=NAME)

    assert response.status == 200
    document = response.body.decode()
    assert "<ResourceStatus>DELETE_COMPLETE</ResourceStatus>" in document
    assert "<LastUpdatedTimestamp>2022-03-30T23:58:40.900Z</LastUpdatedTimestamp>" in document
    message = "Resource Nope does not exist for stack alinux2-image"
    assert error_of(missing) == (400, "ValidationError", message)
    assert error_of(itself)[0] == 400


# ListStacks


async def test_a_list_includes_deleted_stacks_and_can_be_filtered(server: Local):
    for name in ("a", "b", "c"):
        await server.open(name)
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=b")

    everything = members(await call(server, "ListStacks"), "StackSummaries")
    deleted = await call(server, "ListStacks", **{"StackStatusFilter.member.1": "DELETE_COMPLETE"})

    assert [stack["StackName"] for stack in everything] == ["c", "b", "a"]
    assert [stack["StackName"] for stack in members(deleted, "StackSummaries")] == ["b"]


async def test_a_list_beyond_the_read_limit_has_a_short_page_and_loses_nothing(
    server: Local, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deploylog.api.aws.cloudformation.endpoints._MOST", 2)
    for name in ("a", "b", "c", "d", "e"):
        await server.open(name)
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=a")
    request = {"StackStatusFilter.member.1": "DELETE_COMPLETE"}

    responses = [await call(server, "ListStacks", **request)]
    while (following := token(responses[-1])) is not None:
        responses.append(await call(server, "ListStacks", NextToken=following, **request))

    pages = [
        [s["StackName"] for s in members(response, "StackSummaries")] for response in responses
    ]
    assert pages == [[], [], ["a"]]


# Access


async def test_a_hidden_stack_does_not_exist(server: Local):
    await server.open("web")
    await server.append([line("deployment.started", scopes="image/my-image")])
    stored, key = make_key(name="ci", groups=(), grants=[parse_grant("read:project/b")], now=now())
    await server.store.credentials.add(stored)

    async def ask(**parameters: str) -> Answer:
        form = urlencode({"Version": "2010-05-15", **parameters})
        return await server.post(form, FORM, "/", headers={"X-Api-Key": key})

    stacks = await ask(Action="DescribeStacks")
    named = [await ask(Action="DescribeStacks", StackName=name) for name in ("web", "my-image")]

    assert members(stacks, "Stacks") == []
    assert [error_of(response)[1] for response in named] == ["ValidationError"] * 2


# Other reads

READS = (
    "DescribeStackEvents",
    "DescribeEvents",
    "DescribeStackResources",
    "ListStackResources",
    "DescribeStacks",
    "ListChangeSets",
    "GetStackPolicy",
)


@pytest.mark.parametrize("action", [*READS, "GetTemplate", "GetTemplateSummary"])
async def test_a_deleted_stack_is_found_by_its_arn_but_not_by_its_name(server: Local, action: str):
    await server.open("gone")
    [stack] = members(await call(server, "DescribeStacks", StackName="gone"), "Stacks")
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=gone")

    named = await call(server, action, StackName="gone")
    by_arn = await call(server, action, StackName=stack["StackId"])

    assert error_of(named)[:2] == (400, "ValidationError")
    assert error_of(named)[2].endswith("does not exist")
    if action in READS:
        assert by_arn.status == 200
    else:
        message = f"Template is not available for stack {stack['StackId']}"
        assert error_of(by_arn) == (400, "ValidationError", message)


async def test_the_resources_of_a_stack_are_listed_page_by_page(
    server: Local, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deploylog.api.aws.cloudformation.endpoints.PAGE", 2)
    opened = await server.open("web")
    events = [
        line("resource.create.completed", resourcetype="aws_vpc", resourcename=name)
        for name in ("c", "a", "b", "gone")
    ]
    events.append(line("resource.delete.completed", resourcetype="aws_vpc", resourcename="gone"))
    for each in events:
        each.pop("scopes")
    await server.append(events, f"{EVENTS}?deployment={opened['id']}")

    first = await call(server, "ListStackResources", StackName="web")
    second = await call(server, "ListStackResources", StackName="web", NextToken=token(first) or "")

    pages = [members(response, "StackResourceSummaries") for response in (first, second)]
    ids = [[each["LogicalResourceId"] for each in page] for page in pages]
    assert ids == [["AwsVpcA", "AwsVpcB"], ["AwsVpcC"]]
    assert token(second) is None


async def test_events_can_be_limited_to_failures(server: Local):
    await server.store.log.append(collected(image_build()))

    response = await call(
        server, "DescribeEvents", StackName=NAME, **{"Filters.FailedEvents": "true"}
    )

    [event] = members(response, "OperationEvents")
    assert event["ResourceStatus"] == "CREATE_FAILED"
    wrong = await call(server, "DescribeEvents", StackName=NAME, **{"Filters.FailedEvents": "x"})
    assert error_of(wrong)[:2] == (400, "ValidationError")


async def test_there_are_no_change_sets_exports_or_stacks_by_physical_id(server: Local):
    await server.open("web")

    change_set = await call(server, "DescribeChangeSet", ChangeSetName="c", StackName="web")
    template = await call(server, "GetTemplate", ChangeSetName="c", StackName="web")
    imports = await call(server, "ListImports", ExportName="e")
    physical = await call(server, "DescribeStackResources", PhysicalResourceId="vpc-1")

    assert error_of(change_set) == (404, "ChangeSetNotFound", "ChangeSet [c] does not exist")
    assert error_of(template)[:2] == (404, "ChangeSetNotFound")
    assert error_of(imports)[2] == "Export 'e' is not imported by any stack."
    assert error_of(physical)[2] == "Stack for vpc-1 does not exist"
    assert members(await call(server, "ListExports"), "Exports") == []
