"""What the resources of a plan depend on: as the state says, or else as the configuration does."""

import re
from collections.abc import Iterable, Iterator

from deploylog.ingest.terraform.plan_document import (
    ConfiguredModule,
    ConfiguredResource,
    Plan,
    StateModule,
)

#: The names of modules, from the outermost, and the resource's type and name.
Declaration = tuple[tuple[str, ...], str, str]

#: Maximum dependencies to report for one resource and for all together. Each instance of a
#: counted resource has the same dependencies.
MAX_OF_ONE = 100
MAX_OF_ALL = 100_000

#: How deep the expressions of a nested block are searched.
_MAX_DEPTH = 100

_DATA = re.compile(r"(?:module\.[^.]+\.)*data\.")

_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)\.([A-Za-z_][A-Za-z0-9_-]*)")


class Dependencies:
    """The addresses that each resource depends on, without index or key, and without data sources.

    Of an existing object the state tells them, also those through modules; of a new one, the
    expressions and ``depends_on`` of its configuration, within its own module.
    """

    def __init__(self, plan: Plan) -> None:
        """Of the resources of ``plan``."""
        self._left = MAX_OF_ALL
        self._stored = dict(_stored(plan.prior_state.values.root_module))
        self._configured: dict[Declaration, tuple[str, ...]] = {}
        if plan.configuration:
            self._configured = dict(_configured(plan.configuration.root_module, ()))

    def of(
        self, address: str, deposed: str | None, declaration: Declaration, *, exists: bool
    ) -> tuple[str, ...]:
        """Those of one resource; none where nothing is known."""
        stored = self._stored.get((address, deposed)) if exists else None
        found = self._configured.get(declaration, ()) if stored is None else stored
        found = found[: min(MAX_OF_ONE, self._left)]
        self._left -= len(found)
        return found


def _stored(module: StateModule) -> Iterator[tuple[tuple[str, str | None], tuple[str, ...]]]:
    for resource in module.resources:
        found = (name for name in resource.depends_on if not _is_data(name))
        yield (resource.address, resource.deposed_key), _sorted(found)
    for child in module.child_modules:
        yield from _stored(child)


def _is_data(address: str) -> bool:
    return _DATA.match(address) is not None


def _configured(
    module: ConfiguredModule, names: tuple[str, ...]
) -> Iterator[tuple[Declaration, tuple[str, ...]]]:
    managed = [resource for resource in module.resources if resource.mode == "managed"]
    declared = {(resource.type, resource.name) for resource in managed}
    prefix = "".join(f"module.{name}." for name in names)
    for resource in managed:
        found = {match.groups() for text in _references(resource) if (match := _of(text))}
        others = found & declared - {(resource.type, resource.name)}
        yield (
            (names, resource.type, resource.name),
            _sorted(f"{prefix}{type}.{name}" for type, name in others),
        )
    for name, call in module.module_calls.items():
        if call.module:
            yield from _configured(call.module, (*names, name))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _of(text: str) -> re.Match[str] | None:
    """The type and name that a reference such as ``aws_vpc.main[0].id`` begins with."""
    return _REFERENCE.match(text)


def _references(resource: ConfiguredResource) -> Iterator[str]:
    yield from resource.depends_on
    within = (resource.expressions, resource.count_expression, resource.for_each_expression)
    yield from _found(within, _MAX_DEPTH)


def _found(value: object, depth: int) -> Iterator[str]:
    """The references of all expressions in ``value``."""
    if depth == 0:
        return
    if isinstance(value, dict):
        references = value.get("references")
        if isinstance(references, list):
            yield from (each for each in references if isinstance(each, str))
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for each in value:
        yield from _found(each, depth - 1)
