"""ARNs of stacks."""

from uuid import UUID

import pytest

from deploylog.api.aws.stacks.arn import Account, is_stack_of, kinds_of, parse_arn
from deploylog.deployments.catalog import Stack
from deploylog.events.scope import Scope, scope
from deploylog.ingest.cloudformation.rendering import StackContext
from support.stacks import ARN, NAME

PLACE = Account(region="eu-west-1", account="123456789012")
ID = "0d8a4c1e-31f2-4a39-9a1c-7f1f5a1d9c11"


def stack(id: str = ID, name: str = "web") -> Stack:
    return Stack(id=id, project="acme", name=name, created=1, deleted=None, scopes=(), groups=())


def test_an_arn_is_parsed_into_its_parts():
    arn = parse_arn(ARN)

    assert arn is not None
    assert (arn.text, arn.region, arn.name) == (ARN, "us-east-1", NAME)
    assert arn.names == (NAME, f"{NAME}/{arn.id}")


@pytest.mark.parametrize("name", ["web", "a/b", "网络", "with blank"])
def test_our_own_arns_are_parsed(name: str):
    arn = parse_arn(PLACE.arn_of(stack(name=name)))

    assert arn is not None
    assert (arn.name, arn.id) == (name, ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web",
        "arn:aws:s3:us-east-1:123456789012:stack/web/1",
        "arn:aws:cloudformation:us-east-1:1234:stack/web/1",
        "arn:aws:cloudformation:us-east-1:123456789012:stack/web",
        "arn:aws:cloudformation:us-east-1:123456789012:stackset/web/1",
    ],
)
def test_other_text_is_not_an_arn(text: str):
    assert parse_arn(text) is None


def test_an_arn_ends_in_a_uuid_for_any_id():
    odd, scoped = PLACE.arn_of(stack("stack-1")), PLACE.arn_in(scope("image", "a"), "a")

    for arn in (odd, scoped):
        assert UUID(arn.rpartition("/")[2])
    assert odd == PLACE.arn_of(stack("stack-1"))
    assert odd != PLACE.arn_of(stack("stack-2"))


def test_a_long_name_leaves_room_for_the_uuid():
    arn = parse_arn(PLACE.arn_of(stack(name="n" * 128)))

    assert arn is not None
    assert [len(name) for name in arn.names] == [128, 128]


def test_a_collectors_stack_is_recognized_by_its_id():
    assert is_stack_of(stack(StackContext(project="acme", arn=ARN).stack_id), ARN)
    assert not is_stack_of(stack(StackContext(project="other", arn=ARN).stack_id), ARN)
    assert not is_stack_of(stack(), ARN)


def test_scopes_determine_a_stacks_kinds():
    assert kinds_of((scope("image", "a"), scope("project", "cluster"))) == {"image"}
    assert kinds_of((scope("cluster", "a"), Scope(""))) == {"cluster"}
