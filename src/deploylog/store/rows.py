"""Rows: how an event is stored in the ``events`` table of every backend."""

import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Literal

import msgspec

from deploylog.errors import DeploylogError
from deploylog.events.event import Event, NewEvent, Resource
from deploylog.events.ids import event_id
from deploylog.events.scope import Scope
from deploylog.store.checksums import content_checksum, event_checksum

COLUMNS = (
    "position", "recorded", "time", "source", "producer_id", "type", "subject", "scopes",
    "groups", "actor", "resource_type", "resource_name", "resource_key", "resource_address",
    "id_key", "id_value", "elapsed", "message", "data", "extensions",
)  # fmt: skip

Row = tuple[
    int, int, int, str, str | None, str, str | None, str,
    str | None, str | None, str | None, str | None, str | None, str | None,
    str | None, str | None, int | None, str | None, str | None, str | None,
    int | None,
]  # fmt: skip

Values = tuple[
    int, str, str | None, str, str | None, str,
    str | None, str | None, str | None, str | None, str | None, str | None,
    str | None, str | None, int | None, str | None, str | None, str | None,
]  # fmt: skip

#: The columns of an event ``e`` and its checksum.
WHOLE = ", ".join(f'e."{column}"' for column in (*COLUMNS, "checksum"))

#: Characters of scopes or groups that are cached. Clients choose them: without a limit the caches
#: could take hundreds of megabytes.
_MAX_CACHED = 1024

_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode


class Unreadable(Exception):
    """A row that does not contain the event that was recorded."""

    def __init__(self, reason: Literal["checksum", "unreadable"]) -> None:
        """See ``Damaged`` for the reasons."""
        super().__init__(reason)
        self.reason: Literal["checksum", "unreadable"] = reason


def values_of(event: NewEvent) -> Values:
    """The columns of the row of ``event`` after ``position`` and ``recorded``."""
    resource = event.resource
    return (
        event.time,
        event.source,
        event.producer_id,
        event.type,
        event.subject,
        _names_text(event.scopes),
        _names_text(event.groups) if event.groups else None,
        event.actor,
        resource.type if resource else None,
        resource.name if resource else None,
        resource.key if resource else None,
        resource.address if resource else None,
        resource.id_key if resource else None,
        resource.id_value if resource else None,
        event.elapsed,
        event.message,
        bytes(event.data).decode() if event.data is not None else None,
        bytes(event.extensions).decode() if event.extensions is not None else None,
    )


#: What decoding raises when the content is not what an append wrote.
BAD_CONTENT = (msgspec.ValidationError, ValueError, OverflowError, struct.error, DeploylogError)


def _check_json(*texts: str | None) -> None:
    """Raise ``msgspec.DecodeError`` unless they are JSON."""
    for text in texts:
        if text is not None:
            with suppress(RecursionError):
                msgspec.json.decode(text)


def event_from(row: Row, epoch: int) -> Event:
    """The event of one row. Raises Unreadable, or what decoding raises."""
    (position, recorded, time, source, producer_id, type_, subject, scopes,
     groups, actor, resource_type, resource_name, resource_key, resource_address,
     id_key, id_value, elapsed, message, data, extensions, checksum) = row  # fmt: skip
    if checksum is None:
        _check_json(data, extensions)
    elif checksum != event_checksum(content_checksum(row[2:-1]), position, recorded):
        raise Unreadable("checksum")
    resource = None
    if resource_type is not None and resource_name is not None:
        resource = Resource(
            type=resource_type,
            name=resource_name,
            key=resource_key,
            address=resource_address,
            id_key=id_key,
            id_value=id_value,
        )
    return Event(
        position=position,
        id=event_id(position=position, recorded=recorded, epoch=epoch),
        recorded=recorded,
        time=time,
        source=source,
        producer_id=producer_id,
        type=type_,
        subject=subject,
        scopes=scopes_of(scopes),
        groups=_decode_names(groups) if groups else (),
        actor=actor,
        resource=resource,
        elapsed=elapsed,
        message=message,
        data=msgspec.Raw(data.encode()) if data is not None else None,
        extensions=msgspec.Raw(extensions.encode()) if extensions is not None else None,
    )


def json_text(values: Iterable[object]) -> str:
    """A JSON array."""
    return msgspec.json.encode(tuple(values)).decode()


def _names_text(names: tuple[str, ...]) -> str:
    """A JSON array, cached: neighbours usually have the same scopes and groups."""
    return _cached_text(names) if sum(map(len, names)) <= _MAX_CACHED else json_text(names)


@lru_cache(maxsize=4096)
def _cached_text(names: tuple[str, ...]) -> str:
    return json_text(names)


def names_of(text: str) -> tuple[str, ...]:
    """The strings of a JSON array."""
    return _decode_names(text)


def scopes_of(text: str) -> tuple[Scope, ...]:
    """The scopes of a JSON array."""
    return _cached_scopes(text) if len(text) <= _MAX_CACHED else _scopes_of(text)


def _scopes_of(text: str) -> tuple[Scope, ...]:
    return tuple(Scope(path) for path in _decode_names(text))


_cached_scopes = lru_cache(maxsize=4096)(_scopes_of)
