"""A keyring in a JSON file, which commands in processes of their own share."""

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

#: Names the file. Give the class as ``PYTHON_KEYRING_BACKEND``.
VARIABLE = "FILE_KEYRING"


class FileKeyring(KeyringBackend):
    """Passwords by service and user name."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        return _read().get(service, {}).get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        passwords = _read()
        passwords.setdefault(service, {})[username] = password
        _file().write_text(json.dumps(passwords))

    def delete_password(self, service: str, username: str) -> None:
        passwords = _read()
        if passwords.get(service, {}).pop(username, None) is None:
            raise PasswordDeleteError("no such password")
        _file().write_text(json.dumps(passwords))


def _file() -> Path:
    return Path(os.environ[VARIABLE])


def _read() -> dict[str, dict[str, str]]:
    return json.loads(_file().read_text()) if _file().exists() else {}
