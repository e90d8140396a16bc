"""The seal: encrypts the secrets that the store must give back."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from deploylog.errors import InvalidSettings, OperatorError

_MAKE_ONE = "make one with: deploylog keys new-encryption-key"


class Encryptor:
    """Encrypts with the first of its keys, and decrypts with any: so a key can be replaced."""

    def __init__(self, keys: Sequence[Fernet]) -> None:
        """At least one key."""
        self._fernet = MultiFernet(keys)

    def encrypt(self, secret: str) -> bytes:
        """The secret, encrypted."""
        return self._fernet.encrypt(secret.encode())

    def decrypt(self, sealed: bytes) -> str:
        """The secret again; raises OperatorError when none of the keys sealed it."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            # The cause would say nothing more.
            raise OperatorError("none of the encryption keys opens a stored secret") from None


def make_encryption_key() -> str:
    """A new key: 256 random bits."""
    return Fernet.generate_key().decode()


def create_key_file(file: Path) -> bool:
    """Create ``file`` with a new key, on disk and readable by its owner only, before it returns.

    Never overwrites: returns ``False`` when the file exists. Raises OperatorError.
    """
    try:
        return _link_new(file, f"{make_encryption_key()}\n".encode())
    except OSError as error:
        raise OperatorError(
            f"cannot create the encryption key {file}: {error.strerror}; "
            "name a file that exists with --secret-key-file or DEPLOYLOG_SECRET_KEY_FILE"
        ) from error


def _link_new(file: Path, content: bytes) -> bool:
    # Written under another name first: a process that starts at the same moment, or after a crash,
    # finds a whole key or none. mkstemp opens with O_EXCL and mode 0600; a link replaces nothing.
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            # A umask may have taken the owner's rights as well.
            os.fchmod(descriptor, 0o600)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
            _sync_folder(file.parent)
            return True
        return False
    finally:
        os.unlink(draft)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_encryptor(text: str) -> Encryptor:
    """The seal of these keys, one a line; raises InvalidSettings, which does not show them."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    keys = [_fernet(number, line) for number, line in lines if line]
    if not keys:
        raise InvalidSettings(f"there is no encryption key in the file: {_MAKE_ONE}")
    return Encryptor(keys)


def read_encryptor(path: str) -> Encryptor | None:
    """The seal of the keys in a file; ``None`` when no file is named. Raises InvalidSettings."""
    if not path:
        return None
    try:
        return parse_encryptor(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"cannot read secret_key_file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InvalidSettings(f"secret_key_file {path} holds no encryption keys") from None
    except InvalidSettings as error:
        raise InvalidSettings(f"secret_key_file {path}: {error.message}") from error


def require_encryptor(seal: Encryptor | None) -> Encryptor:
    """The seal; raises OperatorError, which says how to get one."""
    if seal is None:
        raise OperatorError(
            "secrets are stored encrypted only, and there is no encryption key: "
            f"{_MAKE_ONE}, and name its file with --secret-key-file or DEPLOYLOG_SECRET_KEY_FILE"
        )
    return seal


def _fernet(number: int, line: str) -> Fernet:
    try:
        return Fernet(line)
    except ValueError:
        # The cause may show the key.
        raise InvalidSettings(f"line {number} is not an encryption key: {_MAKE_ONE}") from None
