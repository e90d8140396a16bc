"""A shared secret, with which services that cannot hold an API key write on dedicated paths."""

import hmac
from collections.abc import Collection
from pathlib import Path

from deploylog.auth.authentication import RequestCredentials
from deploylog.errors import InvalidSettings
from deploylog.events.access import Grant, Principal
from deploylog.events.scope import ROOT

#: Methods that the secret authenticates; another method on the same path may be another API's.
_METHODS = ("POST", "PUT")


class SharedSecret:
    """Authenticates the secret on its own paths, and nowhere else."""

    kind = "secret"

    def __init__(self, secret: str, *, name: str, paths: Collection[str]) -> None:
        """``name`` names the principal; ``paths`` are complete, including base paths."""
        self._secret = secret.encode()
        self._paths = frozenset(paths)
        self._principal = Principal(name=name, grants=(Grant("write", ROOT),), kind=self.kind)

    async def principal(self, request: RequestCredentials) -> Principal | None:
        if request.method not in _METHODS or request.path.removesuffix("/") not in self._paths:
            return None
        sent = request.bearer.encode("utf-8", "surrogatepass")
        return self._principal if hmac.compare_digest(sent, self._secret) else None

    async def is_valid(self, principal: Principal) -> bool:
        return True

    async def find(self, id: str) -> Principal | None:
        return None


def read_secret(path: str) -> str:
    """Read the secret from a file; empty if ``path`` is empty. Raises InvalidSettings."""
    if not path:
        return ""
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise InvalidSettings(f"cannot read the secret in {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        # The cause would disclose part of the secret.
        raise InvalidSettings(f"the secret in {path} is not ASCII") from None
    if not secret or not secret.isprintable() or " " in secret:
        raise InvalidSettings(f"{path} must contain a secret of one word, without spaces")
    return secret
