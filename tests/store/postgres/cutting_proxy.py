"""A proxy before a PostgreSQL server that loses the connection at a COMMIT."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: What is lost: the answer to a COMMIT, or the COMMIT itself.
Lost = Literal["answer", "commit"]


class CuttingProxy:
    """Forwards bytes; cuts the next connection that commits when it is told to."""

    def __init__(self, url: str, listener: socket.socket) -> None:
        self._target = conninfo_to_dict(url)
        self._listener = listener
        self._next: Lost | None = None
        #: How many connections were cut.
        self.cuts = 0

    def cut_next(self, lost: Lost) -> None:
        self._next = lost

    def run(self) -> None:
        """Serve connections until the listener is shut down."""
        threads = []
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        with client, self._connect() as server:
            lost: list[Lost] = []
            back = threading.Thread(target=self._receive, args=(server, client, lost))
            back.start()
            self._send(client, server, lost)
            back.join()

    def _connect(self) -> socket.socket:
        host, port = str(self._target.get("host")), int(self._target.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _send(self, client: socket.socket, server: socket.socket, lost: list[Lost]) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self._next is not None and b"COMMIT" in data:
                    lost.append(self._next)
                    self._next = None
                    self.cuts += 1
                    if lost == ["commit"]:
                        break
                server.sendall(data)
        _shut(client, server)

    def _receive(self, server: socket.socket, client: socket.socket, lost: list[Lost]) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if lost and b"COMMIT\x00" in data:
                    break
                client.sendall(data)
        _shut(client, server)


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(url: str, folder: Path) -> Iterator[tuple[str, CuttingProxy]]:
    """A proxy before the server of ``url``, and the URL of the same database through it.

    It runs in threads of its own: a store that is opened blocks the event loop.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / ".s.PGSQL.5432"))
        listener.listen(100)
        proxy = CuttingProxy(url, listener)
        thread = threading.Thread(target=proxy.run)
        thread.start()
        yield make_conninfo(url, host=str(folder), port="5432"), proxy
        _shut(listener)
        thread.join()
