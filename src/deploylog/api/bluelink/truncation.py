"""Frames of a stream, at most as long as Bluelink's client reads; what is left out first."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from deploylog.deployments.changeset import encode
from deploylog.deployments.truncation import LONG_BYTES, TOO_LONG, fit

#: The client reads a frame into so many bytes, and comes back for the same one when it is longer.
MAX_FRAME_BYTES = 65_536

#: Characters that are left of a text, the more the sooner.
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

#: The shorter and shorter forms of some data, without those known to save less than so many bytes.
Forms = Callable[[Json, int], Iterator[Json]]

#: What every form saves.
ANYTHING = -(1 << 62)

_TRUNCATED = b',"truncated":true'


def render_json(value: object) -> bytes:
    """The JSON, in which no substitution stands."""
    # The client looks for ${…} in the text before it reads the JSON, and drops or garbles what
    # holds one; escaped, it is the same value.
    return encode(value).replace(b"${", b"\\u0024{")


def render_frame(type: str, id: str, data: Json) -> bytes:
    """One frame."""
    # The client parses a frame that is cut short: an id before the data would become its cursor,
    # and it would miss the event.
    return b"event: %b\ndata: %b\nid: %b\n\n" % (type.encode(), render_json(data), id.encode())


def render_fitting_frame(type: str, id: str, data: Json, forms: Forms) -> bytes:
    """One frame, of ``data`` or of the first of its shorter and shorter ``forms`` that fits."""
    frame = render_frame(type, id, data)
    if len(frame) <= MAX_FRAME_BYTES:
        return frame
    excess = len(frame) - MAX_FRAME_BYTES + (0 if "truncated" in data else len(_TRUNCATED))
    shorter = ({**form, "truncated": True} for form in _all_forms(data, forms, excess))
    frames = (render_frame(type, id, form) for form in shorter)
    return fit(frame, frames, lambda form: len(form) <= MAX_FRAME_BYTES)


def _all_forms(data: Json, forms: Forms, excess: int) -> Iterator[Json]:
    """``forms``, and then the last of them with shorter and shorter texts."""
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
    """For what has nothing to leave out but the ends of its texts."""
    yield from ()


# One resource


def shorter_resources(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """The forms of a ``resourceChanges`` event."""
    whole = _object(data["changes"])
    for steps in _steps_that_save(excess, _measure([whole])):
        yield {**data, "changes": _after(whole, steps)}
    shortest = _after(whole, _STEPS)
    for longest in _halves(_longest([whole], data)):
        changes = _cut_lists(shortest, longest)
        yield {**data, "changes": changes, **_cut_resolved(data, longest)}


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

#: What is left out of a resource's changes, first to last.
_STEPS: tuple[_Step, ...] = (
    _without_spec_data,
    _without_state,
    _without_spec,
    _without_unchanged,
    _without_resource,
    _with_short_values,
)


def _after(changes: Json, steps: Iterable[_Step]) -> Json:
    """The changes after the steps."""
    for step in steps:
        changes = step(changes)
    return changes


def shorten_values(field: Json) -> Json:
    """A field's change without its long values."""
    return {**field, "prevValue": _short(field["prevValue"]), "newValue": _short(field["newValue"])}


def _short(value: object) -> object:
    return TOO_LONG if len(render_json(value)) > LONG_BYTES else value


def _in_info(changes: Json, change: Callable[[Json], Json]) -> Json:
    return {**changes, "appliedResourceInfo": change(_object(changes["appliedResourceInfo"]))}


def _nulled(of: Json, name: str, inner: str) -> Json:
    """``of`` with ``name.inner`` being null, where there is a ``name``."""
    value = of[name]
    return {**of, name: {**value, inner: None}} if isinstance(value, dict) else of


def _cut_lists(changes: Json, longest: int) -> Json:
    return {**changes, **{name: _list(changes[name])[:longest] for name in _FIELD_LISTS}}


def _cut_resolved(data: Json, longest: int) -> Json:
    return {"resolveOnDeploy": _list(data["resolveOnDeploy"])[:longest]}


def _longest(all_changes: Iterable[Json], resolving: Json) -> int:
    """The length of the longest list of fields in any of them."""
    lists = [_list(changes[name]) for changes in all_changes for name in _FIELD_LISTS]
    return max(len(each) for each in (*lists, _list(resolving["resolveOnDeploy"])))


def _halves(longest: int) -> Iterator[int]:
    while longest := longest // 2:
        yield longest
    yield 0


# How much that saves


def _measure(all_changes: Sequence[Json], drifted: Sequence[Json] = ()) -> list[int]:
    """The bytes of JSON that the steps save, each with those before it, without taking them.

    To take them and encode what is left, time after time, would keep the event loop waiting.
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
    """The first steps, as many of them as are enough, and then more and more."""
    for number, saved in enumerate(savings, 1):
        if saved >= excess:
            yield _STEPS[:number]


def _saved(parts: Sequence[object], instead: object) -> int:
    """What it saves to have ``instead`` for each of these parts of a document."""
    return len(render_json(parts)) - len(render_json([instead] * len(parts)))


def _saved_values(fields: Iterable[object]) -> int:
    """What it saves to leave out the long values of these fields."""
    values = (_object(field)[name] for field in fields for name in ("prevValue", "newValue"))
    return _saved([value for value in values if _short(value) is not value], TOO_LONG)


def _saved_lists(all_changes: Iterable[Json], resolving: Json) -> int:
    """What it saves to leave out all fields."""
    lists = [changes[name] for changes in all_changes for name in _FIELD_LISTS]
    return _saved([*lists, resolving["resolveOnDeploy"]], [])


# Everything at once


def shorter_blueprints(data: Json, excess: int = ANYTHING) -> Iterator[Json]:
    """The forms of a ``changeStagingComplete`` event."""
    blueprint = _object(data["changes"])
    all_changes, drifted = _changes_of(blueprint), _objects(_list(data.get("drift")))
    savings = _measure([*all_changes, *_changes_of_drifted(drifted)], drifted)
    exports = _saved_values(each for kind in _EXPORTS for each in _object(blueprint[kind]).values())
    shortest = savings[-1] + exports
    for steps in _steps_that_save(excess, savings):
        yield _stepped(data, steps)
    if shortest >= excess:
        yield _with_short_exports(_stepped(data, _STEPS))
    # At least that: values are in lists, too.
    if shortest + _saved_lists(all_changes, blueprint) >= excess:
        yield from _with_fewer_fields(_with_short_exports(_stepped(data, _STEPS)))
    rest = {name: value for name, value in data.items() if name not in ("drift", "warnings")}
    yield {**rest, "changes": _named_only(blueprint)}
    yield {**rest, "changes": _emptied(blueprint)}


_RESOURCES = ("newResources", "resourceChanges")

_EXPORTS = ("newExports", "exportChanges")


def _changes_of(blueprint: Json) -> list[Json]:
    """Those of each resource."""
    return [_object(each) for kind in _RESOURCES for each in _object(blueprint[kind]).values()]


def _stepped(data: Json, steps: Sequence[_Step]) -> Json:
    """Everything after the steps were taken with each resource."""
    changes = _each(_object(data["changes"]), lambda changes: _after(changes, steps))
    drift = {"drift": _all_drifted(_list(data["drift"]), steps)} if "drift" in data else {}
    return {**data, "changes": changes, **drift}


def _each(blueprint: Json, step: _Step) -> Json:
    """The blueprint's changes after the step was done to those of each resource."""
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
    for longest in _halves(_longest(_changes_of(blueprint), blueprint)):
        yield {**data, "changes": _each_cut(blueprint, longest)}


def _each_cut(blueprint: Json, longest: int) -> Json:
    cut = _each(blueprint, lambda changes: _cut_lists(changes, longest))
    return {**cut, **_cut_resolved(blueprint, longest)}


def _named_only(blueprint: Json) -> Json:
    """The names of what changes, and nothing of how."""
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
    """The forms of a ``driftDetected`` event."""
    result = _object(data["reconciliationResult"])
    resources = _list(result["resources"])
    drifted = _objects(resources)
    all_changes = _changes_of_drifted(drifted)
    savings = _measure(all_changes, drifted)

    def telling(resources: list[object]) -> Json:
        return {**data, "reconciliationResult": {**result, "resources": resources}}

    for steps in _steps_that_save(excess, savings):
        yield telling(_all_drifted(resources, steps))
    nothing: Json = {"resolveOnDeploy": []}
    # At least that: values are in lists, too.
    if savings[-1] + _saved_lists(all_changes, nothing) >= excess:
        shortest = _all_drifted(resources, _STEPS)
        for longest in _halves(_longest(all_changes, nothing)):
            yield telling([_cut_drifted(_object(each), longest) for each in shortest])
    for number in _halves(len(resources)):
        if number * _LEAST_DRIFTED_BYTES <= MAX_FRAME_BYTES:
            fewest = _all_drifted(resources[:number], _STEPS)
            yield telling([_cut_drifted(_object(each), 0) for each in fewest])


def _changes_of_drifted(drifted: Iterable[Json]) -> list[Json]:
    return [_object(each["changes"]) for each in drifted]


#: Fewer than a drifted resource's keys alone have.
_LEAST_DRIFTED_BYTES = 200

#: With the attributes of a resource's changes go the same ones of its drift.
_STATES: dict[_Step, str] = {
    _without_spec_data: "persistedState",
    _without_spec: "externalState",
}


def _all_drifted(resources: Iterable[object], steps: Sequence[_Step]) -> list[object]:
    """Drifted resources after the steps."""
    states: Json = {_STATES[step]: None for step in steps if step in _STATES}
    return [
        {**_object(each), **states, "changes": _after(_object(_object(each)["changes"]), steps)}
        for each in resources
    ]


def _cut_drifted(resource: Json, longest: int) -> Json:
    return {**resource, "changes": _cut_lists(_object(resource["changes"]), longest)}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _objects(values: Iterable[object]) -> list[Json]:
    """Those of them that are objects."""
    return [value for value in values if isinstance(value, dict)]
