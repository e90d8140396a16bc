"""Formats: which events a format has a form for."""

import msgspec

from deploylog.errors import InvalidSubscription
from deploylog.filters import AnyOf, Filter


def only_known(asked: Filter, known: Filter) -> Filter:
    """What of ``asked`` has one of the types of ``known``; raises InvalidSubscription."""
    types = tuple(value for each in known.all_of for value in each.values)
    rest = tuple(each for each in asked.all_of if each.field != "type")
    for condition in asked.all_of:
        if condition.field == "type":
            types = tuple(text for text in types if _allows(condition, text))
    if not types:
        raise InvalidSubscription("no event of these types has this format", field="filter.type")
    return msgspec.structs.replace(asked, all_of=(AnyOf(field="type", values=types), *rest))


def _allows(condition: AnyOf, text: str) -> bool:
    return text in condition.values or text.startswith(condition.prefixes)
