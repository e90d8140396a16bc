"""Go's text/template as Argo CD uses it in the templates of ``integrations/argocd``, and no more.

Checked against Go's own, with Sprig's functions, when the templates were written.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_ACTION = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}(\s*)", re.DOTALL)

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s]+')


def render(template: str, data: dict[str, Any]) -> str:
    """The text that the template makes of the data; raises KeyError for what is not known."""
    text, rest = _block(list(_tokens(template)), data, data, is_live=True)
    assert rest == [], "an end without a beginning"
    return text


def _tokens(template: str) -> Iterator[tuple[bool, str]]:
    """Texts, and actions, which are marked; a dash trims the white space beside it."""
    place = 0
    for match in _ACTION.finditer(template):
        before, dash, action, dash_after, after = match.groups()
        yield False, template[place : match.start()] + ("" if dash else before)
        yield True, action
        place = match.end() - (0 if dash_after else len(after))
    yield False, template[place:]


_Tokens = list[tuple[bool, str]]


def _block(tokens: _Tokens, dot: Any, root: Any, *, is_live: bool) -> tuple[str, _Tokens]:
    """Render up to the ``else`` or ``end`` of the block; what is left begins with it.

    A block that is not live is read over.
    """
    out = ""
    while tokens:
        is_action, text = tokens[0]
        if is_action and text in ("else", "end"):
            return out, tokens
        tokens = tokens[1:]
        if not is_action:
            out += text
        elif text.startswith(("if ", "with ")):
            rendered, tokens = _conditional(text, tokens, dot, root, is_live=is_live)
            out += rendered
        elif is_live:
            value = _value(text, dot, root)
            out += value if isinstance(value, str) else json.dumps(value)
    return out, tokens


def _conditional(
    action: str, tokens: _Tokens, dot: Any, root: Any, *, is_live: bool
) -> tuple[str, _Tokens]:
    keyword, _, condition = action.partition(" ")
    value = _value(condition, dot, root) if is_live else None
    inner = value if keyword == "with" else dot
    then, tokens = _block(tokens, inner, root, is_live=is_live and bool(value))
    otherwise = ""
    if tokens[0] == (True, "else"):
        otherwise, tokens = _block(tokens[1:], dot, root, is_live=is_live and not value)
    assert tokens[0] == (True, "end")
    return then if value else otherwise, tokens[1:]


def _value(pipeline: str, dot: Any, root: Any) -> Any:
    value: Any = None
    for number, part in enumerate(pipeline.split(" | ")):
        words = _WORD.findall(part)
        arguments = [_operand(word, dot, root) for word in words[1:]]
        if words[0] not in _FUNCTIONS:
            value = _operand(words[0], dot, root)
        else:
            value = _FUNCTIONS[words[0]](*arguments, *([value] if number else []))
    return value


def _operand(word: str, dot: Any, root: Any) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    assert word.startswith((".", "$")), word
    value = root if word.startswith("$") else dot
    for name in filter(None, word.lstrip("$").split(".")):
        # A missing key is nothing; a key of nothing is an error, as in Go.
        value = value.get(name)
    return value


def _printf(form: str, *values: Any) -> str:
    return form % values


_FUNCTIONS: dict[str, Any] = {
    "printf": _printf,
    "toJson": json.dumps,
    "regexMatch": lambda pattern, text: re.search(pattern, text) is not None,
}
