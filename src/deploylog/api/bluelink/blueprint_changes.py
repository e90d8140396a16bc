"""A plan's changes in Bluelink's form: by resource, and of the whole blueprint."""

import re
from collections.abc import Iterable

from deploylog.api.bluelink.resources import NO_RECORDS, Records, render_state
from deploylog.api.bluelink.truncation import Json
from deploylog.deployments.changeset import (
    SENSITIVE,
    Changes,
    Diagnostic,
    FieldChange,
    OutputChange,
    Path,
    ResourceChange,
)

#: A ResourceStatus.
CREATED = 2

#: Two values of PreciseResourceStatus, whose numbers differ from ResourceStatus.
PRECISE_CREATED = 3
PRECISE_DESTROYED = 9

_REMOVALS = ("delete", "forget")

#: A resource's attribute for labels: Google Cloud's name, then that of most other providers.
_LABELS = ("labels", "tags")

#: As in the engine, a name of one character is written as a key.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]+")

_LEVELS = {"error": 1, "warning": 2}


def render_path(root: str, path: Path) -> str:
    """``spec.a.b[0]["x.y"]``."""
    return root + "".join(_render_step(step) for step in path)


def _render_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _NAME.fullmatch(step) else f'["{step}"]'


# One resource


def render_resource(
    change: ResourceChange, *, instance_id: str, timestamp: int, records: Records = NO_RECORDS
) -> Json:
    """A ``resourceChanges`` event; ``records`` are the recorded states of resources."""
    data: Json = {
        "resourceName": change.name,
        "removed": change.action in _REMOVALS,
        "new": change.action == "create",
        "changes": render_changes(change, instance_id, records),
        "resolveOnDeploy": _resolved_resource(change),
        "conditionKnownOnDeploy": False,
    }
    if change.action in _REMOVALS:
        data["removalPolicy"] = "delete" if change.action == "delete" else "retain"
    data["timestamp"] = timestamp
    if plan := _render_plan(change):
        data["plan"] = plan
    return data | _truncated(truncated=change.truncated)


def _truncated(*, truncated: bool) -> Json:
    return {"truncated": True} if truncated else {}


def _resolved_resource(change: ResourceChange) -> list[object]:
    return [render_path(f"resources.{change.name}.spec", path) for path in change.known_on_deploy]


def _render_plan(change: ResourceChange) -> Json:
    """Details that only a plan has; the engine's own client ignores them."""
    order = ["create", "delete"] if change.create_first else ["delete", "create"]
    details: Json = {
        "previousAddress": change.previous_address,
        "import": {"id": change.import_id} if change.imported else None,
        "reason": change.reason,
        "provider": change.provider,
        "order": order if change.action == "replace" else None,
        "forgets": True if change.removes_from_state else None,
        "deposed": change.deposed,
    }
    return {name: detail for name, detail in details.items() if detail is not None}


def render_changes(change: ResourceChange, instance_id: str, records: Records = NO_RECORDS) -> Json:
    """``Changes``: a resource's fields, and the resource before and after."""
    removed = change.action in _REMOVALS
    return {
        "appliedResourceInfo": _render_info(change, instance_id, records),
        "mustRecreate": change.action == "replace",
        "modifiedFields": [] if removed else _render_fields(change, change.modified),
        "newFields": [] if removed else _render_fields(change, change.added),
        "removedFields": [] if removed else _render_paths(change.removed),
        "unchangedFields": [] if removed else _render_paths(change.unchanged),
        "computedFields": [] if removed else _render_paths(change.computed),
        "fieldChangesKnownOnDeploy": [] if removed else _render_paths(change.known_on_deploy),
        "conditionKnownOnDeploy": False,
        "newOutboundLinks": {},
        "outboundLinkChanges": {},
        "removedOutboundLinks": [],
    }


def _render_paths(paths: Iterable[Path]) -> list[object]:
    return [render_path("spec", path) for path in paths]


def _render_fields(change: ResourceChange, fields: Iterable[FieldChange]) -> list[object]:
    new = change.action == "create"
    return [
        {
            "fieldPath": render_path("spec", field.path),
            "prevValue": field.before,
            "newValue": field.after,
            "mustRecreate": field.replaces and not new,
            "sensitive": field.sensitive,
        }
        for field in fields
    ]


def _render_info(change: ResourceChange, instance_id: str, records: Records) -> Json:
    new = change.action == "create"
    return {
        "resourceId": "" if new else change.id or "",
        "resourceName": change.name,
        "instanceId": instance_id,
        "currentResourceState": None if new else _render_state(change, instance_id, records),
        "resourceWithResolvedSubs": _render_resolved(change),
    }


def _render_state(change: ResourceChange, instance_id: str, records: Records) -> Json:
    # The record describes the newest object of the address, so not a deposed one.
    record = records.get(change.address) if change.deposed is None else None
    state: Json = {
        "status": CREATED,
        "preciseStatus": PRECISE_CREATED,
        "specData": change.before,
        "failureReasons": [],
    }
    if record is not None:
        state = render_state(record, change.before)
    if change.reason == "replace_because_tainted" and not state["failureReasons"]:
        state["failureReasons"] = ["tainted"]
    return {
        "id": change.id or "",
        "name": change.name,
        "type": change.type,
        **_render_template(change),
        "instanceId": instance_id,
        **state,
        **_render_description(change.before),
        **({"dependsOnResources": list(change.depends_on)} if change.depends_on else {}),
    }


def _render_resolved(change: ResourceChange) -> Json | None:
    was_truncated = change.truncated and change.action not in _REMOVALS
    if change.after is None and not was_truncated:
        return None
    return {"type": change.type, **_render_description(change.after), "spec": change.after}


def _render_template(change: ResourceChange) -> Json:
    """The name that instances of the resource share: its address without index or key."""
    for suffix in (f"[{change.key}]", f'["{change.key}"]') if change.key is not None else ():
        if change.address.endswith(suffix):
            return {"templateName": change.address.removesuffix(suffix)}
    return {}


def _render_description(attributes: object) -> Json:
    """The description and metadata of the blueprint's resource, from its attributes."""
    own = attributes if isinstance(attributes, dict) else {}
    block = own.get("metadata")
    # Kubernetes' providers have it as a block, which is an array of one.
    if isinstance(block, list) and len(block) == 1:
        [block] = block
    nested = block if isinstance(block, dict) else {}
    metadata: Json = {
        "displayName": _text(own.get("display_name")),
        "annotations": _texts(own.get("annotations")) or _texts(nested.get("annotations")),
        "labels": _first(
            [*(_texts(own.get(name)) for name in _LABELS), _texts(nested.get("labels"))]
        ),
    }
    fields: Json = {
        "description": _text(own.get("description")),
        "metadata": {name: value for name, value in metadata.items() if value},
    }
    return {name: value for name, value in fields.items() if value}


def _first(candidates: Iterable[Json]) -> Json:
    """The first that is not empty."""
    return next((each for each in candidates if each), {})


def _text(value: object) -> str | None:
    """The text, unless it is empty or redacted."""
    return value if isinstance(value, str) and value not in ("", SENSITIVE) else None


def _texts(value: object) -> Json:
    """Texts by name; empty when ``value`` is anything else."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        return {}
    return value


# The blueprint


def render_blueprint(changes: Changes, instance_id: str, records: Records = NO_RECORDS) -> Json:
    """``BlueprintChanges``: all changes of a plan."""
    resources, outputs = changes.resources, changes.outputs
    return {
        "newResources": _by_name(resources, instance_id, records, "create"),
        "resourceChanges": _by_name(resources, instance_id, records, "update", "replace"),
        "removedResources": [each.name for each in resources if each.action == "delete"],
        "retainedResources": _retained(resources),
        "removedLinks": [],
        "newChildren": {},
        "childChanges": {},
        "recreateChildren": [],
        "removedChildren": [],
        "newExports": _exports(outputs, "create"),
        "exportChanges": _exports(outputs, "update"),
        "unchangedExports": [_export(each) for each in outputs if each.action == "none"],
        "removedExports": [_export(each) for each in outputs if each.action == "delete"],
        "metadataChanges": {
            "newFields": [],
            "modifiedFields": [],
            "unchangedFields": [],
            "removedFields": [],
        },
        "resolveOnDeploy": _resolved(changes),
    }


def render_no_blueprint() -> Json:
    """``BlueprintChanges`` before any are known: nulls, as in the engine."""
    blueprint = render_blueprint(Changes(), "")
    metadata = dict.fromkeys(("newFields", "modifiedFields", "unchangedFields", "removedFields"))
    return {**dict.fromkeys(blueprint), "metadataChanges": metadata}


def _by_name(
    resources: Iterable[ResourceChange], instance_id: str, records: Records, *actions: str
) -> Json:
    chosen = (each for each in resources if each.action in actions)
    return {each.name: render_changes(each, instance_id, records) for each in chosen}


def _retained(resources: Iterable[ResourceChange]) -> list[object]:
    """The resources removed from state only; a replaced object gets a distinct name."""
    return [
        each.name if each.action == "forget" else f"{each.address} (forgotten)"
        for each in resources
        if each.action == "forget" or each.removes_from_state
    ]


def _exports(outputs: Iterable[OutputChange], action: str) -> Json:
    return {
        each.name: {
            "fieldPath": f"outputs.{each.name}",
            "prevValue": each.before,
            "newValue": None if each.known_on_deploy else each.after,
            "mustRecreate": False,
            "sensitive": each.sensitive,
        }
        for each in outputs
        if each.action == action
    }


def _export(output: OutputChange) -> str:
    return f"exports.{output.name}"


def _resolved(changes: Changes) -> list[object]:
    """The paths of all values known only after deployment."""
    return [
        *(path for change in changes.resources for path in _resolved_resource(change)),
        *(_export(output) for output in changes.outputs if output.known_on_deploy),
        *(f"datasources.{address}" for address in changes.data_sources),
    ]


# Beside the changes


def render_drift_and_warnings(
    changes: Changes, instance_id: str, records: Records = NO_RECORDS
) -> Json:
    """Drift and warnings, if there are any; the engine's own client ignores them."""
    warnings = render_diagnostics(each for each in changes.problems if each.level == "warning")
    drift = [_render_drifted(each, instance_id, records) for each in changes.drift]
    return (
        ({"drift": drift} if drift else {})
        | ({"warnings": warnings} if warnings else {})
        | _truncated(truncated=changes.truncated)
    )


def render_diagnostics(problems: Iterable[Diagnostic]) -> list[object]:
    """``Diagnostic`` of each problem."""
    return [{"level": _LEVELS[each.level], "message": each.message} for each in problems]


def render_reconciliation(
    changes: Changes, instance_id: str, records: Records = NO_RECORDS
) -> Json:
    """``ReconciliationCheckResult``: changes made outside of deployments."""
    return {
        "instanceId": instance_id,
        "resources": [_render_drifted(each, instance_id, records) for each in changes.drift],
        "links": [],
        "hasInterrupted": False,
        "hasDrift": True,
        "hasChildIssues": False,
    }


def _render_drifted(change: ResourceChange, instance_id: str, records: Records) -> Json:
    exists = change.action not in _REMOVALS
    return {
        "resourceId": change.id or "",
        "resourceName": change.name,
        "resourceType": change.type,
        "type": "drift",
        "oldStatus": PRECISE_CREATED,
        "newStatus": PRECISE_CREATED if exists else PRECISE_DESTROYED,
        "externalState": change.after,
        "persistedState": change.before,
        "changes": render_changes(change, instance_id, records),
        "resourceExists": exists,
        "recommendedAction": "accept_external",
    }
