"""An operation of an API: what serves it, and how the OpenAPI document describes it."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

E = TypeVar("E")

#: A method that serves an operation.
Endpoint = Callable[[E, Request], Awaitable[ASGIApp]]

#: Whether a request is answered without credentials.
IsOpen = Callable[[Request], bool]


def always(request: Request) -> bool:
    """For an operation that is open to everyone."""
    return True


def never(request: Request) -> bool:
    """For an operation that needs credentials."""
    return False


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A query, path or header parameter."""

    name: str
    help: str
    place: Literal["query", "path", "header"] = "query"
    required: bool = False
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})
    example: str | None = None


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A request's or a response's body."""

    help: str = ""
    status: int = 200
    #: Empty when there is no body.
    media: str = "application/json"
    #: The type that the code parses or renders; ``None`` is text.
    type: Any = None
    example: Any = None


class Operation(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """One method on one path."""

    id: str
    method: str
    path: str
    #: A method of the resource's endpoints.
    endpoint: Endpoint[E]
    summary: str
    tag: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    request: tuple[Body, ...] = ()
    answers: tuple[Body, ...] = ()
    is_open: IsOpen = never

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The bodies of requests and of successful responses."""
        return (*self.request, *self.answers)


def path_parameter(name: str, help: str) -> Parameter:
    """A parameter that is part of the path."""
    return Parameter(name=name, help=help, place="path", required=True)


def whole_number(low: int, high: int, default: int) -> dict[str, Any]:
    """The schema of a whole number in a range."""
    return {"type": "integer", "minimum": low, "maximum": high, "default": default}


def one_of(*choices: str) -> dict[str, Any]:
    """The schema of a choice, the first being the default."""
    return {"type": "string", "enum": list(choices), "default": choices[0]}


def flag() -> dict[str, Any]:
    """The schema of a parameter that is true or false."""
    return {"type": "boolean", "default": False}


def repeated() -> dict[str, Any]:
    """The schema of a parameter that may be given several times."""
    return {"type": "array", "items": {"type": "string"}}
