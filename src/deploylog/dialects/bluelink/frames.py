"""Frames of a stream, at most as long as Bluelink's client reads; what is left out first."""

from collections.abc import Callable, Iterator

from deploylog.abridging import LONG_BYTES, TOO_LONG, fit
from deploylog.changes import encode

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

Forms = Callable[[Json], Iterator[Json]]


def render_json(value: object) -> bytes:
    """The JSON, in which no substitution stands."""
    # The client looks for ${…} in the text before it reads the JSON, and drops or garbles what
    # holds one; escaped, it is the same value.
    return encode(value).replace(b"${", b"\\u0024{")


def render_frame(type: str, id: str, data: Json) -> bytes:
    """One frame."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (type.encode(), id.encode(), render_json(data))


def render_fitting_frame(type: str, id: str, data: Json, forms: Forms) -> bytes:
    """One frame, of ``data`` or of the first of its shorter and shorter ``forms`` that fits."""
    frame = render_frame(type, id, data)
    if len(frame) <= MAX_FRAME_BYTES:
        return frame
    shorter = ({**form, "abridged": True} for form in _all_forms(data, forms))
    frames = (render_frame(type, id, form) for form in shorter)
    return fit(frame, frames, lambda form: len(form) <= MAX_FRAME_BYTES)


def _all_forms(data: Json, forms: Forms) -> Iterator[Json]:
    """``forms``, and then the last of them with shorter and shorter texts."""
    shortest = data
    for shortest in forms(data):
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


def no_forms(data: Json) -> Iterator[Json]:
    """For what has nothing to leave out but the ends of its texts."""
    yield from ()


# One resource


def shorter_resources(data: Json) -> Iterator[Json]:
    """The forms of a ``resourceChanges`` event."""
    for step in _STEPS:
        data = {**data, "changes": step(_object(data["changes"]))}
        yield data
    for longest in _halves(_longest([data["changes"]], data)):
        changes = _cut_lists(_object(data["changes"]), longest)
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


#: What is left out of a resource's changes, first to last.
_STEPS: tuple[Callable[[Json], Json], ...] = (
    _without_spec_data,
    _without_state,
    _without_spec,
    _without_unchanged,
    _without_resource,
    _with_short_values,
)


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


def _longest(all_changes: list[object], resolving: Json) -> int:
    """The length of the longest list of fields in any of them."""
    lists = [_list(_object(changes)[name]) for changes in all_changes for name in _FIELD_LISTS]
    return max(len(each) for each in (*lists, _list(resolving["resolveOnDeploy"])))


def _halves(longest: int) -> Iterator[int]:
    while longest := longest // 2:
        yield longest
    yield 0


# Everything at once


def shorter_blueprints(data: Json) -> Iterator[Json]:
    """The forms of a ``changeStagingComplete`` event."""
    for step in _STEPS:
        data = {**_each_drifted(data, step), "changes": _each(_object(data["changes"]), step)}
        yield data
    data = {**data, "changes": _with_short_exports(_object(data["changes"]))}
    yield data
    for longest in _halves(_longest_of(data)):
        yield {**data, "changes": _each_cut(_object(data["changes"]), longest)}
    data = {name: value for name, value in data.items() if name not in ("drift", "warnings")}
    yield {**data, "changes": _named_only(_object(data["changes"]))}
    yield {**data, "changes": _emptied(_object(data["changes"]))}


_RESOURCES = ("newResources", "resourceChanges")

_EXPORTS = ("newExports", "exportChanges")


def _each(blueprint: Json, step: Callable[[Json], Json]) -> Json:
    """The blueprint's changes after the step was done to those of each resource."""
    done = {
        kind: {name: step(_object(each)) for name, each in _object(blueprint[kind]).items()}
        for kind in _RESOURCES
    }
    return {**blueprint, **done}


def _with_short_exports(blueprint: Json) -> Json:
    short = {
        kind: {
            name: shorten_values(_object(each)) for name, each in _object(blueprint[kind]).items()
        }
        for kind in _EXPORTS
    }
    return {**blueprint, **short}


def _longest_of(data: Json) -> int:
    blueprint = _object(data["changes"])
    resources = [each for kind in _RESOURCES for each in _object(blueprint[kind]).values()]
    return _longest(resources, blueprint)


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


def shorter_drifts(data: Json) -> Iterator[Json]:
    """The forms of a ``driftDetected`` event."""
    result = _object(data["reconciliationResult"])
    resources = _list(result["resources"])

    def telling(resources: list[object]) -> Json:
        return {**data, "reconciliationResult": {**result, "resources": resources}}

    for step in _STEPS:
        resources = [_drifted(_object(each), step) for each in resources]
        yield telling(resources)
    all_changes = [_object(each)["changes"] for each in resources]
    for longest in _halves(_longest(all_changes, {"resolveOnDeploy": []})):
        yield telling([_cut_drifted(_object(each), longest) for each in resources])
    resources = [_cut_drifted(_object(each), 0) for each in resources]
    for number in _halves(len(resources)):
        yield telling(resources[:number])


#: With the attributes of a resource's changes go the same ones of its drift.
_STATES: dict[Callable[[Json], Json], str] = {
    _without_spec_data: "persistedState",
    _without_spec: "externalState",
}


def _drifted(resource: Json, step: Callable[[Json], Json]) -> Json:
    """A drifted resource after the step."""
    state = {_STATES[step]: None} if step in _STATES else {}
    return {**resource, **state, "changes": step(_object(resource["changes"]))}


def _cut_drifted(resource: Json, longest: int) -> Json:
    return {**resource, "changes": _cut_lists(_object(resource["changes"]), longest)}


def _each_drifted(data: Json, step: Callable[[Json], Json]) -> Json:
    """The same of drift that is told beside changes."""
    if "drift" not in data:
        return data
    return {**data, "drift": [_drifted(_object(each), step) for each in _list(data["drift"])]}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
