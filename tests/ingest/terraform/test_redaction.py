import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from decimal import Decimal
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploylog.deployments.changeset import SENSITIVE, encode_changes
from deploylog.errors import InvalidPlan
from deploylog.ingest.terraform.plan import parse_plan
from deploylog.ingest.terraform.redaction import Redactor
from support.plans import Json, new_change, new_plan, new_resource, parse, parse_one

SECRET = 'zQ7-"correct\\horse"<&>\n\N{SNOWMAN}+/'

#: A resource that holds the secret where nobody marks it.
COPY = new_resource("update", address="a.copy", before={"x": SECRET}, after={"y": f"<{SECRET}>"})


def holds(document: bytes, secret: str) -> bool:
    """Whether the secret is in any text of the JSON document, in any of its forms."""
    forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return any(form in text for text in texts(json.loads(document)) for form in forms)


def texts(value: Json) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from (name, *texts(inner))
        case list():
            for inner in value:
                yield from texts(inner)
        case str():
            yield value


# Where secrets are found


MARKED = {"a": ["x", {"k": SECRET}]}
MARKS = {"a": [False, {"k": True}]}
STATE = {"resources": [{"address": "a.b", "values": MARKED, "sensitive_values": MARKS}]}
MODULE = {"child_modules": [{"address": "module.m", "child_modules": [STATE]}]}
VARIABLES = {"variables": {"v": {"sensitive": True}}}


@pytest.mark.parametrize(
    "parts",
    [
        {"resource_changes": [new_resource(before=MARKED, before_sensitive=MARKS), COPY]},
        {"resource_changes": [new_resource(after=MARKED, after_sensitive=MARKS), COPY]},
        {"resource_changes": [new_resource(before=MARKED, after_sensitive=MARKS), COPY]},
        {"resource_changes": [new_resource(before=MARKED, before_sensitive=True), COPY]},
        {"resource_changes": [new_resource("delete", before=MARKED, before_sensitive=MARKS), COPY]},
        {
            "resource_changes": [
                new_resource("read", mode="data", after=MARKED, after_sensitive=MARKS),
                COPY,
            ]
        },
        {"resource_drift": [new_resource(before=MARKED, before_sensitive=MARKS)]},
        {"output_changes": {"o": new_change(after=SECRET, after_sensitive=True)}},
        {"output_changes": {"o": new_change(before=MARKED, before_sensitive=MARKS)}},
        {"planned_values": {"outputs": {"o": {"sensitive": True, "value": {"k": SECRET}}}}},
        {"planned_values": {"root_module": STATE}},
        {"prior_state": {"values": {"root_module": STATE}}},
        {"prior_state": {"values": {"root_module": MODULE}}},
        {"prior_state": {"values": {"outputs": {"o": {"sensitive": True, "value": SECRET}}}}},
        {
            "variables": {"v": {"value": {"nested": [SECRET]}}},
            "configuration": {"root_module": VARIABLES},
        },
        {
            "configuration": {
                "root_module": {"variables": {"v": {"sensitive": True, "default": SECRET}}}
            }
        },
        {
            "configuration": {
                "root_module": {
                    "module_calls": {
                        "m": {
                            "expressions": {"v": {"constant_value": SECRET}},
                            "module": VARIABLES,
                        }
                    }
                }
            }
        },
        {
            "configuration": {
                "root_module": {
                    "outputs": {"o": {"sensitive": True, "expression": {"constant_value": SECRET}}}
                }
            }
        },
        {
            "deferred_changes": [
                {"resource_change": new_resource(after=MARKED, after_sensitive=MARKS)}
            ]
        },
    ],
)
def test_what_is_sensitive_anywhere_is_masked_everywhere(parts: Json) -> None:
    changes = parse({"format_version": "1.2", "resource_changes": [COPY], **parts})

    assert not holds(encode_changes(changes), SECRET)
    copy = next(change for change in changes.resources if change.address == "a.copy")
    assert copy.before == {"x": SENSITIVE}
    assert copy.after == {"y": f"<{SENSITIVE}>"}
    assert [field.sensitive for field in copy.added] == [True]


def test_what_is_not_sensitive_is_not_masked() -> None:
    changes = parse(
        new_plan(
            new_resource(after={"x": "not a secret"}),
            variables={"v": {"value": "not a secret"}, "w": {"value": "another one"}},
            configuration={"root_module": {"variables": {"v": {}, "w": {"sensitive": True}}}},
            prior_state={"values": {"outputs": {"o": {"sensitive": False, "value": "x"}}}},
        )
    )

    assert changes.resources[0].after == {"x": "not a secret"}


@pytest.mark.parametrize(
    ("value", "marks"),
    [
        ({"k": SECRET}, [True]),
        ([SECRET], {"k": True}),
        (SECRET, {"k": True}),
        (SECRET, [False, True]),
        (SECRET, "true"),
        (SECRET, 1),
    ],
)
def test_a_mark_that_does_not_fit_hides_all(value: Json, marks: Json) -> None:
    change = parse_one(new_resource(after={"a": value}, after_sensitive={"a": marks}))

    assert change.after == {"a": SENSITIVE}
    assert [(field.after, field.sensitive) for field in change.added] == [(SENSITIVE, True)]


# Where secrets are masked


PLACES: dict[str, Callable[[str], Json]] = {
    "value": lambda s: new_plan(new_resource(after={"x": s})),
    "value in a list": lambda s: new_plan(new_resource(after={"x": [[s]]})),
    "value of another kind": lambda s: new_plan(new_resource(before={"x": 1}, after={"x": [s]})),
    "part of a value": lambda s: new_plan(new_resource(before={"x": f"({s}, {s})"})),
    "key": lambda s: new_plan(new_resource(before={"x": {s: 1}}, after={"x": {s: 2}})),
    "key that is removed": lambda s: new_plan(new_resource(before={"x": {s: 1}}, after={})),
    "key that is unknown": lambda s: new_plan(new_resource(after_unknown={"x": {s: True}})),
    "key that does not change": lambda s: new_plan(new_resource(before={s: 1}, after={s: 1})),
    "address": lambda s: new_plan(new_resource(address=f'a.b["{s}"]', index=s, name=f"b{s}")),
    "former address": lambda s: new_plan(new_resource(previous_address=f'a.b["{s}"]')),
    "address of a data source": lambda s: new_plan(
        new_resource("read", mode="data", address=f'data.a.b["{s}"]')
    ),
    "id": lambda s: new_plan(new_resource(before={"id": f"id/{s}"})),
    "import id": lambda s: new_plan(new_resource(importing={"id": f"id/{s}"})),
    "output": lambda s: new_plan(output_changes={"x": new_change(after=[s])}),
    "name of an output": lambda s: new_plan(output_changes={s: new_change(after=1)}),
    "drift": lambda s: new_plan(resource_drift=[new_resource(before={"x": s})]),
    "check": lambda s: new_plan(
        checks=[{"status": "fail", "instances": [{"status": "fail", "problems": [{"message": s}]}]}]
    ),
    "unknown action": lambda s: new_plan(new_resource(s)),
    "unknown mode": lambda s: new_plan(new_resource(mode=s)),
    "deferred": lambda s: new_plan(
        deferred_changes=[{"reason": s, "resource_change": new_resource(address=f"a.{s}")}]
    ),
}

FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda s: s,
    "JSON": lambda s: json.dumps({"k": s}),
    "JSON of Go": lambda s: go_json({"k": s}),
    "JSON in JSON": lambda s: go_json(go_json({"k": s})),
    "base64": lambda s: b64encode(s.encode()).decode(),
    "base64 for URLs": lambda s: urlsafe_b64encode(s.encode()).decode(),
    "query": lambda s: f"?password={quote_plus(s)}",
}


def go_json(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def with_secret(plan: Json, secret: Json) -> Json:
    """The plan, in whose prior state the secret is sensitive."""
    outputs = {"secret": {"sensitive": True, "value": secret}}
    return plan | {"prior_state": {"values": {"outputs": outputs}}}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_masked_wherever_and_however_it_is_written(place: str, form: str) -> None:
    written = FORMS[form](SECRET)
    planted = PLACES[place](written)
    assert holds(encode_changes(parse(planted)), written)

    encoded = encode_changes(parse(with_secret(planted, SECRET)))

    assert not holds(encoded, SECRET)
    assert not holds(encoded, written)
    assert SENSITIVE.encode() in encoded


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(3))
def test_a_secret_inside_of_base64_is_masked(before: int, after: int) -> None:
    text = b64encode(b"u" * before + SECRET.encode() + b"x" * after).decode()

    masked = Redactor([SECRET]).text(text)

    assert SENSITIVE in masked
    assert len(masked.replace(SENSITIVE, "")) <= 4 * (before // 3) + 4 * (after // 3) + 8


def test_a_secret_is_masked_without_the_space_around_it() -> None:
    assert Redactor([f"{SECRET}\n"]).text(f"({SECRET})") == f"({SENSITIVE})"


@pytest.mark.parametrize(
    ("secret", "value", "masked"),
    [
        ("12345678", "x12345678", f"x{SENSITIVE}"),
        ("1234567", "1234567", SENSITIVE),
        ("1234567", "x1234567", "x1234567"),
        ("1234", "1234", SENSITIVE),
        ("123", "123", "123"),
        ("", "", ""),
        ("1234", 1234, SENSITIVE),
        (123456, 123456, SENSITIVE),
        (123456, Decimal("123456.0"), SENSITIVE),
        (123456, "123456", SENSITIVE),
        (1234567, "x1234567", "x1234567"),
        (12345678, "x12345678x", f"x{SENSITIVE}x"),
        (-12345678, "x=12345678", f"x={SENSITIVE}"),
        (Decimal("1234567.8"), "x=1234567.8", f"x={SENSITIVE}"),
        (Decimal("1E+99999999"), "x=1E+99999999", f"x={SENSITIVE}"),
        (12345, 12345, 12345),
        (-123456, -123456, SENSITIVE),
        (Decimal("3.14159"), Decimal("3.14159"), SENSITIVE),
        (True, True, True),
        (None, None, None),
    ],
)
def test_short_secrets_are_masked_on_their_own_and_shorter_ones_not(
    secret: object, value: object, masked: object
) -> None:
    assert Redactor([secret]).value(value) == masked
    assert Redactor([secret]).value([value, {"k": value}]) == [masked, {"k": masked}]


def test_a_short_value_is_masked_where_it_is_marked() -> None:
    change = parse_one(
        new_resource(after={"a": "x", "b": "x", "c": 7}, after_sensitive={"a": True, "c": True})
    )

    assert change.after == {"a": SENSITIVE, "b": "x", "c": SENSITIVE}


def test_the_longest_secret_is_masked_and_those_that_overlap_as_one() -> None:
    mask = Redactor(["secret-one", "secret-one-and-two", "and-two-and-three"])

    assert mask.text("<secret-one>") == f"<{SENSITIVE}>"
    assert mask.text("<secret-one-and-two>") == f"<{SENSITIVE}>"
    assert mask.text("<secret-one-and-two-and-three>") == f"<{SENSITIVE}>"
    assert mask.text("secret-onesecret-one") == SENSITIVE * 2


def test_a_long_number_is_masked_inside_of_texts_however_it_is_written() -> None:
    document = json.dumps(
        new_plan(
            new_resource(
                after={
                    "pin": 123456789012,
                    "url": "code=123456789012&x",
                    "encoded": b64encode(b'{"code":123456789012}').decode(),
                },
                after_sensitive={"pin": True},
            )
        )
    )

    [change] = parse_plan(document.encode()).resources

    after: Json = change.after
    assert after["url"] == f"code={SENSITIVE}&x"
    assert SENSITIVE in after["encoded"]


def test_a_negative_number_does_not_keep_a_text_from_being_masked() -> None:
    for secrets in ([-1234567, "-1234567"], ["-1234567", -1234567]):
        assert Redactor(secrets).text("x=-1234567") == f"x={SENSITIVE}"


PEM = f"""-----BEGIN PRIVATE KEY-----
{"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"}
  {"BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"}\r
fifteen-letters
sixteen-letters-
"""


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key: MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", f"key: {SENSITIVE}"),
        (
            "k: |\n    MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n    BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n",
            f"k: |\n    {SENSITIVE}\n    {SENSITIVE}\n",
        ),
        ("BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", SENSITIVE),
        ("<sixteen-letters->", f"<{SENSITIVE}>"),
        ("<fifteen-letters>", "<fifteen-letters>"),
        ("fifteen-letters", "fifteen-letters"),
        (f"<{PEM}>", f"<{SENSITIVE}>"),
    ],
)
def test_the_lines_of_a_secret_are_secret(text: str, masked: str) -> None:
    assert Redactor([PEM]).text(text) == masked


def test_lines_of_a_secret_are_masked_inside_of_base64() -> None:
    indented = PEM.replace("\n", "\n    ")

    masked = Redactor([PEM]).text(b64encode(indented.encode()).decode())

    assert masked.count(SENSITIVE) == 4


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.lists(st.text("ab", min_size=8, max_size=14), max_size=12),
    st.lists(st.text("ab", max_size=14), max_size=12).map("".join),
)
def test_every_secret_is_masked_and_nothing_else(secrets: list[str], text: str) -> None:
    assert Redactor(secrets).text(f"<{text}>") == naively_masked(secrets, f"<{text}>")


def naively_masked(secrets: list[str], text: str) -> str:
    told, end = "", 0
    for start in range(len(text)):
        stop = max((start + len(it) for it in secrets if text.startswith(it, start)), default=start)
        if stop > start:
            told += SENSITIVE if start >= end else ""
            end = max(end, stop)
        elif start >= end:
            told += text[start]
    return told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("secrets", "text"),
    [
        (["a" * 8 + "b" * length for length in range(1_000)], "a" * 200_000),
        (["a" * length for length in range(8, 1_000)], "a" * 100_000),
        (["a" * 200_000 + "b"], "a" * 300_000),
    ],
    ids=["alike", "within each other", "long"],
)
def test_hostile_secrets_are_found_in_time(secrets: list[str], text: str) -> None:
    began = time.process_time()

    masked = Redactor(secrets).text(text)

    assert time.process_time() - began < 10
    assert masked in (text, SENSITIVE)


def test_masked_names_stay_different() -> None:
    one, two = "secret-one", "secret-two"
    addresses = [f'a.b["{one}"]', f'a.b["{two}"]']
    resources = [
        new_resource(address=address, before={"m": {one: 1, two: 2}}, after={"m": {two: 3}})
        for address in addresses
    ]

    changes = parse(with_secret(new_plan(*resources), [one, two]))

    names = [change.name for change in changes.resources]
    assert names == [f'a.b["{SENSITIVE}"]', f'a.b["{SENSITIVE}"] (2)']
    for change in changes.resources:
        before: Json = change.before
        first, second = before["m"]
        assert {first, second} == {SENSITIVE, f"{SENSITIVE} (2)"}
        assert before == {"m": {first: 1, second: 2}}
        assert change.after == {"m": {second: 3}}
        assert change.removed == (("m", first),)
        assert change.modified[0].path == ("m", second)


@pytest.mark.parametrize("marks", [True, {"id": True}])
def test_an_id_that_is_sensitive_is_masked(marks: Json) -> None:
    assert parse_one(new_resource(before={"id": "i"}, before_sensitive=marks)).id == SENSITIVE


def test_an_unmarked_copy_is_compared_by_its_value() -> None:
    resource = new_resource(before={"x": SECRET, "y": SECRET}, after={"x": SECRET, "y": "other"})

    [change] = parse(with_secret(new_plan(resource), SECRET)).resources

    assert change.unchanged == (("x",),)
    [field] = change.modified
    assert (field.path, field.before, field.after) == (("y",), SENSITIVE, "other")
    assert field.sensitive


def test_an_output_that_holds_a_copy_is_sensitive() -> None:
    plan = with_secret(new_plan(output_changes={"o": new_change(after={"k": SECRET})}), SECRET)

    [output] = parse(plan).outputs

    assert output.after == {"k": SENSITIVE}
    assert output.sensitive


def test_no_error_tells_a_secret() -> None:
    twice = new_resource(address=f'a.b["{SECRET}"]')

    with pytest.raises(InvalidPlan) as caught:
        parse(with_secret(new_plan(twice, twice), SECRET))

    assert SECRET not in caught.value.message


# What holds for all plans


awkward = st.sampled_from("aZ9 \"\\<>&/+=\n'\N{SNOWMAN}\N{GRINNING FACE}")
secret_text = st.text(
    awkward | st.characters(codec="utf-8", exclude_characters="\0"), min_size=5, max_size=40
).map("zQ7-".__add__)  # fmt: skip


@st.composite
def around(draw: st.DrawFn, secret: str) -> Json:
    """A value that holds the secret somewhere."""
    match draw(st.integers(0, 5)):
        case 0:
            return [draw(around(secret)), 1]
        case 1:
            return {"k": draw(around(secret)), "l": None}
        case 2:
            return {secret: draw(st.booleans())}
        case 3:
            form = FORMS[draw(st.sampled_from(sorted(FORMS)))]
            return draw(st.sampled_from(["", "x", "/"])) + form(secret)
        case _:
            return secret


@st.composite
def marked(draw: st.DrawFn, secret: str) -> tuple[Json, Json]:
    """A value that holds the secret somewhere, and marks that say so."""
    match draw(st.integers(0, 4)):
        case 0:
            value, marks = draw(marked(secret))
            return ["x", value], [False, marks]
        case 1:
            value, marks = draw(marked(secret))
            return {"k": value, "l": 1}, {"k": marks}
        case 2:
            return {"k": [secret, {"l": secret}]}, True
        case _:
            return secret, True


@st.composite
def secretive_plan(draw: st.DrawFn) -> tuple[Json, str]:
    secret = draw(secret_text)
    value, marks = draw(marked(secret))
    actions = draw(st.sampled_from([["update"], ["create"], ["delete"], ["delete", "create"]]))
    sides = st.dictionaries(st.sampled_from("xyz"), around(secret), max_size=3)
    hidden = new_resource(
        *actions,
        address="a.hidden",
        before=None if actions == ["create"] else {"v": value, **draw(sides)},
        after=None if actions == ["delete"] else {"v": value, **draw(sides)},
        after_unknown={"w": True},
        **{draw(st.sampled_from(["before_sensitive", "after_sensitive"])): {"v": marks}},
    )
    planted = PLACES[draw(st.sampled_from(sorted(PLACES)))](secret)
    planted["resource_changes"].insert(draw(st.integers(0, 1)), hidden)
    return planted, secret


@pytest.mark.slow
@settings(max_examples=300)
@given(secretive_plan())
def test_no_secret_is_ever_reported(planted: tuple[Json, str]) -> None:
    plan, secret = planted

    encoded = encode_changes(parse_plan(json.dumps(plan).encode()))

    assert secret.encode() not in encoded
    assert not holds(encoded, secret)
