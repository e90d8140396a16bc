"""CloudFormation's actions over a real server."""

from collections.abc import AsyncIterator
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
async def server(store: Store) -> AsyncIterator[Local]:
    async with running(store, base_paths="/prod") as server:
        yield server


async def call(server: Local, action: str, *, how: str = "POST", **parameters: str) -> Answer:
    form = urlencode({"Action": action, "Version": "2010-05-15", **parameters})
    if how == "GET":
        return await server.get(f"/?{form}")
    return await server.post(form, FORM, "/")


def told(answer: Answer, member: str) -> list[dict[str, str]]:
    """The members of a list, each by the names of its parts."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/xml")
    root = ElementTree.fromstring(answer.body)
    [list] = root.iter(f"{{{NAMESPACE}}}{member}")
    return [{_name(part): _text(part) for part in each} for each in list]


def _name(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


def _text(element: ElementTree.Element) -> str:
    if len(element):
        return "|".join(_text(part) for part in element)
    return element.text or ""


def token(answer: Answer) -> str | None:
    return ElementTree.fromstring(answer.body).findtext(f".//{{{NAMESPACE}}}NextToken")


def refusal(answer: Answer) -> tuple[int, str, str]:
    root = ElementTree.fromstring(answer.body)
    assert _name(root) == "ErrorResponse"
    [error] = root.iter(f"{{{NAMESPACE}}}Error")
    parts = {_name(part): _text(part) for part in error}
    assert root.findtext(f"{{{NAMESPACE}}}RequestId") == answer.headers["x-amzn-requestid"]
    return answer.status, parts["Code"], parts["Message"]


async def end(server: Local, opened: Any, type: str) -> None:
    ended = {"type": type, "source": "terraform", "message": "because"}
    await server.append([ended], f"{EVENTS}?deployment={opened['id']}")


async def statuses(server: Local) -> dict[str, str]:
    """By name, of the stacks that exist."""
    stacks = told(await call(server, "DescribeStacks"), "Stacks")
    return {stack["StackName"]: stack["StackStatus"] for stack in stacks}


# The root


async def test_a_browser_is_led_to_the_documentation(server: Local):
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
async def test_no_query_of_a_stranger_is_a_fault_of_ours(server: Local, method: str, query: str):
    url = URL(f"{server.url}/?{query}", encoded=True)

    answer = await server.ask(method, url, allow_redirects=False)  # type: ignore[arg-type]

    assert answer.status == (400 if query == "Acti%6fn" else 307)


async def test_a_browser_needs_no_credentials_but_an_action_does(server: Local):
    stored, _ = make_key(name="ci", groups=(), grants=[parse_grant("read:/")], now=now())
    await server.store.credentials.add(stored)

    browser = await server.get("/", allow_redirects=False)
    posted = await call(server, "DescribeStacks")
    asked = await call(server, "DescribeStacks", how="GET")

    assert browser.status == 307
    for answer in (posted, asked):
        assert refusal(answer) == (
            403,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
        )


async def test_other_methods_are_refused_in_its_words(server: Local):
    answer = await server.ask("PUT", "/")

    assert refusal(answer)[:2] == (405, "InvalidAction")


@pytest.mark.parametrize("action", ["CreateStack", "describestacks", "Nope"])
async def test_an_action_that_is_not_there_is_refused(server: Local, action: str):
    answer = await call(server, action)

    message = f"Could not find operation {action} for version 2010-05-15"
    assert refusal(answer) == (400, "InvalidAction", message)


# DescribeStacks


async def test_a_stack_is_described_by_its_name_and_by_its_arn(server: Local):
    opened = await server.open("web")

    by_name = await call(server, "DescribeStacks", StackName="web")
    [stack] = told(by_name, "Stacks")
    by_arn = await call(server, "DescribeStacks", StackName=stack["StackId"], how="GET")

    region = "arn:aws:cloudformation:us-east-1:000000000000"
    assert stack["StackId"] == f"{region}:stack/web/{opened['stack_id']}"
    assert told(by_arn, "Stacks") == [stack]
    assert stack["StackStatus"] == "CREATE_IN_PROGRESS"
    assert stack["DisableRollback"] == "false"
    assert (stack["Parameters"], stack["Outputs"]) == ("", "")
    assert stack["Tags"] == "parallelcluster:version|3.0.0|parallelcluster:cluster-name|web"


async def test_the_operator_chooses_what_arns_and_tags_say(store: Store):
    async with running(
        store,
        cloudformation_region="eu-west-1",
        cloudformation_account="123456789012",
        parallelcluster_version="3.12.0",
    ) as server:
        await server.open("web")
        [stack] = told(await call(server, "DescribeStacks"), "Stacks")

    assert stack["StackId"].startswith("arn:aws:cloudformation:eu-west-1:123456789012:stack/web/")
    assert "|3.12.0|" in stack["Tags"]


async def test_a_stack_of_an_image_has_its_tag(server: Local):
    await server.store.log.append(collected(image_build(), beside=(image_scope(),)))

    [stack] = told(await call(server, "DescribeStacks", StackName=NAME), "Stacks")

    assert stack["StackId"] == ARN
    assert stack["Tags"] == f"parallelcluster:version|3.0.0|parallelcluster:image_id|{NAME}"


CLUSTER_TAGS = {"parallelcluster:version": "3.12.0", "parallelcluster:cluster-name": "prod"}


@pytest.mark.parametrize(
    ("tags", "shown"),
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
async def test_a_collected_stack_has_its_own_tags_and_those_that_pcluster_looks_for(
    server: Local, tags: dict[str, str], shown: dict[str, str]
):
    await server.store.log.append(collected(image_build(), tags=tags))

    [stack] = told(await call(server, "DescribeStacks"), "Stacks")

    words = stack["Tags"].split("|")
    assert dict(zip(words[::2], words[1::2], strict=True)) == shown


async def test_tags_are_the_last_that_a_collector_told(server: Local):
    async def shown(tags: dict[str, str] | None, minute: int) -> str:
        began = own_event("UPDATE_IN_PROGRESS", f"2022-03-30T23:{minute}:01.120Z")
        ended = own_event("UPDATE_COMPLETE", f"2022-03-30T23:{minute}:02.120Z")
        await server.store.log.append(collected([began, ended], tags=tags))
        [stack] = told(await call(server, "DescribeStacks", StackName=NAME), "Stacks")
        return str(stack["Tags"])

    first = await shown({**CLUSTER_TAGS, "k": "1"}, 10)
    second = await shown({**CLUSTER_TAGS, "k": "2"}, 20)
    # SNS and EventBridge tell no tags.
    third = await shown(None, 30)

    assert "k|1" in first
    assert "k|2" in second
    assert third == second


async def test_tags_of_another_stack_of_the_same_image_are_not_its_own(server: Local):
    other = ARN[:-1] + "7"
    again = [own_event("CREATE_IN_PROGRESS", "2022-03-31T01:00:00.000Z", arn=other)]
    beside = (image_scope(),)
    await server.store.log.append(collected(image_build(), beside=beside))
    await server.store.log.append(
        collected(again, arn=other, long=True, beside=beside, tags=CLUSTER_TAGS)
    )

    [stack] = told(await call(server, "DescribeStacks", StackName=ARN), "Stacks")

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
async def test_the_status_is_that_of_the_last_run_that_did_something(
    server: Local, runs: list[tuple[str, str]], status: str
):
    for operation, ending in [("apply", "deployment.completed"), *runs]:
        opened = await server.open("web", operation=operation)
        if ending:
            await end(server, opened, ending)

    assert await statuses(server) == {"web": status}


async def test_a_stack_that_was_only_planned_is_in_review(server: Local):
    await server.open("web", operation="plan")

    assert await statuses(server) == {"web": "REVIEW_IN_PROGRESS"}


async def test_a_collected_stack_has_the_status_that_it_said(server: Local):
    await server.store.log.append(collected(image_build()))

    assert await statuses(server) == {NAME: "ROLLBACK_COMPLETE"}


async def test_a_deleted_stack_is_described_by_its_arn_only(server: Local):
    await server.open("web")
    [stack] = told(await call(server, "DescribeStacks"), "Stacks")
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=web")
    await server.open("web")

    by_arn = told(await call(server, "DescribeStacks", StackName=stack["StackId"]), "Stacks")
    by_name = told(await call(server, "DescribeStacks", StackName="web"), "Stacks")

    assert [each["StackId"] for each in by_arn] == [stack["StackId"]]
    assert by_arn[0]["StackStatus"] == "DELETE_COMPLETE"
    assert by_arn[0]["DeletionTime"]
    assert by_name[0]["StackId"] != stack["StackId"]
    assert len(await statuses(server)) == 1


async def test_a_collected_stack_of_a_name_that_was_taken_is_found_by_its_arn(server: Local):
    other = ARN[:-1] + "7"
    events = [
        own_event("CREATE_IN_PROGRESS", "2022-03-30T23:26:01.120Z", arn=other),
        # What was said last was said of one that is nested in it.
        own_event("CREATE_IN_PROGRESS", "2022-03-30T23:26:02.120Z", arn=NESTED),
    ]
    await server.store.log.append(collected(image_build()))
    await server.store.log.append(collected(events, arn=other, long=True))

    [stack] = told(await call(server, "DescribeStacks", StackName=other), "Stacks")

    assert (stack["StackId"], stack["StackName"]) == (other, NAME)


async def test_what_was_recorded_as_a_cluster_is_described(server: Local):
    await server.append([line("deployment.started", scopes="cluster/hpc")])

    [stack] = told(await call(server, "DescribeStacks", StackName="hpc"), "Stacks")
    [again] = told(await call(server, "DescribeStacks", StackName=stack["StackId"]), "Stacks")

    assert stack == again
    assert stack["StackStatus"] == "CREATE_IN_PROGRESS"
    assert stack["Tags"].endswith("parallelcluster:cluster-name|hpc")


@pytest.mark.parametrize("name", ["nope", "arn:aws:x", f"{ARN}x", "a/b", "%"])
async def test_a_stack_that_is_not_there_is_refused_in_each_actions_words(server: Local, name: str):
    stacks = await call(server, "DescribeStacks", StackName=name)
    events = await call(server, "DescribeStackEvents", StackName=name)
    resource = await call(server, "DescribeStackResource", StackName=name, LogicalResourceId="A")

    said = [refusal(answer) for answer in (stacks, events, resource)]
    assert said == [
        (400, "ValidationError", f"Stack with id {name} does not exist"),
        (400, "ValidationError", f"Stack [{name}] does not exist"),
        (400, "ValidationError", f"Stack '{name}' does not exist"),
    ]


async def test_stacks_come_in_pages(server: Local):
    for number in range(101):
        await server.open(f"stack-{number}")

    first = await call(server, "DescribeStacks")
    following = token(first)
    assert following is not None
    second = await call(server, "DescribeStacks", NextToken=following)
    elsewhere = await call(
        server, "ListStacks", NextToken=following, **{"StackStatusFilter.member.1": "DELETE_FAILED"}
    )

    names = [stack["StackName"] for answer in (first, second) for stack in told(answer, "Stacks")]
    assert names == [f"stack-{number}" for number in reversed(range(101))]
    assert token(second) is None
    assert refusal(elsewhere)[1] == "ValidationError"


# DescribeStackEvents


async def test_events_come_in_pages(server: Local):
    role = "AWS::IAM::Role"
    time = "2022-03-30T23:26:01.000Z"
    events = [stack_event("CREATE_COMPLETE", f"R{n}", role, time) for n in range(101)]
    await server.store.log.append(collected(events))

    first = await call(server, "DescribeStackEvents", StackName=ARN)
    following = token(first)
    assert following is not None
    second = await call(server, "DescribeStackEvents", StackName=NAME, NextToken=following)
    bad = await call(server, "DescribeStackEvents", StackName=NAME, NextToken=following + "A")

    assert len(told(first, "StackEvents")) == 100
    assert [each["LogicalResourceId"] for each in told(second, "StackEvents")] == ["R0"]
    assert token(second) is None
    assert refusal(bad) == (400, "ValidationError", "nextToken is not valid")


async def test_an_event_says_what_cloudformation_said(server: Local):
    await server.store.log.append(collected(image_build()))

    events = told(await call(server, "DescribeStackEvents", StackName=NAME), "StackEvents")

    [failed] = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert (
        failed["ResourceStatusReason"]
        == 'Phase "build" <failed> & stopped\N{REPLACEMENT CHARACTER}[0m'
    )
    assert failed["ResourceProperties"].startswith('{"ImageRecipeArn"')
    assert events[0]["ResourceStatus"] == "ROLLBACK_COMPLETE"
    assert {event["StackId"] for event in events} == {ARN}


async def test_events_need_a_stack(server: Local):
    answer = await call(server, "DescribeStackEvents")

    message = "The request must contain the parameter StackName"
    assert refusal(answer) == (400, "MissingParameter", message)


# DescribeStackResource


async def test_a_resource_is_what_its_newest_event_says(server: Local):
    await server.store.log.append(collected(image_build()))

    answer = await call(
        server, "DescribeStackResource", StackName=NAME, LogicalResourceId="InstanceRole"
    )
    missing = await call(server, "DescribeStackResource", StackName=NAME, LogicalResourceId="Nope")
    itself = await call(server, "DescribeStackResource", StackName=NAME, LogicalResourceId=NAME)

    assert answer.status == 200
    document = answer.body.decode()
    assert "<ResourceStatus>DELETE_COMPLETE</ResourceStatus>" in document
    assert "<LastUpdatedTimestamp>2022-03-30T23:58:40.900Z</LastUpdatedTimestamp>" in document
    message = "Resource Nope does not exist for stack alinux2-image"
    assert refusal(missing) == (400, "ValidationError", message)
    assert refusal(itself)[0] == 400


# ListStacks


async def test_a_list_has_deleted_stacks_too_and_can_be_filtered(server: Local):
    for name in ("a", "b", "c"):
        await server.open(name)
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=b")

    everything = told(await call(server, "ListStacks"), "StackSummaries")
    deleted = await call(server, "ListStacks", **{"StackStatusFilter.member.1": "DELETE_COMPLETE"})

    assert [stack["StackName"] for stack in everything] == ["c", "b", "a"]
    assert [stack["StackName"] for stack in told(deleted, "StackSummaries")] == ["b"]


async def test_where_too_many_are_looked_at_a_list_is_short_and_nothing_is_lost(
    server: Local, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("deploylog.api.aws.cloudformation.endpoints._MOST", 2)
    for name in ("a", "b", "c", "d", "e"):
        await server.open(name)
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=a")
    asked = {"StackStatusFilter.member.1": "DELETE_COMPLETE"}

    answers = [await call(server, "ListStacks", **asked)]
    while (following := token(answers[-1])) is not None:
        answers.append(await call(server, "ListStacks", NextToken=following, **asked))

    pages = [[s["StackName"] for s in told(answer, "StackSummaries")] for answer in answers]
    assert pages == [[], [], ["a"]]


# Who may


async def test_who_may_not_see_a_stack_is_told_that_there_is_none(server: Local):
    await server.open("web")
    await server.append([line("deployment.started", scopes="image/my-image")])
    stored, key = make_key(name="ci", groups=(), grants=[parse_grant("read:project/b")], now=now())
    await server.store.credentials.add(stored)

    async def ask(**parameters: str) -> Answer:
        form = urlencode({"Version": "2010-05-15", **parameters})
        return await server.post(form, FORM, "/", headers={"X-Api-Key": key})

    stacks = await ask(Action="DescribeStacks")
    named = [await ask(Action="DescribeStacks", StackName=name) for name in ("web", "my-image")]

    assert told(stacks, "Stacks") == []
    assert [refusal(answer)[1] for answer in named] == ["ValidationError"] * 2


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
async def test_a_deleted_stacks_name_is_refused_and_its_arn_answers(server: Local, action: str):
    await server.open("gone")
    [stack] = told(await call(server, "DescribeStacks", StackName="gone"), "Stacks")
    await server.ask("DELETE", "/log/v1/stacks?project=acme&name=gone")

    named = await call(server, action, StackName="gone")
    by_arn = await call(server, action, StackName=stack["StackId"])

    assert refusal(named)[:2] == (400, "ValidationError")
    assert refusal(named)[2].endswith("does not exist")
    if action in READS:
        assert by_arn.status == 200
    else:
        message = f"Template is not available for stack {stack['StackId']}"
        assert refusal(by_arn) == (400, "ValidationError", message)


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

    pages = [told(answer, "StackResourceSummaries") for answer in (first, second)]
    ids = [[each["LogicalResourceId"] for each in page] for page in pages]
    assert ids == [["AwsVpcA", "AwsVpcB"], ["AwsVpcC"]]
    assert token(second) is None


async def test_failed_events_can_be_asked_for(server: Local):
    await server.store.log.append(collected(image_build()))

    answer = await call(
        server, "DescribeEvents", StackName=NAME, **{"Filters.FailedEvents": "true"}
    )

    [event] = told(answer, "OperationEvents")
    assert event["ResourceStatus"] == "CREATE_FAILED"
    wrong = await call(server, "DescribeEvents", StackName=NAME, **{"Filters.FailedEvents": "x"})
    assert refusal(wrong)[:2] == (400, "ValidationError")


async def test_there_are_no_change_sets_exports_or_stacks_by_physical_id(server: Local):
    await server.open("web")

    change_set = await call(server, "DescribeChangeSet", ChangeSetName="c", StackName="web")
    template = await call(server, "GetTemplate", ChangeSetName="c", StackName="web")
    imports = await call(server, "ListImports", ExportName="e")
    physical = await call(server, "DescribeStackResources", PhysicalResourceId="vpc-1")

    assert refusal(change_set) == (404, "ChangeSetNotFound", "ChangeSet [c] does not exist")
    assert refusal(template)[:2] == (404, "ChangeSetNotFound")
    assert refusal(imports)[2] == "Export 'e' is not imported by any stack."
    assert refusal(physical)[2] == "Stack for vpc-1 does not exist"
    assert told(await call(server, "ListExports"), "Exports") == []
