"""Keys in the keyring of the operating system. Only a command that needs one imports this."""

import keyring
from keyring.errors import KeyringError, PasswordDeleteError

from deploylog.client.contexts import Context
from deploylog.errors import OperatorError

_SERVICE = "deploylog"


def save(name: str, server: str, key: str) -> None:
    """Save the key of a context; raises OperatorError."""
    try:
        keyring.set_password(_SERVICE, _account(name, server), key)
    except KeyringError as error:
        raise _unusable(error) from error


def read(name: str, context: Context) -> str:
    """Return the key of a context; raises OperatorError."""
    try:
        key = keyring.get_password(_SERVICE, _account(name, context.server))
    except KeyringError as error:
        raise _unusable(error) from error
    if key is None:
        raise OperatorError(f"the keyring has no key of context {name!r}: run deploylog login")
    return key


def delete(name: str, context: Context) -> None:
    """Delete the key of a context, if it is there; raises OperatorError."""
    try:
        keyring.delete_password(_SERVICE, _account(name, context.server))
    except PasswordDeleteError:
        # It was deleted in the keyring itself.
        return
    except KeyringError as error:
        raise _unusable(error) from error


def _account(name: str, server: str) -> str:
    # With the server in it, a changed file of contexts cannot send the key elsewhere.
    return f"{name} {server}"


def _unusable(error: KeyringError) -> OperatorError:
    reason = str(error).partition(". ")[0].rstrip(".") or type(error).__name__
    return OperatorError(f"the keyring cannot be used: {reason}")
