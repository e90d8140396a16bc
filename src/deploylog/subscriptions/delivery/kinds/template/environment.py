"""The sandbox of templates: what they may use, and the errors that name a line."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from deploylog.errors import InvalidSubscription

#: Characters of a template.
MAX_TEMPLATE = 16_384

#: The values that a template has.
NAMES = ("event", "deployment", "subscription", "url")

_EXTENDING = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, cache_size=0
)


@lru_cache(maxsize=64)
def compiled(source: str) -> Template:
    """A template, ready to be rendered."""
    return _ENVIRONMENT.from_string(source)


def render(source: str, values: Mapping[str, Any]) -> str:
    """Render a template; raises whatever its expressions raise."""
    return compiled(source).render(values)


def check_template(source: str) -> None:
    """Raise InvalidSubscription, naming the line, unless the template can be rendered."""
    if len(source) > MAX_TEMPLATE:
        raise _invalid(f"template exceeds {MAX_TEMPLATE} characters")
    try:
        tree = _ENVIRONMENT.parse(source)
        # Finds filters and tests that do not exist.
        _ENVIRONMENT.compile(source)
    except TemplateSyntaxError as error:
        raise _invalid(f"template: line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise _invalid("template is nested too deeply") from error
    _check_names(tree)


def _check_names(tree: nodes.Template) -> None:
    for extending in tree.find_all(_EXTENDING):
        raise _invalid(f"template: line {extending.lineno}: a template cannot include another")
    known = {*NAMES, *_ENVIRONMENT.globals, "loop", "caller", "varargs", "kwargs"}
    known |= {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
    known |= {macro.name for macro in tree.find_all(nodes.Macro)}
    for node in tree.find_all(nodes.Name):
        if node.name not in known:
            names = ", ".join(NAMES)
            message = f"template: line {node.lineno}: there is no {node.name!r}; there are {names}"
            raise _invalid(message)


def _invalid(message: str) -> InvalidSubscription:
    return InvalidSubscription(message, field="template")
