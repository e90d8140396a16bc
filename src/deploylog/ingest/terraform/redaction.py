"""Redaction of sensitive values in a plan.

Providers copy sensitive values into attributes that are not marked, so a value that is marked
anywhere in a plan is redacted everywhere in it.
"""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import chain
from urllib.parse import quote_plus

from deploylog.deployments.changeset import SENSITIVE
from deploylog.ingest.terraform.plan_document import (
    ConfiguredModule,
    Plan,
    StateModule,
    StateValues,
)
from deploylog.ingest.terraform.substrings import SubstringIndex

#: Shapes of a value, each true where the value is sensitive, as a plan gives them.
Marks = tuple[object, ...]

#: Texts with at least this many characters are also secret inside other texts.
LONG = 8
#: Texts with at least this many are secret as a whole, shorter ones only where they are marked.
SHORT = 4
#: So are numbers with at least this many digits. With LONG digits, they are secret inside texts.
DIGITS = 6
#: A line with at least this many characters is as secret as the text that contains it.
LINE = 16

_GO_ESCAPES = {
    ord(character): f"\\u{ord(character):04x}" for character in "<>&\N{LINE SEPARATOR}\u2029"
}
_URL_SAFE = str.maketrans("+/", "-_")


def is_marked(marks: Marks, *values: object) -> bool:
    """Whether any of the ``values`` is sensitive as a whole.

    It is also when a mark in it could not be found, the shape being another than the value's.
    """
    return bool(marks) and any(_marks_whole(shape, value) for shape in marks for value in values)


def _marks_whole(shape: object, value: object) -> bool:
    if isinstance(shape, dict | list):
        return value is not None and type(value) is not type(shape) and holds_true(shape)
    return shape is not None and shape is not False


def holds_true(shape: object) -> bool:
    """Whether the shape marks anything at all."""
    if isinstance(shape, dict):
        return any(holds_true(inner) for inner in shape.values())
    if isinstance(shape, list):
        return any(holds_true(inner) for inner in shape)
    return shape is not None and shape is not False


def child(value: object, step: str | int) -> object:
    """What is there in ``value``; ``None`` if nothing is."""
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def child_marks(marks: Marks, step: str | int) -> Marks:
    """The marks of what is there."""
    if not marks:
        return marks
    return tuple(inner for shape in marks if (inner := child(shape, step)))


class Redactor:
    """Replaces secrets in values, texts and names."""

    def __init__(self, secrets: Iterable[object]) -> None:
        """``secrets`` are texts and numbers; others are no secrets of their own."""
        known = list(secrets)
        texts = {secret for secret in known if isinstance(secret, str)}
        numbers = list(_long_numbers(known))
        written = set(map(str, numbers))
        #: Secret when they are the whole of a text.
        self._whole = {text for text in texts if len(text) >= SHORT} | written
        self._numbers = set(numbers)
        #: Secret in a text.
        self._index = SubstringIndex({*_forms_of_texts(texts), *_forms_of_numbers(written)}, LONG)
        self._texts: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._named: Counter[str] = Counter()

    def value(self, value: object, marks: Marks = ()) -> object:
        """``value`` without what is marked in it, and without secrets."""
        if is_marked(marks, value):
            return None if value is None else SENSITIVE
        if isinstance(value, dict):
            return {
                self.name(name): self.value(inner, child_marks(marks, name))
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self.value(inner, child_marks(marks, k)) for k, inner in enumerate(value)]
        return self._scalar(value)

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        if text in self._whole:
            return SENSITIVE
        if len(text) < LONG or not self._index:
            return text
        redacted = self._texts.get(text)
        if redacted is None:
            redacted = self._texts[text] = _redacted(text, self._index)
        return redacted

    def name(self, name: str) -> str:
        """``name`` without secrets; different names stay different.

        A short secret is often a plain word, such as an attribute is called by, too.
        """
        redacted = self.text(name) if len(name) >= LONG else name
        if redacted == name:
            return name
        if name not in self._names:
            self._named[redacted] += 1
            number = self._named[redacted]
            self._names[name] = redacted if number == 1 else f"{redacted} ({number})"
        return self._names[name]

    def _scalar(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return value
        is_secret = value in self._numbers or str(value) in self._whole
        return SENSITIVE if is_secret else value


def _redacted(text: str, secrets: SubstringIndex) -> str:
    parts, end = [], 0
    for start, stop in secrets.spans(text):
        # What overlaps is redacted as one.
        if start >= end:
            parts += [text[end:start], SENSITIVE]
        end = max(end, stop)
    return "".join([*parts, text[end:]])


def _long_numbers(values: Iterable[object]) -> Iterator[int | Decimal]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            continue
        if _digits(str(value)) >= DIGITS:
            yield value


def _digits(number: str) -> int:
    return sum(character.isdigit() for character in number)


def _forms_of_texts(secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        yield from _forms_of(secret)
        for line in map(str.strip, secret.splitlines()):
            if LINE <= len(line) < len(secret):
                yield from _forms_of(line)


def _forms_of_numbers(secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        if _digits(secret) >= LONG:
            yield from _forms_of(secret.removeprefix("-"))


def _forms_of(secret: str) -> Iterator[str]:
    """The spellings of a secret in a text, if it is long enough."""
    if len(secret) >= LONG:
        yield from (form for form in _writings(secret) if len(form) >= LONG)


def _writings(secret: str) -> Iterator[str]:
    yield secret
    yield secret.strip()
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield _quoted(secret)
    yield _in_go(_quoted(secret))
    yield _in_go(_quoted(_in_go(_quoted(secret))))
    for form in _base64_forms(secret.encode()):
        yield form
        yield form.translate(_URL_SAFE)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _in_go(text: str) -> str:
    """JSON as ``jsonencode`` writes it."""
    return text.translate(_GO_ESCAPES)


def _base64_forms(secret: bytes) -> Iterator[str]:
    """The secret in base64, on its own and behind any number of other bytes."""
    yield b64encode(secret).decode()
    for before in range(3):
        encoded = b64encode(bytes(before) + secret).decode()
        # The characters at both ends also hold bits of what is around.
        yield encoded[(0, 2, 3)[before] : (before + len(secret)) * 8 // 6]


def secrets_of(plan: Plan) -> Iterator[object]:
    """Every scalar that any part of the plan says is sensitive."""
    yield from _declared(plan)
    deferred = (each.resource_change for each in plan.deferred_changes)
    resources = chain(plan.resource_changes, plan.resource_drift, deferred)
    for change in chain((each.change for each in resources), plan.output_changes.values()):
        for value in change.values:
            yield from _marked_scalars(value, change.marks)
    later = (each.action_invocation for each in plan.deferred_action_invocations)
    for action in chain(plan.action_invocations, later):
        yield from _marked_scalars(action.config_values, (action.config_sensitive,))
    for state in (plan.planned_values, plan.prior_state.values):
        yield from _stated(state)


def _declared(plan: Plan) -> Iterator[object]:
    if plan.configuration:
        values = {name: variable.value for name, variable in plan.variables.items()}
        yield from _declared_in(plan.configuration.root_module, values)


def _declared_in(module: ConfiguredModule, values: Mapping[str, object]) -> Iterator[object]:
    for name, variable in module.variables.items():
        if variable.sensitive:
            yield from _scalars(variable.default)
            yield from _scalars(values.get(name))
    for output in module.outputs.values():
        if output.sensitive:
            yield from _scalars(child(output.expression, "constant_value"))
    for call in module.module_calls.values():
        if call.module:
            constants = {n: child(e, "constant_value") for n, e in call.expressions.items()}
            yield from _declared_in(call.module, constants)


def _stated(state: StateValues) -> Iterator[object]:
    for output in state.outputs.values():
        if output.sensitive:
            yield from _scalars(output.value)
    yield from _stated_in(state.root_module)


def _stated_in(module: StateModule) -> Iterator[object]:
    for resource in module.resources:
        yield from _marked_scalars(resource.values, (resource.sensitive_values,))
    for inner in module.child_modules:
        yield from _stated_in(inner)


def _marked_scalars(value: object, marks: Marks) -> Iterator[object]:
    if is_marked(marks, value):
        yield from _scalars(value)
    elif any(marks):
        for step, inner in _members(value):
            yield from _marked_scalars(inner, child_marks(marks, step))


def _scalars(value: object) -> Iterator[object]:
    if isinstance(value, dict | list):
        for _, inner in _members(value):
            yield from _scalars(inner)
    else:
        yield value


def _members(value: object) -> Iterable[tuple[str | int, object]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()
