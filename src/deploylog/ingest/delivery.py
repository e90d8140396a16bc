"""A delivery: one request of another system's webhook, and what it says."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from deploylog.deployments.details import Details, decode_named, known_details
from deploylog.deployments.report import Report
from deploylog.errors import InvalidInput, UnsupportedMedia
from deploylog.events.event import MAX_MESSAGE_BYTES, NewEvent
from deploylog.events.times import parse_time

_T = TypeVar("_T", bound=msgspec.Struct)

#: Characters of a message, each of which takes up to four bytes.
_MAX_MESSAGE_LENGTH = MAX_MESSAGE_BYTES // 4


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the webhook's address says that its deployments belong."""

    project: str
    #: Instead of the names that the source uses.
    stack: str | None = None
    environment: str | None = None
    groups: tuple[str, ...] = ()
    #: Names of the workflows that deploy, of a source that reports any.
    workflows: tuple[str, ...] = ()


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a webhook. Its signature is valid."""

    place: Place
    #: By lower-case name.
    headers: Mapping[str, str]
    body: bytes
    #: When it arrived, in ns.
    received: int

    @property
    def digest(self) -> str:
        """Identifies the body, of a source that sends no id."""
        return hashlib.sha256(self.body).hexdigest()


class Ignored(msgspec.Struct, frozen=True):
    """A delivery that is understood, and says nothing about a deployment."""

    reason: str


#: What a delivery says: events of deployments, and others.
Said = Sequence[Report | NewEvent] | Ignored


def decode(delivery: Delivery, kind: type[_T]) -> _T:
    """The body as JSON; raises InvalidInput, which names the field."""
    return decode_named(delivery.body, kind)


def unknown_body(what: str, known: Sequence[str]) -> UnsupportedMedia:
    """The error of a body that its source does not send, as far as is known."""
    return UnsupportedMedia(f"{what}; known are {', '.join(known)}")


def report(
    delivery: Delivery,
    *,
    source: str,
    id: str,
    key: str,
    stack: str,
    type: str,
    time: int,
    environment: str | None = None,
    started: int | None = None,
    tool: str | None = None,
    operation: str | None = None,
    actor: str | None = None,
    message: str | None = None,
    details: Mapping[str, object] | None = None,
    data: Mapping[str, Any] | None = None,
    opens: bool = True,
) -> Report:
    """A report about a deployment. Details that no deployment may have are left out."""
    place = delivery.place
    return Report(
        project=place.project,
        stack=place.stack or stack,
        environment=place.environment or environment,
        key=key,
        started=started,
        tool=tool,
        operation=operation,
        details=known_details(**details) if details else Details(),
        data={name: value for name, value in (data or {}).items() if value is not None},
        opens=opens,
        event=NewEvent(
            type=type,
            source=source,
            scopes=(),
            time=time,
            producer_id=f"{key}/{id}",
            subject=place.stack or stack,
            groups=place.groups,
            actor=actor,
            message=message[:_MAX_MESSAGE_LENGTH] if message else None,
        ),
    )


def time_of(field: str, text: str) -> int:
    """The time in ns; raises InvalidInput, which names the field."""
    try:
        return parse_time(text)
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error.message}", field=field) from error
