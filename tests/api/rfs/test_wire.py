"""RFS's wire format: request, filter, field selection, markers and pages."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.api.rfs.errors import RfsError
from deploylog.api.rfs.wire import (
    EVENT_TYPES,
    Bound,
    StackEventsRequest,
    parse_fields,
    parse_filter,
    parse_marker,
    parse_request,
    render_event,
    render_marker,
    render_page,
)
from deploylog.errors import DeploylogError, Forbidden
from deploylog.events.chronology import Moment
from deploylog.events.event import Event, Resource
from deploylog.events.scope import stack_scope

GOLDEN = Path(__file__).parent / "golden"

PROJECT = "ba2b9930c977f71edaeaa3a5e96a8ff1"
STACK = "my_hello_world_stack"
STACK_ID = "0d8a4c1e-31f2-4a39-9a1c-7f1f5a1d9c11"
DEPLOYMENT_ID = "81edbb3e-00d9-42fd-94c8-59c7525d0f28"
REQUEST_ID = "4d5f3a1e-0c7e-4c3b-9d53-9a7f1c2b3d4e"

SECOND = 1_000_000_000
#: 2023-05-17T11:56:31Z
START = 1_684_324_591


def recorded(position: int = 1, type: str = "deployment.log", **fields: Any) -> Event:
    defaults: dict[str, Any] = {"time": START * SECOND, "message": "said"}
    return Event(
        type=type,
        source="test",
        scopes=(stack_scope(PROJECT, STACK_ID),),
        position=position,
        id=str(position),
        recorded=0,
        **(defaults | fields),
    )


def bound(side: Any, position: int, time: int = START * SECOND) -> Bound:
    return Bound(side, Moment(time, position))


def vpc(**fields: str) -> Resource:
    return Resource(**({"type": "huaweicloud_vpc", "name": "vpc"} | fields))


def parse(query: str | bytes = b"", **arguments: Any) -> StackEventsRequest:
    defaults = {
        "project_id": PROJECT,
        "stack_name": STACK,
        "headers": {"client-request-id": REQUEST_ID},
        "body": b"",
    }
    raw = query if isinstance(query, bytes) else query.encode()
    return parse_request(query_string=raw, **(defaults | arguments))


def code_of(query: str | bytes = b"", **arguments: Any) -> str:
    with pytest.raises(RfsError) as caught:
        parse(query, **arguments)
    return caught.value.code


def page_of(
    events: Sequence[Event], query: str = "", bound: Bound | None = None
) -> tuple[list[str], dict[str, Any]]:
    """The messages on the page, and its ``page_info``."""
    body = json.loads(render_page(events, parse(query), STACK_ID, bound))
    return [event["event_message"] for event in body["stack_events"]], body["page_info"]


# The request


def test_a_plain_request_selects_all_events_of_rfs() -> None:
    request = parse()

    assert (request.project_id, request.stack_name) == (PROJECT, STACK)
    assert (request.stack_id, request.deployment_id) == (None, None)
    assert (request.fields, request.marker, request.limit) == (None, None, None)
    [visible] = request.filter.all_of
    assert (visible.field, set(visible.values)) == ("type", set(EVENT_TYPES))


@pytest.mark.parametrize(
    "query",
    [
        "filter=event_type==LOG,resource_name==my_hello_world_resource",
        "filter=event_type%3D%3DLOG%2Cresource_name%3D%3Dmy_hello_world_resource",
    ],
)
def test_a_filter_may_be_percent_encoded_or_raw(query: str) -> None:
    request = parse(query)

    assert request.filter == parse_filter("event_type==LOG,resource_name==my_hello_world_resource")


def test_a_raw_bar_and_an_encoded_one_are_the_same() -> None:
    raw = parse("filter=event_type==LOG|event_type==ERROR")
    encoded = parse("filter=event_type%3D%3DLOG%7Cevent_type%3D%3DERROR")

    assert raw == encoded


def test_a_semicolon_does_not_separate_parameters() -> None:
    request = parse("filter=event_type==LOG;limit=5")

    assert request.limit is None
    assert request.filter_text == "event_type==LOG;limit=5"


def test_a_plus_stays_a_plus() -> None:
    request = parse("marker=a%20b%2Bc+d%2F~e%3D%3D")

    assert request.marker == "a b+c+d/~e=="


def test_empty_values_mean_absent() -> None:
    assert parse("field=&filter=&marker=&&") == parse()


def test_unknown_parameters_are_ignored_unless_strict() -> None:
    assert parse("x=1&x=2&y") == parse()
    assert code_of("x=1", strict=True) == "RF.10011002"
    assert parse("filter=&&", strict=True) == parse()


def test_ids_come_from_the_body_where_the_query_has_none() -> None:
    body = msgspec.json.encode({"stack_id": STACK_ID, "deployment_id": DEPLOYMENT_ID})

    request = parse(f"stack_id={REQUEST_ID}", body=body)

    assert (request.stack_id, request.deployment_id) == (REQUEST_ID, DEPLOYMENT_ID)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"stack_id"',
        b"\xff",
        b'{"stack_id":"\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"stack_id":null,"filter":"nonsense","limit":0}',
    ],
)
def test_a_body_that_names_no_id_is_ignored(body: bytes) -> None:
    assert parse(body=body) == parse()


def test_a_marker_without_a_limit_means_a_hundred() -> None:
    assert parse("marker=x").limit == 100
    assert parse("marker=x&limit=7").limit == 7


@pytest.mark.parametrize("limit", [1, 9, 10, 999, 1000])
def test_a_limit_is_one_to_a_thousand(limit: int) -> None:
    assert parse(f"limit={limit}").limit == limit


@pytest.mark.parametrize("name", ["web", "W", "web-1_b", "测试-stack_1", "栈", "a" * 128])
def test_a_stack_name_may_be_chinese(name: str) -> None:
    assert parse(stack_name=name).stack_name == name


@pytest.mark.parametrize("id", ["1", "build-7", "build_7", "a" * 128, REQUEST_ID])
def test_a_request_id_need_not_be_a_uuid(id: str) -> None:
    assert parse(headers={"client-request-id": id}) == parse()


@pytest.mark.parametrize("project_id", ["a", "qa", PROJECT, "a" * 64])
def test_a_project_id_may_be_short(project_id: str) -> None:
    assert parse(project_id=project_id).project_id == project_id


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("stack_id=", "RF.10011006"),
        ("deployment_id=", "RF.10011006"),
        (f"stack_id={STACK_ID[:-1]}", "RF.10011006"),
        (f"stack_id={STACK_ID}0", "RF.10011005"),
        (f"deployment_id={DEPLOYMENT_ID[:-1]}", "RF.10011006"),
        (f"deployment_id={DEPLOYMENT_ID}0", "RF.10011005"),
        (f"deployment_id={DEPLOYMENT_ID[:-1]}%00", "RF.10011008"),
        (f"stack_id={STACK_ID[:-1]}_", "RF.10011008"),
        ("filter=&filter=", "RF.10011093"),
        ("limit=1&limit=1", "RF.10011093"),
        ("fi%6Cter=&filter=", "RF.10011093"),
        ("limit", "RF.10011036"),
        ("limit=", "RF.10011036"),
        ("limit=0", "RF.10011036"),
        ("limit=1001", "RF.10011036"),
        ("limit=-1", "RF.10011036"),
        ("limit=+1", "RF.10011036"),
        ("limit=1.0", "RF.10011036"),
        ("limit=ten", "RF.10011036"),
        ("limit=%D9%A1", "RF.10011036"),
        (f"limit={'9' * 5000}", "RF.10011036"),
        ("filter=event_type", "RF.10011088"),
        ("field=x", "RF.10011002"),
    ],
)
def test_an_invalid_query_is_refused(query: str, code: str) -> None:
    assert code_of(query) == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"headers": {}}, "RF.10011001"),
        ({"headers": {"client-request-id": ""}}, "RF.10011006"),
        ({"headers": {"client-request-id": "a" * 129}}, "RF.10011005"),
        ({"headers": {"client-request-id": "a" * 35 + "."}}, "RF.10011031"),
        ({"headers": {"client-request-id": "a" * 36 + "\n"}}, "RF.10011031"),
        ({"project_id": ""}, "RF.10011006"),
        ({"project_id": "a" * 65}, "RF.10011005"),
        ({"project_id": "a_b"}, "RF.10011016"),
        ({"project_id": "abc\n"}, "RF.10011016"),
        ({"stack_name": ""}, "RF.10011010"),
        ({"stack_name": "a" * 129}, "RF.10011010"),
        ({"stack_name": "1web"}, "RF.10011010"),
        ({"stack_name": "web.1"}, "RF.10011010"),
        ({"stack_name": "web\n"}, "RF.10011010"),
        ({"stack_name": "wéb"}, "RF.10011010"),
        ({"body": b'{"stack_id": 1}'}, "RF.10011038"),
        ({"body": b'{"deployment_id": ""}'}, "RF.10011006"),
    ],
)
def test_an_invalid_header_path_or_body_is_refused(arguments: dict[str, Any], code: str) -> None:
    assert code_of(**arguments) == code


@pytest.mark.parametrize(
    ("mended", "code"),
    [
        ({}, "RF.10011001"),
        ({"headers": {"client-request-id": REQUEST_ID, "x-project-id": "x"}}, "RF.10011006"),
    ],
)
def test_the_header_is_checked_before_the_path(mended: dict[str, Any], code: str) -> None:
    wrong: dict[str, Any] = {"headers": {}, "project_id": "", "stack_name": ""}

    assert code_of("limit=x", **(wrong | mended)) == code


def test_the_path_is_checked_before_the_query() -> None:
    assert code_of("limit=x", stack_name="") == "RF.10011010"


def test_the_query_is_checked_before_the_project_header() -> None:
    headers = {"client-request-id": REQUEST_ID, "x-project-id": "another"}

    assert code_of("limit=x", headers=headers) == "RF.10011036"
    with pytest.raises(Forbidden):
        parse(headers=headers)


@pytest.mark.parametrize("project", ["", PROJECT])
def test_the_project_header_may_be_empty_or_name_the_project(project: str) -> None:
    headers = {"client-request-id": REQUEST_ID, "x-project-id": project}

    assert parse(headers=headers) == parse()


def test_an_error_names_the_parameter() -> None:
    with pytest.raises(RfsError) as caught:
        parse("limit=x")

    assert caught.value.field == "limit"
    assert caught.value.message == "The value of parameter is not a valid instance of integer."


@given(query=st.binary(max_size=200), body=st.binary(max_size=50), name=st.text(max_size=20))
def test_any_query_is_a_request_or_our_error(query: bytes, body: bytes, name: str) -> None:
    with suppress(DeploylogError):
        parse(query, body=body, stack_name=name)


# The filter

SUBNET = Resource(type="huaweicloud_vpc_subnet", name="net_a")

EXAMPLE = [
    recorded(7, "deployment.log"),
    recorded(6, "deployment.summary"),
    recorded(5, "resource.create.completed", resource=vpc()),
    recorded(4, "resource.create.started", resource=vpc()),
    recorded(3, "resource.create.failed", resource=SUBNET),
    recorded(2, "deployment.error", resource=SUBNET),
    recorded(1, "resource.delete.completed", resource=vpc(name="LOG")),
]

ALL = [0, 1, 2, 3, 4, 5, 6]

CREATED = "event_type==CREATION_FAILED|event_type==CREATION_COMPLETE"
NARROW = (
    "resource_type==huaweicloud_vpc,"
    "event_type==CREATION_COMPLETE|event_type==CREATION_IN_PROGRESS,"
    "resource_name==vpc"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ALL),
        ("event_type==LOG", [0]),
        ("event_type==LOG|event_type==ERROR", [0, 5]),
        (f"{CREATED},resource_type==huaweicloud_vpc", [2]),
        (NARROW, [2, 3]),
        ("resource_name==LOG", [6]),
        ("event_type==log", []),
        ("event_type==NOPE", []),
        ("event_type==LOG;resource_name==vpc", ALL),
        (";;(((", ALL),
        ("event_type==LOG|event_type==LOG", [0]),
        ("event_type==NOPE|event_type==LOG", [0]),
        ("resource_type==huaweicloud_vpc_subnet", [4, 5]),
        (f"{'a' * 511};", ALL),
    ],
)
def test_a_filter_finds(text: str, expected: list[int]) -> None:
    wanted = parse_filter(text)

    assert [at for at, event in enumerate(EXAMPLE) if wanted.matches(event)] == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("event_type==LOG,event_type==ERROR", "RF.10011093"),
        ("event_type==LOG|resource_name==vpc", "RF.10011028"),
        ("event_type=LOG", "RF.10011088"),
        ("event_type!=LOG", "RF.10011088"),
        ("event_type", "RF.10011088"),
        ("event_type==", "RF.10011089"),
        ("event_type===LOG", "RF.10011089"),
        ("resource_name==net-a", "RF.10011089"),
        ("resource_name==vpc\n", "RF.10011089"),
        ("resource_name==é", "RF.10011089"),
        ("(event_type==LOG)", "RF.10011087"),
        ("resource_key==0", "RF.10011087"),
        ("time==x", "RF.10011087"),
        ("event_type == LOG", "RF.10011087"),
        ("event_type==LOG,", "RF.10011088"),
        (",event_type==LOG", "RF.10011088"),
        ("event_type==LOG||event_type==ERROR", "RF.10011088"),
        ("a" * 513, "RF.10011005"),
        (";" * 513, "RF.10011005"),
        ("event_type==LOG|resource_name==vpc,nonsense", "RF.10011088"),
    ],
)
def test_an_invalid_filter_is_refused(text: str, code: str) -> None:
    with pytest.raises(RfsError) as caught:
        parse_filter(text)

    assert (caught.value.code, caught.value.field) == (code, "filter")


@pytest.mark.parametrize("text", ["", "event_type==LOG", ";"])
def test_types_without_an_rfs_type_are_left_out(text: str) -> None:
    assert not parse_filter(text).matches(recorded(type="acl.granted"))


@pytest.mark.parametrize("theirs", sorted(set(EVENT_TYPES.values())))
def test_each_rfs_type_finds_exactly_the_events_rendered_as_it(theirs: str) -> None:
    wanted = parse_filter(f"event_type=={theirs}")

    found = {type for type in EVENT_TYPES if wanted.matches(recorded(type=type))}

    assert found == {type for type in EVENT_TYPES if EVENT_TYPES[type] == theirs}


@given(st.text(alphabet="event_ypLOG=,|;rsoucna(-", max_size=60) | st.text(max_size=60))
def test_any_filter_text_is_a_filter_or_a_code(text: str) -> None:
    with suppress(RfsError):
        parse_filter(text).matches(EXAMPLE[0])


# Field selection

COMPLETE = recorded(
    type="resource.create.completed",
    message="vpc[0]: Creation complete after 8s",
    elapsed=8 * SECOND,
    resource=vpc(key="0", id_key="id", id_value="38d617da"),
)

WHOLE = {
    "resource_type": "huaweicloud_vpc",
    "resource_name": "vpc",
    "resource_key": "0",
    "elapsed_seconds": 8,
    "event_message": "vpc[0]: Creation complete after 8s",
    "event_type": "CREATION_COMPLETE",
    "resource_id_key": "id",
    "resource_id_value": "38d617da",
    "time": "2023-05-17T11:56:31Z",
}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", set(WHOLE)),
        ("resource_key,resource_name", {"resource_key", "resource_name", "event_type"}),
        ("event_type", {"event_type"}),
        ("event_type,event_type", {"event_type"}),
        ("event_type,time,event_type", {"event_type", "time"}),
        ("timestamp", {"event_type", "time"}),
        ("time", {"event_type", "time"}),
        (
            "elapsed_seconds,event_message,resource_id_key,resource_id_value,resource_key,"
            "resource_type,resource_name,timestamp",
            set(WHOLE),
        ),
    ],
)
def test_field_selects_keys_and_the_type_always(text: str, keys: set[str]) -> None:
    visible = render_event(COMPLETE, parse_fields(text))

    assert visible == {key: value for key, value in WHOLE.items() if key in keys}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a" * 129, "RF.10011005"),
        (",", "RF.10011037"),
        ("timestamp,", "RF.10011037"),
        ("timestamp,,time", "RF.10011037"),
        ("timestamp, event_message", "RF.10011031"),
        ("event-message", "RF.10011031"),
        ("elapsed", "RF.10011002"),
        ("Timestamp", "RF.10011002"),
        ("timestamp,timestamp", "RF.10011093"),
        ("timestamp,time", "RF.10011093"),
    ],
)
def test_an_invalid_field_is_refused(text: str, code: str) -> None:
    with pytest.raises(RfsError) as caught:
        parse_fields(text)

    assert (caught.value.code, caught.value.field) == (code, "field")


def test_a_selected_key_that_the_event_does_not_have_stays_absent() -> None:
    assert render_event(recorded(), parse_fields("resource_key")) == {"event_type": "LOG"}


# Events


def test_an_event_has_only_the_keys_that_it_has_values_for() -> None:
    event = recorded(resource=vpc())

    assert render_event(event, None) == {
        "resource_type": "huaweicloud_vpc",
        "resource_name": "vpc",
        "event_message": "said",
        "event_type": "LOG",
        "time": "2023-05-17T11:56:31Z",
    }


def test_time_is_truncated_to_seconds() -> None:
    event = recorded(time=START * SECOND + 999_999_999)

    assert render_event(event, None)["time"] == "2023-05-17T11:56:31Z"


@pytest.mark.parametrize(
    ("elapsed", "seconds"), [(0, 0), (499_999_999, 0), (500_000_001, 1), (8 * SECOND, 8)]
)
def test_elapsed_is_rounded_to_an_integer(elapsed: int, seconds: int) -> None:
    visible = render_event(recorded(elapsed=elapsed), None)["elapsed_seconds"]

    assert (visible, type(visible)) == (seconds, int)


@pytest.mark.parametrize("message", ["Apply required resource success. ", "\n", ""])
def test_a_message_is_never_truncated(message: str) -> None:
    assert render_event(recorded(message=message), None)["event_message"] == message


def test_an_event_without_a_message_has_its_type_as_message() -> None:
    event = recorded(type="resource.create.started", message=None)

    assert render_event(event, None)["event_message"] == "resource create started"


# Pages


def test_the_published_example_is_rendered_exactly() -> None:
    id = "38d617da-9b7f-4550-9ff7-d0e271dd4735"
    events = [
        recorded(
            5,
            time=(START + 16) * SECOND,
            message="Apply required resource success. ",
        ),
        recorded(
            4,
            "deployment.summary",
            time=(START + 14) * SECOND,
            message="Apply complete! Resources: 1 added, 0 changed, 0 destroyed.",
        ),
        recorded(
            3,
            "resource.create.completed",
            time=(START + 9) * SECOND,
            elapsed=8 * SECOND,
            message=f"huaweicloud_vpc.vpc: Creation complete after 8s [id={id}]",
            resource=vpc(id_key="id", id_value=id),
        ),
        recorded(
            2,
            "resource.create.started",
            time=(START + 1) * SECOND,
            message="huaweicloud_vpc.vpc: Creating...",
            resource=vpc(),
        ),
        recorded(1, message="Creating required resource now"),
    ]

    body = render_page(events, parse(), STACK_ID, None)

    golden = (GOLDEN / "published_example.json").read_bytes()
    assert msgspec.json.format(body, indent=2) == golden.rstrip(b"\n")


def test_a_middle_page_is_stable_after_its_markers_were_issued() -> None:
    request = parse(f"deployment_id={DEPLOYMENT_ID}&filter=event_type==LOG&limit=2&field=timestamp")
    events = [recorded(position) for position in (5, 4, 3)]

    body = render_page(events, request, STACK_ID, bound("older", 6))

    golden = (GOLDEN / "page.json").read_bytes()
    assert msgspec.json.format(body, indent=2) == golden.rstrip(b"\n")


def test_no_events_are_an_empty_list() -> None:
    body = json.loads(render_page([], parse("limit=5"), STACK_ID, bound("older", 9)))

    assert body == {"stack_events": [], "page_info": {"current_count": 0}}


def test_events_are_sorted_by_time_and_then_by_position() -> None:
    events = [
        recorded(4, time=(START + 1) * SECOND, message="fourth"),
        recorded(3, time=(START + 5) * SECOND, message="third"),
        recorded(2, time=(START + 1) * SECOND, message="second"),
        recorded(1, time=(START + 3) * SECOND, message="first"),
    ]

    messages, _ = page_of(events)

    assert messages == ["third", "first", "fourth", "second"]


def test_a_complete_response_has_no_markers() -> None:
    events = [recorded(position) for position in range(2000, 0, -1)]

    messages, info = page_of(events)

    assert len(messages) == 2000
    assert info == {"current_count": 2000}


def test_the_first_of_many_pages_has_only_a_next_marker() -> None:
    _, info = page_of([recorded(3), recorded(2), recorded(1)], "limit=2")

    assert info.keys() == {"next_marker", "current_count"}
    assert info["current_count"] == 2


def test_an_exactly_full_page_is_the_last() -> None:
    _, info = page_of([recorded(2), recorded(1)], "limit=2")

    assert info == {"current_count": 2}


def test_markers_bound_the_page_on_both_sides() -> None:
    _, info = page_of([recorded(5), recorded(4), recorded(3)], "limit=2", bound("older", 9))

    older = parse_marker(parse(f"limit=2&marker={info['next_marker']}"), STACK_ID)
    newer = parse_marker(parse(f"limit=2&marker={info['previous_marker']}"), STACK_ID)
    assert (older, newer) == (bound("older", 4), bound("newer", 5))


def test_a_previous_page_has_the_nearest_newer_events_newest_first() -> None:
    events = [recorded(at, time=(START + at) * SECOND, message=str(at)) for at in (6, 7, 8)]

    messages, info = page_of(events, "limit=2", bound("newer", 5, (START + 5) * SECOND))

    assert messages == ["7", "6"]
    older = parse_marker(parse(f"marker={info['next_marker']}"), STACK_ID)
    newer = parse_marker(parse(f"marker={info['previous_marker']}"), STACK_ID)
    assert (older, newer) == (
        bound("older", 6, (START + 6) * SECOND),
        bound("newer", 7, (START + 7) * SECOND),
    )


def test_the_first_page_reached_backwards_has_no_previous_marker() -> None:
    _, info = page_of([recorded(6), recorded(7)], "limit=2", bound("newer", 5))

    assert info.keys() == {"next_marker", "current_count"}


# Markers


@given(
    side=st.sampled_from(["older", "newer"]),
    time=st.integers(0, (1 << 63) - 1),
    position=st.integers(0, (1 << 40) - 1),
    filter=st.sampled_from(["", "filter=event_type==LOG", "filter=;"]),
)
def test_a_marker_contains_its_bound(side: Any, time: int, position: int, filter: str) -> None:
    marker = render_marker(Bound(side, Moment(time, position)), parse(filter), STACK_ID)

    request = parse(f"{filter}&marker={marker}&limit=3&field=timestamp")
    assert parse_marker(request, STACK_ID) == Bound(side, Moment(time, position))
    assert set(marker) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def test_without_a_marker_there_is_no_bound() -> None:
    assert parse_marker(parse(), STACK_ID) is None


MARKER = render_marker(bound("older", 42), parse(), STACK_ID)


@pytest.mark.parametrize(
    ("query", "stack_id"),
    [
        (f"marker={MARKER}&filter=event_type==LOG", STACK_ID),
        (f"marker={MARKER}&deployment_id={DEPLOYMENT_ID}", STACK_ID),
        (f"marker={MARKER}", DEPLOYMENT_ID),
        (f"marker={MARKER[:-1]}", STACK_ID),
        (f"marker={MARKER}A", STACK_ID),
        (f"marker={MARKER[:-4]}AAAA", STACK_ID),
        (f"marker=B{MARKER[1:]}", STACK_ID),
        (f"marker={'_' * 32}", STACK_ID),
        ("marker=a%20b%2Bc%2F~d%3D%3D", STACK_ID),
        ("marker=%00", STACK_ID),
        ("marker=42", STACK_ID),
    ],
)
def test_a_marker_of_another_request_or_origin_is_refused(query: str, stack_id: str) -> None:
    with pytest.raises(RfsError) as caught:
        parse_marker(parse(query), stack_id)

    assert (caught.value.code, caught.value.field) == ("RF.10011038", "marker")


# The client


@pytest.fixture
def sdk_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Importing the SDK writes a file below HOME.
    monkeypatch.setenv("HOME", str(tmp_path))
    aos = pytest.importorskip("huaweicloudsdkaos.v1")
    return aos.AosClient()


def read_by(sdk_client: Any, body: bytes) -> Any:
    response = SimpleNamespace(text=body.decode(), headers={})
    return sdk_client.deserialize(response, "ListStackEventsResponse", None)


def test_the_sdk_reads_every_key(sdk_client: Any) -> None:
    response = read_by(sdk_client, render_page([COMPLETE], parse(), STACK_ID, None))

    [event] = response.stack_events
    assert event.to_dict() == WHOLE
    assert response.page_info.to_dict() == {
        "next_marker": None,
        "previous_marker": None,
        "current_count": 1,
    }


def test_the_sdk_reads_the_markers(sdk_client: Any) -> None:
    events = [recorded(5), recorded(4), recorded(3)]
    body = render_page(events, parse("limit=2"), STACK_ID, bound("older", 6))

    response = read_by(sdk_client, body)

    assert response.page_info.next_marker == json.loads(body)["page_info"]["next_marker"]
    assert response.page_info.previous_marker == json.loads(body)["page_info"]["previous_marker"]
    assert response.stack_events[0].resource_type is None
