"""Escape's wire format: queries, rendered events, and posted events."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.api.escape.wire import (
    EVENT_TYPES,
    Parameters,
    parse_deployment,
    parse_filters,
    parse_inventory,
    parse_new_event,
    parse_query,
    parse_state,
    render_events,
)
from deploylog.errors import InvalidInput
from deploylog.events.event import NewEvent, check_event
from deploylog.events.scope import ROOT, parse_scope
from support.factories import event

NOW = 1_700_000_000_000_000_001

# Queries

FILTERS = [
    ("", ""),
    ("inventory_project=ip", "inventory/ip"),
    ("inventory_project=ip&inventory_application=ia", "inventory/ip/ia"),
    ("inventory_project=ip&inventory_application=ia&inventory_version=1.0", "inventory/ip/ia/1.0"),
    ("inventory_project=ip&inventory_application=ia&inventory_version=v1.0", "inventory/ip/ia/1.0"),
    ("inventory_project=ip&inventory_version=1.0", "inventory/ip"),
    ("inventory_application=ia", ""),
    ("inventory_version=1.0", ""),
    ("inventory_application=ia&inventory_version=1.0", ""),
    (
        "inventory_project=ip&state_project=sp&state_environment=se&state_deployment=sd",
        "inventory/ip",
    ),
    ("inventory_application=ia&state_project=sp&state_environment=se", "state/sp/se"),
    ("state_project=sp", "state/sp"),
    ("state_project=sp&state_environment=se&state_deployment=a/b", "state/sp/se/a%2Fb"),
    ("state_project=sp&state_deployment=sd", "state/sp"),
    ("state_environment=se&state_deployment=sd", ""),
    ("state_deployment=sd", ""),
    ("inventory_project=&state_project=sp", "state/sp"),
    ("inventory_project=ip&inventory_application=&inventory_version=1.0", "inventory/ip"),
    ("inventory_project=ip&inventory_project=other", "inventory/ip"),
    ("project=ip&unknown=1", ""),
    ("state_project=a+b", "state/a%20b"),
]


@pytest.mark.parametrize(("query", "scope"), FILTERS)
def test_a_filter_requires_those_before_it(query: str, scope: str):
    assert parse_filters(Parameters(query)) == parse_scope(scope)


def test_names_that_no_scope_can_have_match_nothing():
    assert parse_filters(Parameters("state_project=%00")) is None
    assert parse_filters(Parameters("state_project=" + "a" * 2000)) is None


@pytest.mark.parametrize(
    ("names", "scope"),
    [
        ((), "inventory"),
        (("_",), "inventory/_"),
        (("my-project_1", "my-app"), "inventory/my-project_1/my-app"),
        (("ab", "cd", "v1.2.@"), "inventory/ab/cd/1.2.@"),
        (("ab", "cd", "latest"), "inventory/ab/cd/latest"),
        (("ab", "cd", "@"), "inventory/ab/cd/@"),
    ],
)
def test_names_of_the_inventory_are_a_scope(names: tuple[str, ...], scope: str):
    assert parse_inventory(names) == parse_scope(scope)


@pytest.mark.parametrize(
    "names",
    [
        ("a",), ("A-b",), ("1ab",), ("ab!",), ("ab\n",), ("é1",), ("",), ("list",), ("ab", "_"),
        ("ab", "dict"), ("ab", "cd", "1."), ("ab", "cd", "vv1"), ("ab", "cd", "v"),
        ("ab", "cd", "one"), ("ab", "cd", "1.0\n"), ("ab", "cd", "1" * 2000),
        ("a" * 60_000 + "!",), ("ab", "a" * 60_000 + "!"), ("ab", "cd", "1" * 60_000 + "!"),
    ],
)  # fmt: skip
def test_names_that_the_inventory_cannot_have_match_nothing(names: tuple[str, ...]):
    assert parse_inventory(names) is None


@pytest.mark.parametrize(
    ("names", "is_one"),
    [
        (("Acme1",), True), (("a",), False), (("-ab",), False), (("a.b",), False),
        (("ab", "c"), True), (("ab", "C"), False), (("ab", "1"), False),
        (("ab", "ci", "_"), True), (("ab", "ci", "a/b-1"), True), (("ab", "ci", "1a"), False),
        (("ab", "ci", "/a"), False), (("ab", "ci", "a b"), False),
        (("a" * 60_000 + "!",), False), (("ab", "ci", "a" * 60_000 + "!"), False),
    ],
)  # fmt: skip
def test_only_valid_names_of_state_are_a_scope(names: tuple[str, ...], is_one: bool):
    assert (parse_state(names) is not None) == is_one


def page(query: str) -> tuple[int | None, int]:
    request = parse_query(ROOT, Parameters(query), page_size=50)
    assert request is not None
    return request.before, request.limit


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (None, 50)),
        ("page_size=&page_from=", (None, 50)),
        ("page_size=1", (None, 1)),
        ("page_size=1000", (None, 1000)),
        ("page_size=1001", (None, 1000)),
        ("page_size=" + "9" * 5000, (None, 1000)),
        ("page_size=007&page_from=0100", (100, 7)),
        ("page_size=3&page_size=x", (None, 3)),
        ("page_from=0", (0, 50)),
        ("page_from=" + "9" * 5000, ((1 << 63) - 1, 50)),
    ],
)
def test_a_page_size_is_limited(query: str, expected: tuple[int | None, int]):
    assert page(query) == expected


@pytest.mark.parametrize("value", ["0", "000", "-1", "+1", "1.5", "ten", "1e3", "٣", " 1"])
@pytest.mark.parametrize("place", [ROOT, None])
def test_an_invalid_page_size_is_refused(value: str, place: Any):
    with pytest.raises(InvalidInput):
        parse_query(place, Parameters(f"page_size={value}"), page_size=50)


@pytest.mark.parametrize("value", ["-1", "1.5", "abc", "0x1", "٣"])
def test_an_invalid_page_from_is_refused(value: str):
    with pytest.raises(InvalidInput):
        parse_query(ROOT, Parameters(f"page_from={value}"), page_size=50)


@pytest.mark.parametrize("query", ["", "deployment="])
def test_a_deployment_must_be_named(query: str):
    with pytest.raises(InvalidInput, match="Missing 'deployment' parameter"):
        parse_deployment(Parameters(query))


# Events out


def rendered(**fields: object) -> Any:
    fields.setdefault("type", "inventory.project.created")
    [result] = json.loads(render_events([event(**fields)]))  # type: ignore[arg-type]
    return result


def test_the_published_events_are_rendered_exactly():
    first = event(
        123,
        type="inventory.project.created",
        scopes=("inventory/test",),
        time=12343434343434,
        actor="user",
    )
    second = event(
        124,
        type="state.project.created",
        scopes=("state/state-test",),
        time=12343434343435,
        actor="user",
        groups=("my-group", "your-group"),
    )

    assert render_events([first, second]) == (
        b'[{"id":"123","inventory_namespace":"test","inventory_project":"test",'
        b'"timestamp":12343434343434,"type":"CREATE_INVENTORY_PROJECT","username":"user"},'
        b'{"allowed_groups":["my-group","your-group"],"allowed_roles":["my-group","your-group"],'
        b'"id":"124","state_project":"state-test","timestamp":12343434343435,'
        b'"type":"CREATE_STATE_PROJECT","username":"user"}]\n'
    )


def test_no_events_are_an_empty_array():
    assert render_events([]) == b"[]\n"


def test_fields_are_derived_from_the_scopes():
    scopes = ("project/acme", "inventory/p1/app/1.0", "state/sp/ci/a%2Fb%20c")

    result = rendered(scopes=scopes, type="state.deployment.updated")

    assert result["inventory_project"] == result["inventory_namespace"] == "p1"
    assert (result["inventory_application"], result["inventory_version"]) == ("app", "1.0")
    assert (result["state_project"], result["state_environment"]) == ("sp", "ci")
    assert result["state_deployment"] == "a/b c"


@pytest.mark.parametrize("data", [None, {}, [], [1], "{}", 1, True])
def test_data_without_members_is_left_out(data: object):
    assert "data" not in rendered(data=data)


def test_data_is_returned_as_sent():
    assert rendered(data={"n": 1.50, "big": 1 << 62})["data"] == {"n": 1.5, "big": 1 << 62}


# Events in


def parse(body: Any, groups: tuple[str, ...] = ("*",)) -> NewEvent:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    created = parse_new_event(text, now=NOW, upload_groups=groups)
    check_event(created)
    return created


MINIMAL: dict[str, dict[str, object]] = {
    "inventory": {"inventory_project": "pp"},
    "state": {"state_project": "sp"},
}


def minimal(type: str) -> dict[str, object]:
    """The required fields of an event of the type."""
    inventory = type.startswith(("NEW_INV", "UPLOAD_INV")) or "INVENTORY" in type
    other = type.startswith(("USER_", "TEAM_"))
    fields = {} if other else MINIMAL["inventory" if inventory else "state"]
    return {"type": type, **fields}


@pytest.mark.parametrize("type", EVENT_TYPES)
def test_every_type_is_accepted_and_returned(type: str):
    created = parse(minimal(type))

    result = rendered(type=created.type, scopes=created.scopes)
    assert {name: result[name] for name in minimal(type)} == minimal(type)


def test_all_published_types_exist_and_the_misprinted_one():
    assert len(EVENT_TYPES) == len(set(EVENT_TYPES.values())) == 28


@pytest.mark.parametrize(
    ("fields", "scopes"),
    [
        ({"type": "CREATE_INVENTORY_PROJECT", "inventory_namespace": "pp"}, ["inventory/pp"]),
        (
            {
                "type": "UPLOAD_INVENTORY_APPLICATION",
                "inventory_project": "pp",
                "inventory_namespace": "pp",
                "inventory_application": "aa",
                "inventory_version": "v1.0",
            },
            ["inventory/pp/aa/1.0"],
        ),
        (
            {
                "type": "UPDATE_STATE_DEPLOYMENT",
                "inventory_project": "pp",
                "state_project": "sp",
                "state_environment": "ci",
                "state_deployment": "a/b",
            },
            ["inventory/pp", "state/sp/ci/a%2Fb"],
        ),
        ({"type": "USER_SIGNUP", "username": "ann"}, ["user/ann"]),
        ({"type": "USER_SIGNUP"}, ["user"]),
        ({"type": "TEAM_CREATED", "data": {"team": "ops"}}, ["team/ops"]),
        ({"type": "TEAM_CREATED", "data": {}}, ["team"]),
        ({"type": "ADD_BUILD", "state_project": "sp"}, ["state/sp"]),
    ],
)
def test_an_events_scopes_follow_from_its_fields(fields: dict[str, object], scopes: list[str]):
    assert list(parse(fields).scopes) == scopes


CREATED = {"type": "CREATE_INVENTORY_PROJECT", "inventory_project": "pp"}


@pytest.mark.parametrize(
    ("sent", "time"),
    [({}, NOW), ({"timestamp": None}, NOW), ({"timestamp": 5}, 5), ({"timestamp": "5"}, 5),
     ({"timestamp": 1_700_000_000_000_000_007}, 1_700_000_000_000_000_007)],
)  # fmt: skip
def test_a_timestamp_is_a_number_or_its_digits_or_now(sent: dict[str, object], time: int):
    assert parse(CREATED | sent).time == time


@pytest.mark.parametrize(
    ("sent", "groups"),
    [
        ({}, ()),
        ({"allowed_groups": ["b", "a", "b"]}, ("a", "b")),
        ({"allowed_roles": ["b", "a"]}, ("a", "b")),
        ({"allowed_groups": ["a", "b"], "allowed_roles": ["b", "a"]}, ("a", "b")),
        ({"allowed_groups": ["a"], "allowed_roles": None}, ("a",)),
        ({"allowed_groups": []}, ()),
    ],
)
def test_groups_and_roles_are_aliases(sent: dict[str, object], groups: Any):
    assert parse(CREATED | sent).groups == groups


def test_an_event_stores_only_its_actor_and_data():
    created = parse(CREATED | {"username": "ann", "data": {"a": [1.50]}, "id": "7", "unknown": {}})

    assert (created.actor, created.source) == ("ann", "escape")
    assert bytes(created.data or b"") == b'{"a":[1.5]}'
    assert created.producer_id is None


def test_data_is_stored_on_one_line_with_exact_digits():
    body = b'{"type": "TEAM_DELETED",\n "data":\n {"a": 1.50,\n "b": 1234567890123456789012 }}'

    assert bytes(parse(body).data or b"") == b'{"a":1.50,"b":1234567890123456789012}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"[]", "Invalid JSON"),
        (b'"x"', "Invalid JSON"),
        (b"null", "Invalid JSON"),
        (b'{"type": "\xff"}', "Invalid JSON"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "Invalid JSON"),
        ({}, "Missing type"),
        ({"type": ""}, "Missing type"),
        ({"type": "SIGNUP"}, "Unknown event type 'SIGNUP'"),
        ({"type": "user.signed_up"}, "Unknown event type"),
        ({"type": 1}, r"\$.type"),
        ({"type": "CREATE_INVENTORY_PROJECT"}, "Missing inventory_project"),
        ({"type": "CREATE_STATE_PROJECT", "inventory_project": "p"}, "Missing state_project"),
        (CREATED | {"inventory_namespace": "other"}, "differ"),
        (CREATED | {"inventory_version": "1"}, "inventory_version requires inventory_application"),
        (CREATED | {"state_environment": "ci"}, "state_environment requires state_project"),
        (
            CREATED | {"state_project": "sp", "state_deployment": "d"},
            "state_deployment requires state_environment",
        ),
        (
            {"type": "USER_SIGNUP", "inventory_application": "a"},
            "inventory_application requires inventory_project",
        ),
        (CREATED | {"allowed_groups": ["a"], "allowed_roles": ["b"]}, "mean the same: send one"),
        (CREATED | {"allowed_groups": ["a"], "allowed_roles": []}, "mean the same: send one"),
        (CREATED | {"allowed_groups": "a"}, "allowed_groups"),
        (CREATED | {"allowed_groups": [1]}, "allowed_groups"),
        (CREATED | {"allowed_groups": [""]}, "groups"),
        (CREATED | {"timestamp": "today"}, "timestamp"),
        (CREATED | {"timestamp": "9" * 25}, "timestamp"),
        (CREATED | {"timestamp": True}, "timestamp"),
        (CREATED | {"timestamp": 1.5}, "timestamp"),
        (CREATED | {"timestamp": -1}, "time"),
        (CREATED | {"timestamp": 1 << 63}, "time"),
        (b'{"type": "TEAM_CREATED", "timestamp": ' + b"1" * 5000 + b"}", "."),
        (CREATED | {"data": [1]}, "data must be a JSON object"),
        (CREATED | {"data": "x"}, "data must be a JSON object"),
        (CREATED | {"username": {}}, "username"),
        (CREATED | {"username": "a" * 2000}, "actor"),
        (CREATED | {"inventory_project": "p" * 2000}, "longer"),
        (CREATED | {"inventory_project": "\0"}, "NUL"),
        ({"type": "TEAM_CREATED", "data": {"team": 1}}, "team"),
    ],
)  # fmt: skip
def test_an_invalid_event_has_a_message(body: Any, message: str):
    with pytest.raises(InvalidInput, match=message):
        parse(body)


#: As it was captured.
UPLOAD = (
    b'{"downstream_hooks":[{"url":"http://x"}],"event":"NEW_UPLOAD","project":"test",'
    b'"project_hooks":{"events":{"url":"http://y"}},"release":"test/my-app-v1.0",'
    b'"unit":"my-app","unit_hooks":{},"username":"","version":"v1.0"}'
)


def test_an_upload_becomes_an_event():
    created = parse(UPLOAD, groups=("devs", "ops"))

    assert created.type == "inventory.release.uploaded"
    assert created.scopes == ("inventory/test/my-app/1.0",)
    assert (created.groups, created.actor, created.time) == (("devs", "ops"), None, NOW)
    assert json.loads(bytes(created.data or b"")) == {
        "downstream_hooks": [{"url": "http://x"}],
        "project_hooks": {"events": {"url": "http://y"}},
        "release": "test/my-app-v1.0",
        "unit_hooks": {},
    }


def test_a_repeated_upload_has_the_same_id():
    other = UPLOAD.replace(b"v1.0", b"v1.1")

    assert parse(UPLOAD).producer_id == parse(UPLOAD).producer_id
    assert parse(UPLOAD).producer_id != parse(other).producer_id
    assert parse(UPLOAD.replace(b'""', b'"ann"')).actor == "ann"


@pytest.mark.parametrize(
    "change",
    [
        {"event": "DELETED"}, {"event": None}, {"event": 1}, {"project": ""}, {"unit": None},
        {"version": 1}, {"version": ""}, {"username": 7},
    ],
)  # fmt: skip
def test_other_inventory_notifications_are_refused(change: dict[str, object]):
    with pytest.raises(InvalidInput):
        parse(json.loads(UPLOAD) | change)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["v1", "NEW_UPLOAD"])
)

VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(), LEAVES, max_size=3)

KEYS = st.sampled_from(
    [
        "timestamp", "username", "allowed_groups", "allowed_roles", "inventory_project",
        "inventory_namespace", "inventory_application", "inventory_version", "state_project",
        "state_environment", "state_deployment", "data", "event", "project", "unit", "version",
    ]
)  # fmt: skip


@given(
    type=st.sampled_from([*EVENT_TYPES, "", None]), fields=st.dictionaries(KEYS, VALUES, max_size=6)
)
def test_odd_fields_are_bad_input_at_worst(type: str | None, fields: dict[str, Any]):
    body = {**fields, **({"type": type} if type is not None else {})}
    try:
        created = parse(body)
    except InvalidInput:
        return
    assert json.loads(render_events([event(type=created.type, scopes=created.scopes)]))


@given(st.binary() | st.text().map(str.encode))
def test_odd_bytes_are_bad_input(body: bytes):
    with pytest.raises(InvalidInput):
        parse(body)


@given(st.text())
def test_odd_queries_are_valid_or_refused(query: str):
    parameters = Parameters(query)
    with suppress(InvalidInput):
        parse_query(parse_filters(parameters), parameters, page_size=50)
