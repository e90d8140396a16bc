"""The JSON of a plan (``terraform show -json PLAN``): the parts of it that are relied on."""

import re
from decimal import Decimal, DecimalException
from typing import Annotated

import msgspec

from deploylog.errors import InvalidPlan
from deploylog.ingest.terraform.encodings import to_utf8
from deploylog.ingest.terraform.plan_text import plans_in

#: How deep arrays and objects may be within each other.
MAX_DEPTH = 100
#: How many characters an address, or another name of a resource, may have.
MAX_NAME = 4_096
#: How many resources may change, and how many may have drifted, or be left for later.
MAX_RESOURCES = 100_000

#: PostgreSQL stores no text that holds a NUL.
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME, pattern=r"\A[^\0]*\Z")]

_LIMIT = msgspec.Meta(max_length=MAX_RESOURCES)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A value before and after, and what is unknown and what is sensitive in it."""

    actions: tuple[str, ...]
    before: object = None
    after: object = None
    after_unknown: object = None
    before_sensitive: object = None
    after_sensitive: object = None

    @property
    def values(self) -> list[object]:
        """The value before and the one after."""
        return [self.before, self.after]

    @property
    def marks(self) -> tuple[object, ...]:
        """What is sensitive, before or after."""
        return self.before_sensitive, self.after_sensitive


class Importing(msgspec.Struct, frozen=True, kw_only=True):
    """How the object is known that is taken over."""

    id: object = None


class AttributesChange(Change, frozen=True, kw_only=True):
    """The attributes of a resource before and after."""

    before: dict[str, object] | None = None
    after: dict[str, object] | None = None
    replace_paths: list[list[str | int | float]] | None = None
    importing: Importing | None = None


class PlannedResource(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of ``resource_changes`` or ``resource_drift``."""

    address: Name
    type: Name
    change: AttributesChange
    name: Name = ""
    index: Name | int | None = None
    mode: str = "managed"
    module_address: str | None = None
    previous_address: Name | None = None
    provider_name: Name | None = None
    deposed: Name | None = None
    action_reason: str | None = None


class DriftedResource(PlannedResource, frozen=True, kw_only=True):
    """An entry of ``resource_drift``: Terraform 0.15 and 1.0.0 wrote it without an address."""

    address: Name = ""

    @property
    def place(self) -> str:
        """The address; composed of the other names if it is missing."""
        if self.address:
            return self.address
        module = f"{self.module_address}." if self.module_address else ""
        mode = "data." if self.mode == "data" else ""
        index = "" if self.index is None else f"[{msgspec.json.encode(self.index).decode()}]"
        return f"{module}{mode}{self.type}.{self.name}{index}"


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """The event of a resource that invokes an action."""

    triggering_resource_address: Name | None = None
    action_trigger_event: Name | None = None


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """An action that is invoked. Its configuration is read for the secrets in it only."""

    address: Name
    config_values: object = None
    config_sensitive: object = None
    lifecycle_action_trigger: Trigger | None = None


class DeferredInvocation(msgspec.Struct, frozen=True, kw_only=True):
    """An action that is left for a later plan."""

    action_invocation: Invocation
    reason: str | None = None


class Deferred(msgspec.Struct, frozen=True, kw_only=True):
    """A change that is left for a later plan."""

    resource_change: PlannedResource
    reason: str | None = None


class StateOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output in a state."""

    sensitive: bool = False
    value: object = None


class StateResource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource in a state."""

    address: str = ""
    deposed_key: str | None = None
    #: What it depends on, by address in the configuration: without index or key.
    depends_on: list[Name] = []
    values: dict[str, object] | None = None
    sensitive_values: object = None


class StateModule(msgspec.Struct, frozen=True, kw_only=True):
    """A module in a state, with those in it."""

    resources: list[StateResource] = []
    child_modules: list["StateModule"] = []


class StateValues(msgspec.Struct, frozen=True, kw_only=True):
    """The values of a state."""

    outputs: dict[str, StateOutput] = {}
    root_module: StateModule = StateModule()


class State(msgspec.Struct, frozen=True, kw_only=True):
    """A state."""

    values: StateValues = StateValues()


class VariableValue(msgspec.Struct, frozen=True, kw_only=True):
    """What a variable of the root module is set to."""

    value: object = None


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable as it is declared."""

    sensitive: bool = False
    default: object = None


class ConfiguredOutput(msgspec.Struct, frozen=True, kw_only=True):
    """An output as it is declared."""

    sensitive: bool = False
    expression: object = None


class ConfiguredResource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource as it is declared."""

    type: str
    name: str
    mode: str = "managed"
    expressions: dict[str, object] = {}
    count_expression: object = None
    for_each_expression: object = None
    depends_on: list[Name] = []


class ModuleCall(msgspec.Struct, frozen=True, kw_only=True):
    """The call of a module."""

    expressions: dict[str, object] = {}
    module: "ConfiguredModule | None" = None


class ConfiguredModule(msgspec.Struct, frozen=True, kw_only=True):
    """A module as it is declared."""

    variables: dict[str, Variable] = {}
    outputs: dict[str, ConfiguredOutput] = {}
    resources: list[ConfiguredResource] = []
    module_calls: dict[str, ModuleCall] = {}


class ConfiguredProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as it is declared."""

    full_name: str | None = None


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that was planned."""

    provider_config: dict[str, ConfiguredProvider] = {}
    root_module: ConfiguredModule = ConfiguredModule()


class CheckAddress(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked."""

    to_display: str = ""


class CheckProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a check failed."""

    message: str = ""


class CheckInstance(msgspec.Struct, frozen=True, kw_only=True):
    """A check of one object."""

    address: CheckAddress = CheckAddress()
    status: str = ""
    problems: list[CheckProblem] = []


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A check of all objects that one block of the configuration stands for."""

    address: CheckAddress = CheckAddress()
    status: str = ""
    instances: list[CheckInstance] = []


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan."""

    terraform_version: str | None = None
    errored: bool = False
    variables: dict[str, VariableValue] = {}
    resource_changes: Annotated[list[PlannedResource], _LIMIT] = []
    resource_drift: Annotated[list[DriftedResource], _LIMIT] = []
    deferred_changes: Annotated[list[Deferred], _LIMIT] = []
    action_invocations: Annotated[list[Invocation], _LIMIT] = []
    deferred_action_invocations: Annotated[list[DeferredInvocation], _LIMIT] = []
    output_changes: dict[str, Change] = {}
    checks: list[Check] = []
    planned_values: StateValues = StateValues()
    prior_state: State = State()
    configuration: Configuration | None = None


class _Kind(msgspec.Struct, frozen=True, rename={"level": "@level"}):
    """The fields that distinguish the kinds of documents."""

    format_version: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    planned_values: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    resource_changes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    values: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    lineage: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    level: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_KIND = msgspec.json.Decoder(_Kind)
_PLAN = msgspec.json.Decoder(Plan, float_hook=Decimal)

_VERSION = re.compile(rb'"[01](\.[0-9]+)*"')
_AT = re.compile(r" - at `\$\.?(.*)`$")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[]{}"')

_NO_JSON = "the plan is not JSON: give the output of `show -json PLANFILE`"
_BROKEN = (
    "the plan is not JSON: it is cut off, or other text stands within it: give the whole output"
    " of `show -json PLANFILE`"
)
_FOR_PEOPLE = (
    "the plan is not JSON but the text for people: give the output of `show -json PLANFILE`"
)
_WRAPPED = (
    "the plan is not JSON: the wrapper of the setup-terraform action changed the output: set"
    " `terraform_wrapper: false`, and give the output of `show -json PLANFILE`"
)
_EMPTY = "there is no plan: nothing came"
_PACKED = "this is the plan file itself: give the output of `show -json PLANFILE`"
_STATE = "this is a state, not a plan: give the output of `show -json PLANFILE`"
_SEVERAL = "these are {number} plans: give one at a time"
_STREAM = "these are the lines of a run, not a plan: give the output of `show -json PLANFILE`"


def read_plan(document: bytes) -> Plan:
    """The plan in ``document``; raises InvalidPlan."""
    try:
        document = _plan_in(to_utf8(document))
        _check_kind(document)
        _check_depth(document)
        return _PLAN.decode(document)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidPlan(_NO_JSON) from None
    except DecimalException:
        raise InvalidPlan("a number is beyond all bounds") from None


def _plan_in(text: bytes) -> bytes:
    """The plan's own JSON, or all of the text if no plan is found; raises InvalidPlan."""
    try:
        _KIND.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        plans = plans_in(text)
    else:
        return text
    if len(plans) > 1:
        raise InvalidPlan(_SEVERAL.format(number=len(plans)))
    return plans[0] if plans else text


def _check_kind(document: bytes) -> None:
    """Whether this is a plan at all; raises InvalidPlan."""
    kind = _kind_of(document)
    if kind.level is not msgspec.UNSET:
        raise InvalidPlan(_STREAM)
    if kind.lineage is not msgspec.UNSET or (
        kind.values is not msgspec.UNSET
        and kind.planned_values is kind.resource_changes is msgspec.UNSET
    ):
        raise InvalidPlan(_STATE)
    _check_version(kind.format_version)


def _kind_of(document: bytes) -> _Kind:
    try:
        return _KIND.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        is_json = _is_json(document)
        what = "the plan is not a JSON object" if is_json else _no_json(document)
        raise InvalidPlan(what) from None


def _is_json(document: bytes) -> bool:
    try:
        msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _no_json(document: bytes) -> str:
    """What it is instead."""
    if not document.strip():
        return _EMPTY
    # Plan files are zip archives.
    if document.startswith(b"PK"):
        return _PACKED
    return next((what for pattern, what in _LOOKS if pattern.search(document)), _NO_JSON)


#: What a text looks like that holds no plan, and what to say of it; the first that fits counts.
_LOOKS = (
    (re.compile(rb'^[^\n"]{0,1024}\{"@level"', re.MULTILINE), _STREAM),
    (re.compile(rb'"format_version"'), _BROKEN),
    (re.compile(rb"\A\[command\]|^::debug::", re.MULTILINE), _WRAPPED),
    (
        re.compile(
            rb"(?:Terraform|OpenTofu) (?:will perform|used the selected|detected)"
            rb"|^Plan: [0-9]+ to |^No changes\.",
            re.MULTILINE,
        ),
        _FOR_PEOPLE,
    ),
)


def _check_version(version: msgspec.Raw | msgspec.UnsetType) -> None:
    if version is msgspec.UNSET:
        raise InvalidPlan(
            "format_version is missing: give the output of `show -json PLANFILE`",
            field="format_version",
        )
    if not _VERSION.fullmatch(version):
        raise InvalidPlan("format_version is not one of 0.x and 1.x", field="format_version")


def _check_depth(document: bytes) -> None:
    """Whether the document, which is JSON, is not too deep; raises InvalidPlan."""
    unescaped = document.replace(rb"\\", b"").replace(rb"\"", b"")
    # An empty string does not change what is inside strings.
    structure = unescaped.translate(_BRACKETS, _NOT_STRUCTURE).replace(b'""', b"")
    brackets = b"".join(structure.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        # Each time round, exactly the innermost of all that is left goes away.
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise _too_deep()


def _too_deep() -> InvalidPlan:
    return InvalidPlan(f"the plan is nested deeper than {MAX_DEPTH} levels")


def _wrong_type(error: msgspec.ValidationError) -> InvalidPlan:
    """What was expected where, in the decoder's words, which hold no values."""
    message = str(error)
    place = _AT.search(message)
    field = place[1] if place else None
    what = _AT.sub("", message)
    return InvalidPlan(f"{field}: {what}" if field else what, field=field)
