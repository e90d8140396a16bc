"""Listening sockets: bound before anything else, for the workers to share."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploylog.errors import OperatorError
from deploylog.server.settings import Settings


@contextmanager
def bound(settings: Settings) -> Iterator[list[socket.socket]]:
    """Bind the sockets of the settings: TCP first. Nobody can connect before one listens.

    Raises OperatorError when an address is taken.
    """
    with bind(settings) as listener, _bound_to_path(settings.unix_socket) as local:
        yield [listener, *local]


def bind(settings: Settings) -> socket.socket:
    """Bind the TCP socket of the settings."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        hint = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise OperatorError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}{hint}"
        ) from error
    listener.setblocking(False)
    return listener


@contextmanager
def _bound_to_path(path: str) -> Iterator[list[socket.socket]]:
    """Bind a Unix socket, if there is a path; remove its file at the end."""
    if not path:
        yield []
        return
    remove_abandoned(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set the mode at creation: others could connect before a later chmod.
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        raise OperatorError(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    listener.setblocking(False)
    try:
        with listener:
            yield [listener]
    finally:
        Path(path).unlink(missing_ok=True)


def remove_abandoned(path: str) -> None:
    """Remove the socket file of a killed service; raises OperatorError if one still listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OperatorError(f"cannot listen on {path}: it is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise OperatorError(f"cannot listen on {path}: another process listens there")
