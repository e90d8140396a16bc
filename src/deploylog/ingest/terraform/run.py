"""The machine-readable UI of Terraform and OpenTofu (``apply -json``), as events.

Nothing in a line is trusted to have the type that it should: a part of another type counts as
absent. What goes into ``data`` is picked fact by fact, never copied whole, because lines may
hold secrets: states, values of variables, outputs.
"""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from deploylog.errors import InvalidInput
from deploylog.events.event import (
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_NAME_LENGTH,
    NewEvent,
    Resource,
    is_too_deep,
)
from deploylog.events.times import SECOND, parse_time
from deploylog.ingest.terraform.other_lines import OtherLines, Said
from deploylog.ingest.terraform.plan_text import ANSI

#: The line types about a resource that is acted on, and the phase that each reports.
_PHASES = {
    "apply_start": "started",
    "apply_progress": "progress",
    "apply_complete": "completed",
    "apply_errored": "failed",
}

_CHANGES = {"planned_change": "deployment.planned", "resource_drift": "deployment.drift"}

#: Lines that report a failure although their level is info.
_FAILURES = frozenset(
    {"provision_errored", "ephemeral_op_errored", "action_errored", "migration_errored"}
)

#: Answers of other commands, which are no part of a deployment; so is all of ``test_*``.
_SILENT = frozenset({"resource_address", "workspace_list", "replace_provider"})

#: The operations that change something.
_FINAL = frozenset({"apply", "destroy"})

_COUNTED = ("add", "change", "import", "remove", "forget", "action_invocation")

#: The exit code of ``plan -detailed-exitcode`` for a plan that has changes; also of a crash.
_HAS_CHANGES = 2

_INT64 = 1 << 63

#: How far into a line its JSON begins behind a prefix, at most, and what it begins with there.
_LONGEST_PREFIX = 1_024
_TOOLS_JSON = '{"@'

#: What a prefix has in brackets: the unit that Terragrunt runs, or a time.
_BRACKETS = re.compile(r"\[([^\]]*)\]")
_TIME = re.compile(r"[0-9:.,TZ +-]*")

_NOT_IN_A_WORD = re.compile(r"[^a-z0-9_-]+")


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the stream, or one that the end of the stream adds."""

    #: Unique in the run, and the same each time the run is read.
    id: str
    time: int
    message: str | None
    #: The line's ``type``, empty when it has none.
    kind: str = ""
    is_error: bool = False
    fields: dict[str, object] = {}
    #: Which of several runs in one output says it: what its prefix has in brackets.
    unit: str = ""


class TerraformRun:
    """Turns the lines of one run into events; holds the open resources.

    The events have no scopes yet. The same lines give the same events, under the same ids.
    """

    def __init__(self, *, deployment_id: str) -> None:
        """Begin a run of the deployment, whose id begins the id of every event."""
        self._deployment_id = deployment_id
        self._lines = 0
        self._tool: Literal["terraform", "opentofu"] | None = None
        self._version: str | None = None
        #: What was started and has not ended, by unit, address and action.
        self._open: dict[tuple[str, str, str], Resource | None] = {}
        self._others = OtherLines()
        #: When the last line was written that says so.
        self._time: int | None = None
        self._changing = False
        #: What the last change summary says, and the operation that the summaries name.
        self._summary: str | None = None
        self._summarised: str | None = None
        #: The first error of either kind, in words.
        self._diagnosed: str | None = None
        self._errored: str | None = None
        self._completed: bool | None = None

    @property
    def tool(self) -> Literal["terraform", "opentofu"]:
        """Who is speaking: the source of every event of the run."""
        return self._tool or "terraform"

    @property
    def version(self) -> str | None:
        """The tool's version, once it has said so."""
        return self._version

    @property
    def operation(self) -> str | None:
        """``plan``, ``apply``, ``destroy``, …: what the run turned out to be so far."""
        if self._changing and self._summarised not in _FINAL:
            return "apply"
        return self._summarised

    @property
    def failed(self) -> bool:
        """Whether the run failed; before its end, whether it met an error."""
        return self._error is not None if self._completed is None else not self._completed

    @property
    def _error(self) -> str | None:
        return self._diagnosed or self._errored

    @property
    def has_started(self) -> bool:
        """Whether any line was the tool's own."""
        return self._tool is not None

    @property
    def unrecognized_input(self) -> str:
        """What came in place of the tool's lines, in words."""
        return self._others.instead

    def feed(self, line: bytes, *, now: int) -> list[NewEvent]:
        """The events of the next line, with its newline or without.

        ``now`` (ns) dates a line that does not say its time. What is not the tool's own is a
        ``deployment.log``; before the first line of the tool it gives no event yet.
        """
        self._lines += 1
        plain = ANSI.sub(b"", line) if b"\x1b" in line else line
        text = plain.decode("utf-8-sig", errors="replace")
        fields, unit = _decoded(text)
        if not _is_the_tools(fields):
            return self._take_other(text, fields, now=now)
        read = _read_line(fields, id=str(self._lines), unit=unit, now=now)
        self._time = read.time
        event = self._read(read)
        return [*self._release(read.time), event] if event else []

    def _take_other(self, text: str, fields: dict[str, object], *, now: int) -> list[NewEvent]:
        said = self._others.take(text, fields, number=self._lines)
        if said is None:
            return []
        if not self.has_started:
            self._others.keep(said)
            return []
        return [self._other(said, now if self._time is None else self._time)]

    def _release(self, time: int) -> list[NewEvent]:
        """What came before the tool's line, and was kept."""
        unended = self._others.end_block(self._lines - 1)
        kept = [*self._others.release(), *([unended] if unended else [])]
        return [self._other(said, time) for said in kept]

    def _other(self, said: Said, time: int) -> NewEvent:
        line = _Line(id=f"{said.number}", time=time, message=said.message)
        data = _data(module=_name(said.module), level=_name(said.level))
        return self._event(line, "deployment.log", data=data)

    def close(self, *, now: int, exit_code: int | None) -> list[NewEvent]:
        """The events of the stream's end, last the one that ends the deployment.

        ``exit_code`` is the tool's, or ``None`` when nobody saw it.
        """
        self._completed = self._has_completed(exit_code)
        return [*self._last_words(now), *self._interruptions(now), self._end(now, exit_code)]

    def _last_words(self, now: int) -> list[NewEvent]:
        if not self.has_started:
            if not self._others.came:
                return []
            # Counts of zero would else be taken for what the tool did.
            message = "The output does not say what was done to any resource"
            return [
                self._event(_Line(id="end/unknown", time=now, message=message), "deployment.log")
            ]
        rest = self._others.end_block(self._lines)
        return [self._other(rest, now if self._time is None else self._time)] if rest else []

    def _read(self, line: _Line) -> NewEvent | None:
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
            case kind if kind in _SILENT or kind.startswith("test_"):
                return None
            case _:
                return self._read_log(line)

    def _read_version(self, line: _Line) -> NewEvent:
        # The first event settles the tool: the source is half of an event's identity, and a
        # reader who filters by it would otherwise lose half of the run.
        if self._tool is None and "tofu" in line.fields:
            self._tool = "opentofu"
        self._version = _name(line.fields.get("tofu", line.fields.get("terraform")))
        data = _data(tool=self.tool, version=self._version)
        return self._event(line, "deployment.version", data=data)

    def _read_diagnostic(self, line: _Line) -> NewEvent:
        diagnostic = _object(line.fields.get("diagnostic"))
        is_error = line.is_error or diagnostic.get("severity") == "error"
        if is_error:
            self._diagnosed = self._diagnosed or line.message or "Error"
        line = msgspec.structs.replace(line, message=_diagnosis(line.message, diagnostic))
        data = _diagnostic_data(diagnostic)
        return self._event(line, "deployment.error" if is_error else "deployment.log", data=data)

    def _read_summary(self, line: _Line) -> NewEvent:
        changes = _object(line.fields.get("changes"))
        operation = _name(changes.get("operation"))
        self._summary = line.message
        if self._summarised not in _FINAL:
            self._summarised = operation
        counts = {name: _count(changes.get(name)) for name in _COUNTED}
        data = _data(operation=operation, changes=_known(counts))
        type_ = "deployment.summary" if operation in _FINAL else "deployment.log"
        return self._event(line, type_, data=data)

    def _read_outputs(self, line: _Line) -> NewEvent | None:
        outputs = {
            name: _output(output)
            for name, value in _object(line.fields.get("outputs")).items()
            if (output := _object(value)) and "action" not in output
        }
        if not outputs:
            return None
        return self._event(line, "deployment.outputs", data=_outputs_data(outputs))

    def _read_change(self, line: _Line, type_: str) -> NewEvent:
        change = _object(line.fields.get("change"))
        data = _data(
            action=_name(change.get("action")),
            reason=_name(change.get("reason")),
            previous_address=_name(_object(change.get("previous_resource")).get("addr")),
        )
        return self._event(line, type_, resource=_resource(change), data=data)

    def _read_invocation(self, line: _Line) -> NewEvent:
        invocation = _object(line.fields.get("invocation"))
        data = _data(action="invoke", **_trigger(invocation.get("lifecycle_trigger")))
        return self._event(line, "deployment.planned", resource=_action(invocation), data=data)

    def _read_apply(self, line: _Line, phase: str) -> NewEvent:
        hook = _object(line.fields.get("hook"))
        action = _word(hook.get("action"))
        # Data sources are read while planning, too.
        self._changing = self._changing or action != "read"
        if phase == "failed":
            self._errored = self._errored or line.message or "Error"
        resource = self._track(hook, line.unit, action, phase)
        return self._hook_event(line, f"resource.{action}.{phase}", hook, resource)

    def _track(
        self, hook: dict[str, object], unit: str, action: str, phase: str
    ) -> Resource | None:
        """Open or close the resource; what it does not say of its id, its start said."""
        resource = _resource(hook)
        address = _text(_object(hook.get("resource")).get("addr"))
        if address is None:
            return resource
        slot = (unit, address, action)
        if phase == "started":
            self._open[slot] = resource
            return resource
        resource = _with_id(resource, self._open.get(slot))
        if phase in ("completed", "failed"):
            self._open.pop(slot, None)
        return resource

    def _read_log(self, line: _Line) -> NewEvent:
        failed = line.is_error or line.kind in _FAILURES
        type_ = "deployment.error" if failed else "deployment.log"
        hook = _object(line.fields.get("hook"))
        if hook:
            return self._hook_event(line, type_, hook, _resource(hook) or _action(hook))
        return self._event(line, type_, data=_data(type=_name(line.kind) or None))

    def _hook_event(
        self, line: _Line, type_: str, hook: dict[str, object], resource: Resource | None
    ) -> NewEvent:
        data = _data(
            hook=_name(line.kind),
            action=_name(hook.get("action")),
            provisioner=_name(hook.get("provisioner")),
            **_trigger(hook.get("lifecycle")),
        )
        return self._event(line, type_, resource=resource, elapsed=_elapsed(hook), data=data)

    def _interruptions(self, now: int) -> list[NewEvent]:
        if not self._open:
            return []
        events = [
            self._event(
                _Line(id=f"end/{k}", time=now, message=f"{address}: interrupted"),
                f"resource.{action}.failed",
                resource=resource,
                data=_data(action=action),
            )
            for k, ((_, address, action), resource) in enumerate(self._open.items(), 1)
        ]
        last = _Line(id=f"end/{len(events) + 1}", time=now, message=self._interrupted)
        return [*events, self._event(last, "deployment.error")]

    @property
    def _interrupted(self) -> str:
        return f"{self._name} ended before its resources did"

    @property
    def _name(self) -> str:
        """The tool, if it said which it is."""
        return self.tool if self.version is not None else "the tool"

    def _end(self, now: int, exit_code: int | None) -> NewEvent:
        message = f"{self._name} ended with exit code {exit_code}"
        if self._completed:
            message = self._summary or message
        else:
            message = self._failure(exit_code) or message
        return self._event(
            _Line(id="end", time=now, message=message),
            "deployment.completed" if self._completed else "deployment.failed",
            data=_raw({"operation": self.operation, "exit_code": exit_code}),
        )

    def _has_completed(self, exit_code: int | None) -> bool:
        if self._open:
            return False
        if exit_code is None:
            return self._error is None and self._is_summarised
        if exit_code == _HAS_CHANGES:
            return self._error is None and self.operation == "plan"
        return exit_code == 0

    @property
    def _is_summarised(self) -> bool:
        """Whether the summary came that such a run ends with; an apply has its plan's first."""
        return self._summarised is not None and self._summarised == self.operation

    def _failure(self, exit_code: int | None) -> str | None:
        """Why the run failed, unless the exit code is all that is known."""
        if self._error is not None:
            return self._error
        if self._open:
            return self._interrupted
        if exit_code is None:
            return f"The output of {self.tool} ended before its summary"
        return None

    def _event(
        self,
        line: _Line,
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
            message=_capped(line.message) if line.message is not None else None,
            data=data,
        )


def _read_line(fields: dict[str, object], *, id: str, unit: str, now: int) -> _Line:
    """The line of the tool that says ``fields``."""
    return _Line(
        id=id,
        time=_time(fields.get("@timestamp"), now=now),
        message=_text(fields.get("@message")),
        kind=_text(fields.get("type")) or "",
        is_error=fields.get("@level") == "error",
        fields=fields,
        unit=unit,
    )


def _is_the_tools(fields: dict[str, object]) -> bool:
    """Whether it is a line of the tool's machine-readable UI: its own log and its providers' are
    written under other modules.
    """
    module = fields.get("@module")
    if module is not None and not (_text(module) or "").endswith(".ui"):
        return False
    if _text(fields.get("@message")) is not None:
        return True
    return _text(fields.get("type")) is not None and not fields.keys() & {"message", "msg"}


def _decoded(text: str) -> tuple[dict[str, object], str]:
    """The JSON object in a line, and the unit that the prefix before it names."""
    stripped = text.strip()
    start = 0 if stripped.startswith("{") else stripped.find(_TOOLS_JSON, 0, _LONGEST_PREFIX)
    if start < 0:
        return {}, ""
    fields = _object_in(stripped[start:])
    said = _text(fields.get("msg"))
    if said is not None and said.startswith(_TOOLS_JSON):
        # Terragrunt's log in JSON holds what the tool says in a text.
        return _object_in(said.strip()), _text(fields.get("prefix")) or ""
    return fields, _unit_of(stripped[:start])


def _object_in(text: str) -> dict[str, object]:
    try:
        return _object(msgspec.json.decode(text[: text.rfind("}") + 1]))
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return {}


def _unit_of(prefix: str) -> str:
    named = _BRACKETS.findall(prefix)
    return " ".join(name for name in named if not _TIME.fullmatch(name))


def _time(timestamp: object, *, now: int) -> int:
    try:
        time = parse_time(_text(timestamp) or "")
    except InvalidInput:
        return now
    return time if 0 <= time < _INT64 else now


def _capped(message: str) -> str:
    """The message, as far as an event may hold it."""
    clean = message.replace("\0", "\N{REPLACEMENT CHARACTER}")
    encoded = clean.encode()
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return clean
    mark = "…"
    return encoded[: MAX_MESSAGE_BYTES - len(mark.encode())].decode(errors="ignore") + mark


def _diagnosis(message: str | None, diagnostic: dict[str, object]) -> str | None:
    """``Error: summary: detail [address]``."""
    message = _text(diagnostic.get("summary")) if message is None else message
    if message is None:
        return None
    detail = (_text(diagnostic.get("detail")) or "").strip()
    address = _text(diagnostic.get("address"))
    return message + (f": {detail}" if detail else "") + (f" [{address}]" if address else "")


def _diagnostic_data(diagnostic: dict[str, object]) -> msgspec.Raw | None:
    # The snippet stays out: its values, and the literals in its code, may be secrets.
    span = _object(diagnostic.get("range"))
    return _data(
        severity=_name(diagnostic.get("severity")),
        summary=_name(diagnostic.get("summary")),
        address=_name(diagnostic.get("address")),
        range=_known(
            {
                "filename": _name(span.get("filename")),
                "start": _place(span.get("start")),
                "end": _place(span.get("end")),
            }
        ),
    )


def _place(value: object) -> dict[str, object] | None:
    place = _object(value)
    return _known({name: _count(place.get(name)) for name in ("line", "column", "byte")})


def _output(output: dict[str, object]) -> dict[str, object]:
    """The output; anything but a plain ``"sensitive": false`` makes it a secret."""
    if output.get("sensitive") is not False:
        return {"sensitive": True}
    return {name: output[name] for name in ("sensitive", "type", "value") if name in output}


def _outputs_data(outputs: dict[str, dict[str, object]]) -> msgspec.Raw | None:
    """The outputs; without types and values when these are more than an event may hold."""
    names = {name: {"sensitive": output["sensitive"]} for name, output in outputs.items()}
    for candidate in (outputs, names):
        try:
            data = _raw({"outputs": candidate})
        except RecursionError:
            continue
        if len(bytes(data)) <= MAX_DATA_BYTES and not is_too_deep(bytes(data)):
            return data
    return None


def _resource(of: dict[str, object]) -> Resource | None:
    """The resource that a hook or a change is about."""
    told = _object(of.get("resource"))
    type_, name = _name(told.get("resource_type")), _name(told.get("resource_name"))
    if not type_ or not name:
        return None
    id_key, id_value = _name(of.get("id_key")), _name(of.get("id_value"))
    has_id = id_key is not None and id_value is not None
    return Resource(
        type=type_,
        name=name,
        key=_key(told.get("resource_key")),
        address=_name(told.get("addr")),
        id_key=id_key if has_id else None,
        id_value=id_value if has_id else None,
    )


def _action(of: dict[str, object]) -> Resource | None:
    """The action that a hook or an invocation is about."""
    told = _object(of.get("action"))
    type_, name = _name(told.get("action_type")), _name(told.get("action_name"))
    if not type_ or not name:
        return None
    return Resource(
        type=type_,
        name=name,
        key=_key(told.get("action_key")),
        address=_name(told.get("addr")),
    )


def _trigger(value: object) -> dict[str, str | None]:
    """The event that invokes an action, and the resource whose event it is."""
    trigger = _object(value)
    return {
        "trigger": _name(_object(trigger.get("resource")).get("addr")),
        "event": _name(trigger.get("trigger_event")),
    }


def _with_id(resource: Resource | None, started: Resource | None) -> Resource | None:
    """The resource, with the id it had when it was started unless it says its own."""
    if resource is None or started is None or resource.id_key is not None:
        return resource
    return msgspec.structs.replace(resource, id_key=started.id_key, id_value=started.id_value)


def _key(value: object) -> str | None:
    if isinstance(value, str):
        return _name(value)
    index = _count(value)
    return None if index is None else str(index)


def _elapsed(hook: dict[str, object]) -> int | None:
    seconds = hook.get("elapsed_seconds")
    if isinstance(seconds, float):
        seconds = round(seconds)
    count = _count(seconds)
    return count * SECOND if count is not None and count < _INT64 // SECOND else None


def _word(value: object) -> str:
    """``value`` as one word of an event's type."""
    return _NOT_IN_A_WORD.sub("_", (_text(value) or "").lower())[:64] or "unknown"


def _name(value: object) -> str | None:
    """``value`` as far as a field of an event may hold it."""
    text = _text(value)
    if text is None:
        return None
    return text[:MAX_NAME_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _INT64 else None


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _data(**facts: object) -> msgspec.Raw | None:
    """The facts that are known, if any."""
    known = _known(facts)
    return _raw(known) if known else None


def _known(facts: Mapping[str, object]) -> dict[str, object] | None:
    return {name: fact for name, fact in facts.items() if fact is not None} or None


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
