"""A run of Terraform or OpenTofu (``apply -json``): its state, and the events of its lines.

Facts are copied into ``data`` one by one, never whole objects, because lines may contain secrets:
states, values of variables, outputs.
"""

from typing import Literal

import msgspec

from deploylog.events.event import NewEvent, Resource
from deploylog.ingest.terraform.facts import (
    action_in,
    as_count,
    as_name,
    as_object,
    as_text,
    as_type_word,
    diagnostic_data,
    diagnostic_message,
    drop_unknown,
    elapsed_in,
    outputs_data,
    redact_output,
    render_facts,
    render_json,
    resource_in,
    trigger_in,
    truncate_message,
    with_id_of,
)
from deploylog.ingest.terraform.lines import Line, decode_line, is_ui_line, parse_line
from deploylog.ingest.terraform.other_lines import OtherLine, OtherLines
from deploylog.ingest.terraform.plan_text import ANSI

#: Line types about an operation on a resource, and the phase that each reports.
_PHASES = {
    "apply_start": "started",
    "apply_progress": "progress",
    "apply_complete": "completed",
    "apply_errored": "failed",
}

_CHANGES = {"planned_change": "deployment.planned", "resource_drift": "deployment.drift"}

#: Line types that report a failure although their level is info.
_FAILURES = frozenset(
    {"provision_errored", "ephemeral_op_errored", "action_errored", "migration_errored"}
)

#: Line types of other commands, which are not part of a deployment; like all of ``test_*``.
_IGNORED = frozenset({"resource_address", "workspace_list", "replace_provider"})

#: Operations that change resources.
_MUTATING = frozenset({"apply", "destroy"})

_COUNTS = ("add", "change", "import", "remove", "forget", "action_invocation")

#: Exit code of ``plan -detailed-exitcode`` for a plan with changes; also of a crash.
_HAS_CHANGES = 2


class TerraformRun:
    """Turns the lines of one run into events, and tracks the operations in progress.

    The events have no scopes yet. The same lines produce the same events with the same ids.
    """

    def __init__(self, *, deployment_id: str) -> None:
        """``deployment_id`` prefixes the id of every event."""
        self._deployment_id = deployment_id
        self._lines = 0
        self._tool: Literal["terraform", "opentofu"] | None = None
        self._version: str | None = None
        #: Operations in progress, by unit, address and action.
        self._open: dict[tuple[str, str, str], Resource | None] = {}
        self._others = OtherLines()
        #: Time of the last UI line.
        self._time: int | None = None
        self._changing = False
        #: Message of the last change summary, and the operation that the summaries name.
        self._summary: str | None = None
        self._summarized: str | None = None
        #: Message of the first error of either kind.
        self._diagnostic_error: str | None = None
        self._apply_error: str | None = None
        self._completed: bool | None = None

    @property
    def tool(self) -> Literal["terraform", "opentofu"]:
        """The tool: the source of every event of the run."""
        return self._tool or "terraform"

    @property
    def version(self) -> str | None:
        """The tool's version, once reported."""
        return self._version

    @property
    def operation(self) -> str | None:
        """``plan``, ``apply``, ``destroy``, …, as far as known."""
        if self._changing and self._summarized not in _MUTATING:
            return "apply"
        return self._summarized

    @property
    def failed(self) -> bool:
        """Whether the run failed; before its end, whether an error occurred."""
        return self._error is not None if self._completed is None else not self._completed

    @property
    def _error(self) -> str | None:
        return self._diagnostic_error or self._apply_error

    @property
    def has_started(self) -> bool:
        """Whether a UI line has arrived."""
        return self._tool is not None

    @property
    def unrecognized_input(self) -> str:
        """A description of the input that arrived instead of UI lines."""
        return self._others.description

    def feed(self, line: bytes, *, now: int) -> list[NewEvent]:
        """Return the events of the next line, with or without its newline.

        ``now`` (ns) dates a line without a timestamp. Any other line becomes a ``deployment.log``;
        before the first UI line it is buffered.
        """
        self._lines += 1
        plain = ANSI.sub(b"", line) if b"\x1b" in line else line
        text = plain.decode("utf-8-sig", errors="replace")
        fields, unit = decode_line(text)
        if not is_ui_line(fields):
            return self._feed_other(text, fields, now=now)
        read = parse_line(fields, id=str(self._lines), unit=unit, now=now)
        self._time = read.time
        event = self._read(read)
        return [*self._flush(read.time), event] if event else []

    def _feed_other(self, text: str, fields: dict[str, object], *, now: int) -> list[NewEvent]:
        other = self._others.parse(text, fields, number=self._lines)
        if other is None:
            return []
        if not self.has_started:
            self._others.buffer(other)
            return []
        return [self._other(other, now if self._time is None else self._time)]

    def _flush(self, time: int) -> list[NewEvent]:
        """Return the buffered lines before a UI line."""
        open_block = self._others.end_block(self._lines - 1)
        buffered = [*self._others.drain(), *([open_block] if open_block else [])]
        return [self._other(other, time) for other in buffered]

    def _other(self, other: OtherLine, time: int) -> NewEvent:
        line = Line(id=f"{other.number}", time=time, message=other.message)
        data = render_facts(module=as_name(other.module), level=as_name(other.level))
        return self._event(line, "deployment.log", data=data)

    def close(self, *, now: int, exit_code: int | None) -> list[NewEvent]:
        """Return the events of the end of the stream; the last one ends the deployment.

        ``exit_code`` is the tool's, or ``None`` if unknown.
        """
        self._completed = self._has_completed(exit_code)
        return [*self._trailing_events(now), *self._interruptions(now), self._end(now, exit_code)]

    def _trailing_events(self, now: int) -> list[NewEvent]:
        if not self.has_started:
            if not self._others.has_any:
                return []
            # Otherwise readers would take counts of zero for the result.
            message = "The output does not say what was done to any resource"
            return [
                self._event(Line(id="end/unknown", time=now, message=message), "deployment.log")
            ]
        rest = self._others.end_block(self._lines)
        return [self._other(rest, now if self._time is None else self._time)] if rest else []

    def _read(self, line: Line) -> NewEvent | None:
        match line.kind:
            case "version":
                return self._read_version(line)
            case "diagnostic":
                return self._read_diagnostic(line)
            case "change_summary":
                return self._read_summary(line)
            case "outputs":
                return self._read_outputs(line)
            case "planned_action_invocation":
                return self._read_invocation(line)
            case kind if kind in _CHANGES:
                return self._read_change(line, _CHANGES[kind])
            case kind if kind in _PHASES:
                return self._read_apply(line, _PHASES[kind])
            case kind if kind in _IGNORED or kind.startswith("test_"):
                return None
            case _:
                return self._read_log(line)

    def _read_version(self, line: Line) -> NewEvent:
        # The first event fixes the tool: the source is part of an event's identity, and a reader
        # that filters by it would otherwise lose part of the run.
        if self._tool is None and "tofu" in line.fields:
            self._tool = "opentofu"
        self._version = as_name(line.fields.get("tofu", line.fields.get("terraform")))
        data = render_facts(tool=self.tool, version=self._version)
        return self._event(line, "deployment.version", data=data)

    def _read_diagnostic(self, line: Line) -> NewEvent:
        diagnostic = as_object(line.fields.get("diagnostic"))
        is_error = line.is_error or diagnostic.get("severity") == "error"
        if is_error:
            self._diagnostic_error = self._diagnostic_error or line.message or "Error"
        line = msgspec.structs.replace(line, message=diagnostic_message(line.message, diagnostic))
        data = diagnostic_data(diagnostic)
        return self._event(line, "deployment.error" if is_error else "deployment.log", data=data)

    def _read_summary(self, line: Line) -> NewEvent:
        changes = as_object(line.fields.get("changes"))
        operation = as_name(changes.get("operation"))
        self._summary = line.message
        if self._summarized not in _MUTATING:
            self._summarized = operation
        counts = {name: as_count(changes.get(name)) for name in _COUNTS}
        data = render_facts(operation=operation, changes=drop_unknown(counts))
        type_ = "deployment.summary" if operation in _MUTATING else "deployment.log"
        return self._event(line, type_, data=data)

    def _read_outputs(self, line: Line) -> NewEvent | None:
        outputs = {
            name: redact_output(output)
            for name, value in as_object(line.fields.get("outputs")).items()
            if (output := as_object(value)) and "action" not in output
        }
        if not outputs:
            return None
        return self._event(line, "deployment.outputs", data=outputs_data(outputs))

    def _read_change(self, line: Line, type_: str) -> NewEvent:
        change = as_object(line.fields.get("change"))
        data = render_facts(
            action=as_name(change.get("action")),
            reason=as_name(change.get("reason")),
            previous_address=as_name(as_object(change.get("previous_resource")).get("addr")),
        )
        return self._event(line, type_, resource=resource_in(change), data=data)

    def _read_invocation(self, line: Line) -> NewEvent:
        invocation = as_object(line.fields.get("invocation"))
        data = render_facts(action="invoke", **trigger_in(invocation.get("lifecycle_trigger")))
        return self._event(line, "deployment.planned", resource=action_in(invocation), data=data)

    def _read_apply(self, line: Line, phase: str) -> NewEvent:
        hook = as_object(line.fields.get("hook"))
        action = as_type_word(hook.get("action"))
        # Data sources are read while planning, too.
        self._changing = self._changing or action != "read"
        if phase == "failed":
            self._apply_error = self._apply_error or line.message or "Error"
        resource = self._track(hook, line.unit, action, phase)
        return self._hook_event(line, f"resource.{action}.{phase}", hook, resource)

    def _track(
        self, hook: dict[str, object], unit: str, action: str, phase: str
    ) -> Resource | None:
        """Start or finish the operation; an id missing here is taken from its start."""
        resource = resource_in(hook)
        address = as_text(as_object(hook.get("resource")).get("addr"))
        if address is None:
            return resource
        slot = (unit, address, action)
        if phase == "started":
            self._open[slot] = resource
            return resource
        resource = with_id_of(resource, self._open.get(slot))
        if phase in ("completed", "failed"):
            self._open.pop(slot, None)
        return resource

    def _read_log(self, line: Line) -> NewEvent:
        failed = line.is_error or line.kind in _FAILURES
        type_ = "deployment.error" if failed else "deployment.log"
        hook = as_object(line.fields.get("hook"))
        if hook:
            return self._hook_event(line, type_, hook, resource_in(hook) or action_in(hook))
        return self._event(line, type_, data=render_facts(type=as_name(line.kind) or None))

    def _hook_event(
        self, line: Line, type_: str, hook: dict[str, object], resource: Resource | None
    ) -> NewEvent:
        data = render_facts(
            hook=as_name(line.kind),
            action=as_name(hook.get("action")),
            provisioner=as_name(hook.get("provisioner")),
            **trigger_in(hook.get("lifecycle")),
        )
        return self._event(line, type_, resource=resource, elapsed=elapsed_in(hook), data=data)

    def _interruptions(self, now: int) -> list[NewEvent]:
        if not self._open:
            return []
        events = [
            self._event(
                Line(id=f"end/{k}", time=now, message=f"{address}: interrupted"),
                f"resource.{action}.failed",
                resource=resource,
                data=render_facts(action=action),
            )
            for k, ((_, address, action), resource) in enumerate(self._open.items(), 1)
        ]
        last = Line(id=f"end/{len(events) + 1}", time=now, message=self._interrupted)
        return [*events, self._event(last, "deployment.error")]

    @property
    def _interrupted(self) -> str:
        return f"{self._name} ended before its resources did"

    @property
    def _name(self) -> str:
        """The tool, if it has reported its version."""
        return self.tool if self.version is not None else "the tool"

    def _end(self, now: int, exit_code: int | None) -> NewEvent:
        message = f"{self._name} ended with exit code {exit_code}"
        if self._completed:
            message = self._summary or message
        else:
            message = self._failure(exit_code) or message
        return self._event(
            Line(id="end", time=now, message=message),
            "deployment.completed" if self._completed else "deployment.failed",
            data=render_json({"operation": self.operation, "exit_code": exit_code}),
        )

    def _has_completed(self, exit_code: int | None) -> bool:
        if self._open:
            return False
        if exit_code is None:
            return self._error is None and self._is_summarized
        if exit_code == _HAS_CHANGES:
            return self._error is None and self.operation == "plan"
        return exit_code == 0

    @property
    def _is_summarized(self) -> bool:
        """Whether the final summary has arrived; an apply reports its plan's first."""
        return self._summarized is not None and self._summarized == self.operation

    def _failure(self, exit_code: int | None) -> str | None:
        """Why the run failed; ``None`` if only the exit code is known."""
        if self._error is not None:
            return self._error
        if self._open:
            return self._interrupted
        if exit_code is None:
            return f"The output of {self.tool} ended before its summary"
        return None

    def _event(
        self,
        line: Line,
        type_: str,
        *,
        resource: Resource | None = None,
        elapsed: int | None = None,
        data: msgspec.Raw | None = None,
    ) -> NewEvent:
        self._tool = self.tool
        return NewEvent(
            type=type_,
            source=self._tool,
            scopes=(),
            time=line.time,
            producer_id=f"{self._deployment_id}/{line.id}",
            resource=resource,
            elapsed=elapsed,
            message=truncate_message(line.message) if line.message is not None else None,
            data=data,
        )
