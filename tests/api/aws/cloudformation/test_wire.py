"""CloudFormation's calls and documents."""

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.api.aws.cloudformation.errors import QueryError
from deploylog.api.aws.cloudformation.wire import has_action, parse_call
from deploylog.api.aws.cloudformation.xml import NAMESPACE, render_error, render_result

VERSION = b"Version=2010-05-15"


def parse_error(form: bytes) -> tuple[str, str]:
    with pytest.raises(QueryError) as raised:
        parse_call(form)
    return raised.value.code, raised.value.message


def test_a_form_is_a_call():
    call = parse_call(b"Action=DescribeStacks&StackName=a%2Bb+c&" + VERSION)

    assert (call.action, call.stack_name, call.next_token) == ("DescribeStacks", "a+b c", None)


def test_the_last_of_a_repeated_parameter_counts():
    call = parse_call(b"Action=DescribeStacks&StackName=a&StackName=b&" + VERSION)

    assert call.stack_name == "b"


@pytest.mark.parametrize("form", [b"", VERSION, b"Action=&" + VERSION, b"\xff\xfe", b'{"a": 1}'])
def test_without_an_action_there_is_no_call(form: bytes):
    assert parse_error(form) == (
        "MissingAction",
        "The request is missing an action or a required parameter",
    )


@pytest.mark.parametrize(
    ("form", "version"),
    [
        (b"Action=DescribeStacks", "NO_VERSION_SPECIFIED"),
        (b"Action=DescribeStacks&Version=", "NO_VERSION_SPECIFIED"),
        (b"Action=DescribeStacks&Version=2012-11-05", "2012-11-05"),
    ],
)
def test_another_version_has_no_such_action(form: bytes, version: str):
    message = f"Could not find operation DescribeStacks for version {version}"

    assert parse_error(form) == ("InvalidAction", message)


def test_a_missing_required_parameter_is_refused():
    call = parse_call(b"Action=DescribeStackEvents&StackName=&" + VERSION)

    with pytest.raises(QueryError, match="must contain the parameter LogicalResourceId") as missing:
        call.require("LogicalResourceId")
    with pytest.raises(QueryError, match="Value '' at 'stackName' failed to satisfy") as empty:
        call.require("StackName")

    assert (missing.value.code, empty.value.code) == ("MissingParameter", "ValidationError")


@pytest.mark.parametrize("token", [b"", b"x" * 1025])
def test_a_token_has_1_to_1024_characters(token: bytes):
    call = parse_call(b"Action=ListStacks&NextToken=" + token + b"&" + VERSION)

    with pytest.raises(QueryError, match="at 'nextToken' failed to satisfy"):
        _ = call.next_token


def test_statuses_are_those_of_stacks():
    form = b"Action=ListStacks&StackStatusFilter.member.%d=%s&" + VERSION

    good = parse_call(form % (1, b"CREATE_COMPLETE") + b"&StackStatusFilter.member.2=UPDATE_FAILED")
    bad = parse_call(form % (1, b"DONE"))

    assert good.statuses == {"CREATE_COMPLETE", "UPDATE_FAILED"}
    with pytest.raises(QueryError, match=r"Value '\[DONE\]' at 'stackStatusFilter'"):
        _ = bad.statuses


@pytest.mark.parametrize(
    ("query", "expected"),
    [(b"", False), (b"a=b", False), (b"action=x", False), (b"Action=x", True), (b"Action", True)],
)
def test_a_query_with_an_action_is_a_call(query: bytes, expected: bool):
    assert has_action(query) == expected


def test_a_document_has_the_published_form():
    result: dict[str, Any] = {
        "Stacks": [{"StackName": "a", "Tags": [], "Gone": None}],
        "NextToken": None,
    }

    assert render_result("DescribeStacks", result, "id-1").decode() == (
        "<?xml version='1.0' encoding='utf-8'?>\n"
        '<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">'
        "<DescribeStacksResult><Stacks><member><StackName>a</StackName><Tags /></member></Stacks>"
        "</DescribeStacksResult>"
        "<ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata>"
        "</DescribeStacksResponse>\n"
    )


def test_an_error_has_the_published_form():
    document = render_error(type="Sender", code="ValidationError", message="a <b>", request_id="1")

    assert document.decode() == (
        "<?xml version='1.0' encoding='utf-8'?>\n"
        '<ErrorResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">'
        "<Error><Type>Sender</Type><Code>ValidationError</Code>"
        "<Message>a &lt;b&gt;</Message></Error>"
        "<RequestId>1</RequestId></ErrorResponse>\n"
    )


@given(st.text(alphabet=st.characters(codec=None)))
def test_every_text_renders_as_valid_xml(text: str):
    document = render_result("A", {"Text": text}, "1")

    [result] = ElementTree.fromstring(document).iter(f"{{{NAMESPACE}}}Text")
    visible = result.text or ""
    # XML reads both as a line's end.
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    assert len(visible) == len(lines)
    assert all(a in (b, "\N{REPLACEMENT CHARACTER}") for a, b in zip(visible, lines, strict=True))
