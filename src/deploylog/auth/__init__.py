"""Authentication: from a request's headers to a principal."""

from collections.abc import Mapping
from typing import Protocol

from deploylog.errors import Unauthenticated
from deploylog.principals import Principal


class Authenticator(Protocol):
    """One kind of credential."""

    async def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """Who the request's credential says it is; ``None`` when it has none of this kind, or
        one that is not valid.
        """
        ...


class Everybody:
    """An ``Authenticator`` that asks for nothing, and lets in a stranger who may do nothing."""

    async def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """See ``Authenticator``."""
        return Principal(name="anybody")


async def authenticate(
    authenticators: tuple[Authenticator, ...], headers: Mapping[str, str]
) -> Principal:
    """Who asks: the first kind that knows decides. Raises Unauthenticated, which tells nothing."""
    for authenticator in authenticators:
        principal = await authenticator.principal(headers)
        if principal is not None:
            return principal
    raise Unauthenticated
