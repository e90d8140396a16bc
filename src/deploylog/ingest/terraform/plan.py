"""The plan of Terraform or OpenTofu (``terraform show -json PLAN``), as a change set's changes."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from deploylog.deployments.changeset import (
    SENSITIVE,
    Action,
    ChangeCounts,
    Changes,
    Diagnostic,
    Invocation,
    OutputChange,
    ResourceChange,
)
from deploylog.errors import InvalidPlan
from deploylog.ingest.terraform.attributes import FieldChanges, ReplacePaths, compare_fields
from deploylog.ingest.terraform.dependencies import Declaration, Dependencies
from deploylog.ingest.terraform.plan_document import (
    Change,
    Check,
    ConfiguredModule,
    Plan,
    PlannedResource,
    read_plan,
)
from deploylog.ingest.terraform.redaction import (
    Marks,
    Redactor,
    child_marks,
    holds_true,
    is_marked,
    secrets_of,
)

#: Tools' words for what is done, whatever their order, and ours.
_ACTIONS: dict[frozenset[str], Action] = {
    frozenset({"no-op"}): "none",
    frozenset({"create"}): "create",
    frozenset({"update"}): "update",
    frozenset({"delete"}): "delete",
    frozenset({"forget"}): "forget",
    frozenset({"create", "delete"}): "replace",
    frozenset({"create", "forget"}): "create",
}

#: Actions after which the resource has no fields.
_REMOVALS = frozenset({"delete", "forget"})

_FAILED = {"fail": "the check failed", "error": "the check could not be carried out"}

_MODULE = re.compile(r'module\.([^.\[]+)(?:\[(?:"(?:[^"\\]|\\.)*"|[^\]]*)\])?\.?')

_OPENTOFU = "registry.opentofu.org/"

#: Maximum length of an id; longer ones are truncated.
MAX_ID = 1_024


def parse_plan(document: bytes) -> Changes:
    """The changes that a plan would make, without what it says is sensitive.

    Raises InvalidPlan.
    """
    plan = read_plan(document)
    return _PlanReader(plan, Redactor(secrets_of(plan))).changes()


class _PlanReader:
    """One plan being read."""

    def __init__(self, plan: Plan, redactor: Redactor) -> None:
        self._plan = plan
        self._redactor = redactor
        self._warnings: list[str] = []
        self._dependencies = Dependencies(plan)
        self._expressions: dict[Declaration, frozenset[str]] = {}
        if plan.configuration:
            self._expressions = dict(_expressions_in(plan.configuration.root_module, ()))

    def changes(self) -> Changes:
        """All of it."""
        resources = self._resources()
        drifted = list(self._drift())
        drift = [change for change in drifted if change.action != "none"]
        resources += _moves(drifted, besides=resources)
        invocations = list(self._invocations())
        outputs = list(self._outputs())
        return Changes(
            tool=self._tool(),
            tool_version=self._plan.terraform_version,
            errored=self._plan.errored,
            totals=_totals(resources),
            resources=tuple(sorted(resources, key=lambda it: it.action not in _REMOVALS)),
            outputs=tuple(outputs),
            drift=tuple(drift),
            data_sources=tuple(self._reads()),
            invocations=tuple(invocations),
            invoked=len(invocations),
            deferred=len(self._plan.deferred_changes) + len(self._plan.deferred_action_invocations),
            problems=tuple(self._problems()),
        )

    def _tool(self) -> Literal["terraform", "opentofu"]:
        providers = [change.provider_name for change in self._plan.resource_changes]
        if self._plan.configuration:
            configured = self._plan.configuration.provider_config.values()
            providers += [provider.full_name for provider in configured]
        is_opentofu = any(name and name.startswith(_OPENTOFU) for name in providers)
        return "opentofu" if is_opentofu else "terraform"

    def _resources(self) -> list[ResourceChange]:
        resources: dict[str, ResourceChange] = {}
        for number, planned in enumerate(self._plan.resource_changes):
            self._check_mode(planned)
            if planned.mode == "managed":
                change = self._resource(planned)
                if change.name in resources:
                    field = f"resource_changes[{number}].address"
                    raise InvalidPlan(f"{field}: {change.name} is there twice", field=field)
                resources[change.name] = change
        return list(resources.values())

    def _check_mode(self, planned: PlannedResource) -> None:
        if planned.mode not in ("managed", "data", "ephemeral"):
            self._warn(planned, f"unknown mode {planned.mode}")

    def _drift(self) -> Iterator[ResourceChange]:
        for planned in self._plan.resource_drift:
            if planned.mode == "managed":
                yield self._resource(msgspec.structs.replace(planned, address=planned.place))

    def _reads(self) -> Iterator[str]:
        for planned in self._plan.resource_changes:
            if planned.mode == "data" and "read" in planned.change.actions:
                yield self._redactor.name(planned.address)

    def _invocations(self) -> Iterator[Invocation]:
        for planned in self._plan.action_invocations:
            trigger = planned.lifecycle_action_trigger
            resource = trigger.triggering_resource_address if trigger else None
            yield Invocation(
                action=self._redactor.name(planned.address),
                resource=_if_text(resource, self._redactor.name),
                event=trigger.action_trigger_event if trigger else None,
            )

    def _resource(self, planned: PlannedResource) -> ResourceChange:
        change, redactor = planned.change, self._redactor
        action = self._action(planned)
        fields = self._fields(planned, action)
        importing = change.importing
        return ResourceChange(
            name=redactor.name(_name(planned)),
            address=redactor.name(planned.address),
            type=planned.type,
            action=action,
            resource_name=redactor.text(planned.name),
            key=_if_text(_key(planned.index), redactor.name),
            provider=planned.provider_name,
            id=self._id(change.before, change.marks),
            deposed=planned.deposed,
            previous_address=_if_text(planned.previous_address, redactor.name),
            imported=importing is not None,
            import_id=_if_text(importing.id if importing else None, self._short),
            reason=planned.action_reason,
            create_first=action == "replace" and _is_create_first(change.actions),
            removes_from_state=action == "create" and "forget" in change.actions,
            depends_on=self._depends_on(planned),
            before=redactor.value(change.before, change.marks),
            after=redactor.value(change.after, change.marks),
            **msgspec.structs.asdict(fields),
        )

    def _depends_on(self, planned: PlannedResource) -> tuple[str, ...]:
        found = self._dependencies.of(
            planned.address,
            planned.deposed,
            _declaration(planned),
            exists=planned.change.before is not None,
        )
        return tuple(map(self._redactor.name, found))

    def _action(self, planned: PlannedResource) -> Action:
        words = frozenset(planned.change.actions)
        action = _ACTIONS.get(words) or _ACTIONS.get(words & {"create", "delete"})
        if action is None:
            self._warn(planned, f"unknown action {', '.join(planned.change.actions)}")
        return action or "none"

    def _fields(self, planned: PlannedResource, action: Action) -> FieldChanges:
        change = planned.change
        if action in _REMOVALS:
            return FieldChanges()
        is_new = action == "create"
        return compare_fields(
            # What is forgotten under this address is another object.
            None if is_new else change.before,
            change.after,
            unknown=change.after_unknown,
            marks=change.marks,
            redactor=self._redactor,
            replaces=ReplacePaths(() if is_new else change.replace_paths or ()),
            expressions=self._expressions.get(_declaration(planned)),
        )

    def _id(self, before: dict[str, object] | None, marks: Marks) -> str | None:
        id = (before or {}).get("id")
        if not isinstance(id, str):
            return None
        is_hidden = is_marked(marks, before) or is_marked(child_marks(marks, "id"), id)
        return SENSITIVE if is_hidden else self._short(id)

    def _short(self, id: str) -> str:
        # Redact before truncating: a secret at the cut would not be found.
        return self._redactor.text(id)[:MAX_ID]

    def _outputs(self) -> Iterator[OutputChange]:
        for name, change in self._plan.output_changes.items():
            values = [self._redactor.value(value, change.marks) for value in change.values]
            yield OutputChange(
                name=self._redactor.name(name),
                action=_output_action(change),
                before=values[0],
                after=values[1],
                known_on_deploy=holds_true(change.after_unknown),
                sensitive=holds_true([*change.marks]) or values != change.values,
            )

    def _problems(self) -> Iterator[Diagnostic]:
        if self._plan.errored:
            message = "The plan is incomplete because of an error"
            yield Diagnostic(level="error", message=message)
        for message in (*self._warnings, *self._deferred(), *_failures(self._plan.checks)):
            yield Diagnostic(level="warning", message=self._redactor.text(message))

    def _warn(self, planned: PlannedResource, message: str) -> None:
        self._warnings.append(f"{_name(planned)}: {message}")

    def _deferred(self) -> Iterator[str]:
        left = [(_name(each.resource_change), each.reason) for each in self._plan.deferred_changes]
        left += [
            (each.action_invocation.address, each.reason)
            for each in self._plan.deferred_action_invocations
        ]
        for name, reason in left:
            yield f"{name}: left for a later plan{f' ({reason})' if reason else ''}"


def _moves(
    drifted: Iterable[ResourceChange], *, besides: Iterable[ResourceChange]
) -> list[ResourceChange]:
    """Those that only moved: a refresh-only plan tells of them among the drift."""
    known = {change.name for change in besides}
    return [
        change
        for change in drifted
        if change.action == "none" and change.previous_address and change.name not in known
    ]


def _name(planned: PlannedResource) -> str:
    deposed = f" (deposed {planned.deposed})" if planned.deposed else ""
    return planned.address + deposed


def _is_create_first(actions: Sequence[str]) -> bool:
    return actions.index("create") < actions.index("delete")


def _key(index: str | int | None) -> str | None:
    return None if index is None else str(index)


def _if_text(value: object, render: Callable[[str], str]) -> str | None:
    return render(value) if isinstance(value, str) else None


def _output_action(change: Change) -> Literal["create", "update", "delete", "none"]:
    words = frozenset(change.actions)
    if words >= {"create", "delete"} or "update" in words:
        return "update"
    if "create" in words:
        return "create"
    return "delete" if "delete" in words else "none"


def _failures(checks: Iterable[Check]) -> Iterator[str]:
    """What the checks say that did not pass."""
    for check in checks:
        failures = list(_instance_failures(check))
        if not failures and check.status in _FAILED:
            failures = [f"{check.address.to_display}: {_FAILED[check.status]}"]
        yield from failures


def _instance_failures(check: Check) -> Iterator[str]:
    for instance in check.instances:
        if instance.status in _FAILED:
            where = instance.address.to_display or check.address.to_display
            for problem in instance.problems:
                yield f"{where}: {problem.message}"


def _totals(resources: Iterable[ResourceChange]) -> ChangeCounts:
    counts: Counter[str] = Counter()
    for change in resources:
        counts[change.action] += 1
        counts["forget"] += change.removes_from_state
        counts["imported"] += change.imported
        counts["moved"] += change.previous_address is not None
    return ChangeCounts(**counts)


def _declaration(planned: PlannedResource) -> Declaration:
    """Where the configuration declares the resource, whichever of its instances this is."""
    modules = _MODULE.findall(planned.module_address or "")
    return tuple(modules), planned.type, planned.name


def _expressions_in(
    module: ConfiguredModule, names: tuple[str, ...]
) -> Iterator[tuple[Declaration, frozenset[str]]]:
    """The attributes that are set of each resource, also of those in called modules."""
    for resource in module.resources:
        if resource.mode == "managed":
            yield (names, resource.type, resource.name), frozenset(resource.expressions)
    for name, call in module.module_calls.items():
        if call.module:
            yield from _expressions_in(call.module, (*names, name))
