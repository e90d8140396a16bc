"""Contexts: servers and their keys under names, in a file that only its user may read."""

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from deploylog.deployments.filters import suggestion
from deploylog.errors import OperatorError

#: Others may neither read nor write the file.
_MODE = 0o600

#: The permissions that a file with keys should not give.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server, and the key for it."""

    server: str
    key: str | None = None
    #: Whether the key is in the keyring of the operating system instead.
    keyring: bool = False

    @property
    def has_key(self) -> bool:
        return self.keyring or self.key is not None


class Contexts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All contexts, and the one that commands use when none is named."""

    current: str | None = None
    contexts: Mapping[str, Context] = {}

    def get(self, name: str) -> Context:
        """Return a context; raises OperatorError."""
        try:
            return self.contexts[name]
        except KeyError:
            hint = suggestion(name, self.contexts) or "; create it with deploylog login"
            raise OperatorError(f"there is no context {name!r}{hint}") from None

    def select(self, name: str | None) -> tuple[str, Context] | None:
        """Return the context of that name, or the current one, if there is one, and its name."""
        chosen = name or self.current
        return (chosen, self.get(chosen)) if chosen is not None else None

    def add(self, name: str, context: Context) -> "Contexts":
        """Return contexts with another one, which is the current one."""
        return Contexts(current=name, contexts={**self.contexts, name: context})

    def use(self, name: str) -> "Contexts":
        """Return contexts of which another one is current; raises OperatorError."""
        self.get(name)
        return replace(self, current=name)

    def remove(self, name: str) -> "Contexts":
        """Return contexts without one; raises OperatorError."""
        self.get(name)
        others = {other: context for other, context in self.contexts.items() if other != name}
        return Contexts(current=None if name == self.current else self.current, contexts=others)


class ContextFile:
    """The file of the contexts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Contexts:
        """Return what the file says, which need not exist; raises OperatorError."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Contexts)
        except (FileNotFoundError, NotADirectoryError):
            return Contexts()
        except OSError as error:
            raise OperatorError(f"cannot read {self.path}: {error.strerror}") from error
        except msgspec.DecodeError:
            # The cause could show a part of a key.
            raise OperatorError(f"{self.path} is not a file of contexts") from None

    @property
    def is_exposed(self) -> bool:
        """Whether others may read or write the file."""
        try:
            return bool(self.path.stat().st_mode & _OTHERS)
        except OSError:
            return False

    def write(self, contexts: Contexts) -> None:
        """Replace the file, in one step; raises OperatorError."""
        content = msgspec.json.format(msgspec.json.encode(contexts), indent=2) + b"\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self.path, content)
        except OSError as error:
            raise OperatorError(f"cannot write {self.path}: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    # mkstemp creates the file with this mode: it is never open to others, not even empty.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), _MODE)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
