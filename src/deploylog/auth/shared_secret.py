"""The shared secret: lets services without a key of their own write on a path of their own."""

import hmac
from collections.abc import Collection
from pathlib import Path

from deploylog.auth.authentication import RequestCredentials
from deploylog.errors import InvalidSettings
from deploylog.events.access import Grant, Principal
from deploylog.events.scope import ROOT

#: What its paths are for; another method there may be another API's.
_METHODS = ("POST", "PUT")


class SharedSecret:
    """Knows whoever shows the secret in a request that its paths are for, and in no other."""

    kind = "secret"

    def __init__(self, secret: str, *, name: str, paths: Collection[str]) -> None:
        """``name`` is its principal's; ``paths`` are whole, base paths included."""
        self._secret = secret.encode()
        self._paths = frozenset(paths)
        self._principal = Principal(name=name, grants=(Grant("write", ROOT),), kind=self.kind)

    async def principal(self, presented: RequestCredentials) -> Principal | None:
        if presented.method not in _METHODS or presented.path.removesuffix("/") not in self._paths:
            return None
        shown = presented.bearer.encode("utf-8", "surrogatepass")
        return self._principal if hmac.compare_digest(shown, self._secret) else None

    async def is_valid(self, principal: Principal) -> bool:
        return True

    async def find(self, id: str) -> Principal | None:
        return None


def read_secret(path: str) -> str:
    """The secret in a file; empty when no file is named. Raises InvalidSettings."""
    if not path:
        return ""
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise InvalidSettings(f"cannot read the secret in {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        # The cause would show some of it.
        raise InvalidSettings(f"the secret in {path} is not ASCII") from None
    if not secret or not secret.isprintable() or " " in secret:
        raise InvalidSettings(f"{path} holds no secret: one word, without blanks")
    return secret
