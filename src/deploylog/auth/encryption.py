"""Encryption of the secrets that the store must return."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from deploylog.errors import InvalidSettings, OperatorError

_CREATE_ONE = "create one with: deploylog keys new-encryption-key"


class Encryptor:
    """Encrypts with the first key and decrypts with any, so that keys can be rotated."""

    def __init__(self, keys: Sequence[Fernet]) -> None:
        """At least one key."""
        self._fernet = MultiFernet(keys)

    def encrypt(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def decrypt(self, encrypted: bytes) -> str:
        """Raises OperatorError if none of the keys encrypted it."""
        try:
            return self._fernet.decrypt(encrypted).decode()
        except InvalidToken:
            raise OperatorError("none of the encryption keys decrypts a stored secret") from None


def make_encryption_key() -> str:
    """A new key: 256 random bits."""
    return Fernet.generate_key().decode()


def create_key_file(file: Path) -> bool:
    """Create ``file`` with a new key, synced to disk and readable by its owner only.

    Never overwrites: returns ``False`` when the file exists. Raises OperatorError.
    """
    try:
        return _link_new(file, f"{make_encryption_key()}\n".encode())
    except OSError as error:
        raise OperatorError(
            f"cannot create the encryption key {file}: {error.strerror}; "
            "name an existing file with --secret-key-file or DEPLOYLOG_SECRET_KEY_FILE"
        ) from error


def _link_new(file: Path, content: bytes) -> bool:
    # Written under another name first: a process that starts concurrently, or after a crash, finds
    # a complete key or none. mkstemp opens with O_EXCL and mode 0600; link() never overwrites.
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            # A umask may have removed the owner's permissions as well.
            os.fchmod(descriptor, 0o600)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
            _sync_directory(file.parent)
            return True
        return False
    finally:
        os.unlink(draft)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_encryptor(text: str) -> Encryptor:
    """Parse keys, one a line; raises InvalidSettings, which does not disclose them."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    keys = [_fernet(number, line) for number, line in lines if line]
    if not keys:
        raise InvalidSettings(f"the file contains no encryption key: {_CREATE_ONE}")
    return Encryptor(keys)


def read_encryptor(path: str) -> Encryptor | None:
    """Read the keys in a file; ``None`` if ``path`` is empty. Raises InvalidSettings."""
    if not path:
        return None
    try:
        return parse_encryptor(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"cannot read secret_key_file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidSettings(f"secret_key_file {path} contains no encryption keys") from None
    except InvalidSettings as error:
        raise InvalidSettings(f"secret_key_file {path}: {error.message}") from error


def require_encryptor(encryptor: Encryptor | None) -> Encryptor:
    """Raises OperatorError, which says how to create a key, if there is none."""
    if encryptor is None:
        raise OperatorError(
            "secrets are only stored encrypted, and there is no encryption key: "
            f"{_CREATE_ONE}, and name its file with --secret-key-file or DEPLOYLOG_SECRET_KEY_FILE"
        )
    return encryptor


def _fernet(number: int, line: str) -> Fernet:
    try:
        return Fernet(line)
    except ValueError:
        # The cause may disclose the key.
        raise InvalidSettings(f"line {number} is not an encryption key: {_CREATE_ONE}") from None
