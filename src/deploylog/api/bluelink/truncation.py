"""Truncation of stream frames to the length that Bluelink's client can read."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from deploylog.deployments.changeset import encode
from deploylog.deployments.truncation import TOO_LONG, fit, halvings, shorten

#: The size of the client's buffer. It requests a longer frame again, endlessly.
MAX_FRAME_BYTES = 65_536

#: The lengths, in characters, to which texts are cut, one after another.
_TEXT_LENGTHS = (32_768, 16_384, 8_192, 4_096, 2_048, 1_024, 512, 256, 128, 64)

_FIELD_LISTS = (
    "modifiedFields",
    "newFields",
    "removedFields",
    "computedFields",
    "fieldChangesKnownOnDeploy",
)

#: A JSON object.
Json = dict[str, object]

#: Yields ever shorter forms of some data, without those known to save less than N bytes.
Forms = Callable[[Json, int], Iterator[Json]]

#: Less than any form saves: skips none.
ANYTHING = -(1 << 62)

_TRUNCATED = b',"truncated":true'


def render_json(value: object) -> bytes:
    """JSON without substitutions."""
    # The client looks for ${…} in the text before it parses the JSON, and drops or corrupts such
    # a value. Escaped, it is the same value.
    return encode(value).replace(b"${", b"\\u0024{")


def render_frame(type: str, id: str, data: Json) -> bytes:
    """One frame."""
    # The client parses a frame that is cut short: with the id before the data, it would take the
    # id as its cursor and miss the event.
    return b"event: %b\ndata: %b\nid: %b\n\n" % (type.encode(), render_json(data), id.encode())


def render_fitting_frame(type: str, id: str, data: Json, forms: Forms) -> bytes:
    """One frame: of ``data``, or of the first of its ``forms`` that fits."""
    frame = render_frame(type, id, data)
    if len(frame) <= MAX_FRAME_BYTES:
        return frame
    excess = len(frame) - MAX_FRAME_BYTES + (0 if "truncated" in data else len(_TRUNCATED))
    shorter = ({**form, "truncated": True} for form in _all_forms(data, forms, excess))
    frames = (render_frame(type, id, form) for form in shorter)
    return fit(frame, frames, lambda form: len(form) <= MAX_FRAME_BYTES)


def _all_forms(data: Json, forms: Forms, excess: int) -> Iterator[Json]:
    """``forms``, and then the last of them with ever shorter texts."""
    shortest = data
    for shortest in forms(data, excess):
        yield shortest
    for length in _TEXT_LENGTHS:
        yield {name: _cut_texts(value, length) for name, value in shortest.items()}


def _cut_texts(value: object, length: int) -> object:
    if isinstance(value, str) and len(value) > length:
        return value[: length - 1] + "…"
    if isinstance(value, list):
        return [_cut_texts(each, length) for each in value]
    if isinstance(value, dict):
        return {name: _cut_texts(each, length) for name, each in value.items()}
    return value


def no_forms(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """For data of which only texts can be cut."""
    yield from ()


# One resource


def shorter_resources(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """Ever shorter forms of a ``resourceChanges`` event."""
    whole = _object(data["changes"])
    for steps in _steps_that_save(excess, _measure([whole])):
        yield {**data, "changes": _after(whole, steps)}
    shortest = _after(whole, _STEPS)
    for length in halvings(_longest([whole], data)):
        changes = _cut_lists(shortest, length)
        yield {**data, "changes": changes, **_cut_resolved(data, length)}


def _without_spec_data(changes: Json) -> Json:
    return _in_info(changes, lambda info: _nulled(info, "currentResourceState", "specData"))


def _without_state(changes: Json) -> Json:
    return _in_info(changes, lambda info: {**info, "currentResourceState": None})


def _without_spec(changes: Json) -> Json:
    return _in_info(changes, lambda info: _nulled(info, "resourceWithResolvedSubs", "spec"))


def _without_unchanged(changes: Json) -> Json:
    return {**changes, "unchangedFields": []}


def _without_resource(changes: Json) -> Json:
    return _in_info(changes, lambda info: {**info, "resourceWithResolvedSubs": None})


def _with_short_values(changes: Json) -> Json:
    short = {
        name: [shorten_values(_object(field)) for field in _list(changes[name])]
        for name in ("modifiedFields", "newFields")
    }
    return {**changes, **short}


_Step = Callable[[Json], Json]

#: The steps that shorten a resource's changes, in order.
_STEPS: tuple[_Step, ...] = (
    _without_spec_data,
    _without_state,
    _without_spec,
    _without_unchanged,
    _without_resource,
    _with_short_values,
)


def _after(changes: Json, steps: Iterable[_Step]) -> Json:
    for step in steps:
        changes = step(changes)
    return changes


def shorten_values(field: Json) -> Json:
    """A field's change without its long values."""
    return {**field, "prevValue": _short(field["prevValue"]), "newValue": _short(field["newValue"])}


def _short(value: object) -> object:
    return shorten(value, render_json)


def _in_info(changes: Json, change: Callable[[Json], Json]) -> Json:
    return {**changes, "appliedResourceInfo": change(_object(changes["appliedResourceInfo"]))}


def _nulled(parent: Json, name: str, inner: str) -> Json:
    """``parent`` with ``name.inner`` set to null, if ``name`` is an object."""
    value = parent[name]
    return {**parent, name: {**value, inner: None}} if isinstance(value, dict) else parent


def _cut_lists(changes: Json, length: int) -> Json:
    return {**changes, **{name: _list(changes[name])[:length] for name in _FIELD_LISTS}}


def _cut_resolved(data: Json, length: int) -> Json:
    return {"resolveOnDeploy": _list(data["resolveOnDeploy"])[:length]}


def _longest(all_changes: Iterable[Json], resolving: Json) -> int:
    """The length of the longest list of fields."""
    lists = [_list(changes[name]) for changes in all_changes for name in _FIELD_LISTS]
    return max(len(each) for each in (*lists, _list(resolving["resolveOnDeploy"])))


# Savings


def _measure(all_changes: Sequence[Json], drifted: Sequence[Json] = ()) -> list[int]:
    """The bytes of JSON that each step saves, together with the steps before it.

    They are computed without taking the steps: encoding the result of each would block the event
    loop.
    """
    infos = [_object(changes["appliedResourceInfo"]) for changes in all_changes]
    states = _objects(info["currentResourceState"] for info in infos)
    resources = _objects(info["resourceWithResolvedSubs"] for info in infos)
    persisted = _saved([each["persistedState"] for each in drifted], None)
    state = persisted + _saved(states, None)
    external = state + _saved([each["externalState"] for each in drifted], None)
    spec = _saved([each["spec"] for each in resources], None)
    unchanged = external + _saved([changes["unchangedFields"] for changes in all_changes], [])
    resource = unchanged + _saved(resources, None)
    values = _saved_values(
        field
        for changes in all_changes
        for name in ("modifiedFields", "newFields")
        for field in _list(changes[name])
    )
    spec_data = persisted + _saved([each["specData"] for each in states], None)
    return [spec_data, state, external + spec, unchanged + spec, resource, resource + values]


def _steps_that_save(excess: int, savings: Sequence[int]) -> Iterator[tuple[_Step, ...]]:
    """The shortest run of first steps that saves ``excess`` bytes, and then each longer one."""
    for number, saved in enumerate(savings, 1):
        if saved >= excess:
            yield _STEPS[:number]


def _saved(parts: Sequence[object], replacement: object) -> int:
    """The bytes saved by replacing each of these parts of a document."""
    return len(render_json(parts)) - len(render_json([replacement] * len(parts)))


def _saved_values(fields: Iterable[object]) -> int:
    """The bytes saved by replacing the long values of these fields."""
    values = (_object(field)[name] for field in fields for name in ("prevValue", "newValue"))
    return _saved([value for value in values if _short(value) is not value], TOO_LONG)


def _saved_lists(all_changes: Iterable[Json], resolving: Json) -> int:
    """The bytes saved by emptying all lists of fields."""
    lists = [changes[name] for changes in all_changes for name in _FIELD_LISTS]
    return _saved([*lists, resolving["resolveOnDeploy"]], [])


# Blueprints


def shorter_blueprints(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """Ever shorter forms of a ``changeStagingComplete`` event."""
    blueprint = _object(data["changes"])
    all_changes, drifted = _changes_of(blueprint), _objects(_list(data.get("drift")))
    savings = _measure([*all_changes, *_changes_of_drifted(drifted)], drifted)
    exports = _saved_values(each for kind in _EXPORTS for each in _object(blueprint[kind]).values())
    shortest = savings[-1] + exports
    for steps in _steps_that_save(excess, savings):
        yield _stepped(data, steps)
    if shortest >= excess:
        yield _with_short_exports(_stepped(data, _STEPS))
    # An upper bound: values in the lists are counted twice.
    if shortest + _saved_lists(all_changes, blueprint) >= excess:
        yield from _with_fewer_fields(_with_short_exports(_stepped(data, _STEPS)))
    rest = {name: value for name, value in data.items() if name not in ("drift", "warnings")}
    yield {**rest, "changes": _named_only(blueprint)}
    yield {**rest, "changes": _emptied(blueprint)}


_RESOURCES = ("newResources", "resourceChanges")

_EXPORTS = ("newExports", "exportChanges")


def _changes_of(blueprint: Json) -> list[Json]:
    """The changes of each resource."""
    return [_object(each) for kind in _RESOURCES for each in _object(blueprint[kind]).values()]


def _stepped(data: Json, steps: Sequence[_Step]) -> Json:
    """``data`` after the steps on each resource."""
    changes = _each(_object(data["changes"]), lambda changes: _after(changes, steps))
    drift = {"drift": _all_drifted(_list(data["drift"]), steps)} if "drift" in data else {}
    return {**data, "changes": changes, **drift}


def _each(blueprint: Json, step: _Step) -> Json:
    """The blueprint's changes after the step on each resource."""
    done = {
        kind: {name: step(_object(each)) for name, each in _object(blueprint[kind]).items()}
        for kind in _RESOURCES
    }
    return {**blueprint, **done}


def _with_short_exports(data: Json) -> Json:
    blueprint = _object(data["changes"])
    short = {
        kind: {
            name: shorten_values(_object(each)) for name, each in _object(blueprint[kind]).items()
        }
        for kind in _EXPORTS
    }
    return {**data, "changes": {**blueprint, **short}}


def _with_fewer_fields(data: Json) -> Iterator[Json]:
    blueprint = _object(data["changes"])
    for length in halvings(_longest(_changes_of(blueprint), blueprint)):
        yield {**data, "changes": _each_cut(blueprint, length)}


def _each_cut(blueprint: Json, length: int) -> Json:
    cut = _each(blueprint, lambda changes: _cut_lists(changes, length))
    return {**cut, **_cut_resolved(blueprint, length)}


def _named_only(blueprint: Json) -> Json:
    """Only the names of resources and exports."""
    names: Json = {
        kind: {name: {} for name in _object(blueprint[kind])} for kind in (*_RESOURCES, *_EXPORTS)
    }
    return {**blueprint, **names, "resolveOnDeploy": []}


def _emptied(blueprint: Json) -> Json:
    empty: Json = {
        name: [] if isinstance(value, list) else {}
        for name, value in blueprint.items()
        if name != "metadataChanges"
    }
    return {**blueprint, **empty}


# Drift


def shorter_drifts(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """Ever shorter forms of a ``driftDetected`` event."""
    result = _object(data["reconciliationResult"])
    resources = _list(result["resources"])
    drifted = _objects(resources)
    all_changes = _changes_of_drifted(drifted)
    savings = _measure(all_changes, drifted)

    def with_resources(resources: list[object]) -> Json:
        return {**data, "reconciliationResult": {**result, "resources": resources}}

    for steps in _steps_that_save(excess, savings):
        yield with_resources(_all_drifted(resources, steps))
    unresolved: Json = {"resolveOnDeploy": []}
    # An upper bound: values in the lists are counted twice.
    if savings[-1] + _saved_lists(all_changes, unresolved) >= excess:
        shortest = _all_drifted(resources, _STEPS)
        for length in halvings(_longest(all_changes, unresolved)):
            yield with_resources([_cut_drifted(_object(each), length) for each in shortest])
    for number in halvings(len(resources)):
        if number * _MIN_DRIFTED_BYTES <= MAX_FRAME_BYTES:
            fewer = _all_drifted(resources[:number], _STEPS)
            yield with_resources([_cut_drifted(_object(each), 0) for each in fewer])


def _changes_of_drifted(drifted: Iterable[Json]) -> list[Json]:
    return [_object(each["changes"]) for each in drifted]


#: A lower bound: the keys alone of a drifted resource are longer.
_MIN_DRIFTED_BYTES = 200

#: A step that removes attributes from a resource's changes also removes them from its drift.
_STATES: dict[_Step, str] = {
    _without_spec_data: "persistedState",
    _without_spec: "externalState",
}


def _all_drifted(resources: Iterable[object], steps: Sequence[_Step]) -> list[object]:
    """The drifted resources after the steps."""
    states: Json = {_STATES[step]: None for step in steps if step in _STATES}
    return [
        {**_object(each), **states, "changes": _after(_object(_object(each)["changes"]), steps)}
        for each in resources
    ]


def _cut_drifted(resource: Json, length: int) -> Json:
    return {**resource, "changes": _cut_lists(_object(resource["changes"]), length)}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _objects(values: Iterable[object]) -> list[Json]:
    """The JSON objects among ``values``."""
    return [value for value in values if isinstance(value, dict)]
