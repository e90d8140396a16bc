"""A published API as one value, from which its routes, settings and documentation follow."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from deploylog.api.context import ApiContext, Handler
from deploylog.api.http.endpoint import Respond
from deploylog.api.operation import Body, Operation
from deploylog.auth.authentication import Authenticator
from deploylog.events.filters import Filter
from deploylog.subscriptions.delivery.kinds.kind import Render
from deploylog.subscriptions.delivery.sender import NameType
from deploylog.subscriptions.subscription import Format

S = TypeVar("S", bound=msgspec.Struct)
E = TypeVar("E")


def no_authenticators(settings: msgspec.Struct, bases: Sequence[str]) -> Iterable[Authenticator]:
    """For an API that accepts the credentials that every API does, and no others."""
    return ()


def no_warnings(settings: msgspec.Struct) -> Iterable[str]:
    """For an API whose settings cannot be questionable."""
    return ()


class DeliveryFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How subscriptions deliver events in the words of an API."""

    name: Format
    #: Gives the media type and the body of a webhook.
    render: Render
    #: Selects the events that have this format; ``None`` selects all.
    filter: Filter | None = None
    #: Names the type of an event in messages for people; ``None`` leaves it.
    name_type: NameType | None = None


class Resource(msgspec.Struct, Generic[S, E], frozen=True, kw_only=True):
    """Operations whose endpoints are methods of one object."""

    #: Makes the object, once for each application.
    endpoints: Callable[[ApiContext, S], E]
    operations: tuple[Operation[E], ...]


class Api(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """A published API: what its folder exports and ``APIS`` lists."""

    title: str
    #: The API answers unknown paths below these; the longest prefix of all APIs wins.
    prefixes: tuple[str, ...]
    #: Its section of the settings. Fields have the names of the settings; see ``api.settings``.
    settings: type[S]
    resources: tuple[Resource[S, Any], ...]
    #: Renders an error.
    respond: Respond
    #: Documents what ``respond`` renders.
    error: Body
    #: The OpenAPI security schemes that its clients use, by name.
    security: Mapping[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    #: Makes the authenticators of credentials that only this API accepts, from its settings and
    #: the base paths; raises InvalidSettings.
    authenticators: Callable[[S, Sequence[str]], Iterable[Authenticator]] = no_authenticators
    delivery: DeliveryFormat | None = None
    #: What the log says of questionable settings when the service starts.
    warnings: Callable[[S], Iterable[str]] = no_warnings
    #: Whether HEAD is answered as GET is.
    answers_head: bool = True
    #: Whether each path is the same with and without a trailing slash.
    either_slash: bool = False

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """Every operation, in the order of the documentation."""
        return tuple(each for resource in self.resources for each in resource.operations)

    def handlers(
        self, context: ApiContext, settings: S
    ) -> Iterator[tuple[Operation[Any], Handler]]:
        """Each operation with the endpoint that serves it."""
        for resource in self.resources:
            endpoints = resource.endpoints(context, settings)
            for operation in resource.operations:
                yield operation, partial(operation.endpoint, endpoints)
