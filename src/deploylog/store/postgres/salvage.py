"""Salvage: what a row is found by, damaged or not."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from deploylog.errors import DeploylogError
from deploylog.events.event import NewEvent, Resource
from deploylog.events.index.terms import PUBLIC, terms_of
from deploylog.store.rows import names_of, scopes_of

_Name = TypeVar("_Name", bound=str)

#: The columns that terms are made of, after the position and the time.
TERM_COLUMNS = (
    'type, source, scopes, "groups", actor, subject, message,'
    " resource_type, resource_name, resource_key, resource_address, id_value"
)


def terms_of_row(time: int, row: tuple[Any, ...]) -> list[str]:
    """The terms of each of the ``TERM_COLUMNS`` that can be read.

    A row whose groups cannot be read is found only by those who see the events of every group.
    """
    (type_, source, scopes, groups, actor, subject, message,
     resource_type, resource_name, key, address, id_value) = row  # fmt: skip
    resource = None
    if resource_type is not None and resource_name is not None:
        resource = Resource(
            type=resource_type, name=resource_name, key=key, address=address, id_value=id_value
        )
    event = NewEvent(
        type=type_,
        source=source,
        scopes=_names(scopes, scopes_of),
        groups=_names(groups, names_of) if groups is not None else (),
        time=time,
        actor=actor,
        subject=subject,
        message=message,
        resource=resource,
    )
    terms = terms_of(event)
    if groups is not None and not event.groups:
        terms.remove(PUBLIC)
    return terms


def _names(text: str, decode: Callable[[str], tuple[_Name, ...]]) -> tuple[_Name, ...]:
    with suppress(msgspec.MsgspecError, DeploylogError):
        return decode(text)
    return ()
