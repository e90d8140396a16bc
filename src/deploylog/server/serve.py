"""The server: uvicorn, with streams ended before it waits for connections."""

import asyncio
import gc
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from deploylog.auth.anonymous import configured, is_loopback
from deploylog.errors import InvalidSettings, OperatorError, StoreUnavailable
from deploylog.server.app import Application, create_app
from deploylog.server.connections import Connections, limits_of, raise_file_limit
from deploylog.server.fast_append import fast_protocol
from deploylog.server.keyfile import with_key_file
from deploylog.server.metrics import Metrics
from deploylog.server.settings import Settings, paths_of
from deploylog.store import key_file_of, open_store

#: How long the interpreter lets one thread run while others wait, in seconds. The writer needs
#: its turn between two statements; at Python's 5 ms a busy event loop would starve it.
SWITCH_SECONDS = 0.001

#: Objects made before the interpreter looks for cycles among the youngest.
GARBAGE_THRESHOLD = 20_000

#: Connections that may wait to be accepted.
BACKLOG = 4096

#: How long running requests may take after SIGTERM, in seconds.
GRACE_SECONDS = 5

_LOGGER = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn waits for open connections before anything else can be told to end."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        """Serve ``application``."""
        super().__init__(config)
        self._application = application

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop when told to, in order: uvicorn would have the signal kill us once it is done,
        before the store is closed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams first."""
        self._application.end_streams()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Serve until told to stop; raises OperatorError when it cannot."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_NotReported())
    raise_file_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    # What is there now stays; and what comes and goes with a request is rarely a cycle.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 50, 100)
    with asyncio.Runner(loop_factory=_event_loop) as runner:
        runner.run(_serve(settings))


def _event_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _serve(settings: Settings) -> None:
    metrics = Metrics()
    async with open_store(
        settings.store, observer=metrics, query_seconds=settings.query_timeout_seconds
    ) as store:
        authenticated = await configured(store.credentials, settings.oidc_issuer)
        _check_address(settings, authenticated=authenticated)
        listener = _listen(settings)
        with _listen_locally(settings) as local:
            settings = await with_key_file(settings, store, file=key_file_of(settings.store))
            async with create_app(store, settings, metrics) as application:
                _announce(settings, listener, authenticated=authenticated)
                _tolerate_torn_streams()
                connections = Connections(limits_of(settings), metrics.turned_away)
                server = Server(_configuration(application, connections), application)
                async with connections.watching():
                    await server.serve(sockets=[listener, *local])


def _configuration(application: Application, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        application.asgi,
        http=fast_protocol(connections, application.append),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _check_address(settings: Settings, *, authenticated: bool) -> None:
    if not authenticated and not is_loopback(settings.host):
        raise InvalidSettings(
            f"will not listen on {settings.host} without authentication: "
            "add a key first (deploylog keys add), or listen on 127.0.0.1"
        )


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"
        ) from error
    listener.setblocking(False)
    return listener


@contextmanager
def _listen_locally(settings: Settings) -> Iterator[list[socket.socket]]:
    """The unix socket, if there is to be one; its file goes with it."""
    path = settings.unix_socket
    if not path:
        yield []
        return
    _remove_abandoned(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect between its creation and a change of its mode.
    mask = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        raise OperatorError(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    listener.setblocking(False)
    try:
        yield [listener]
    finally:
        Path(path).unlink(missing_ok=True)


def _remove_abandoned(path: str) -> None:
    """Remove the socket file of a service that was killed; raises OperatorError if one lives."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OperatorError(f"cannot listen on {path}: it is a file of another kind")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise OperatorError(f"cannot listen on {path}: something listens there already")


class _NotTorn(logging.Filter):
    """Drops uvicorn's complaint about a response that was not completed.

    A stream is torn off on purpose when its client would take an orderly end for the end of
    what it follows.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing response" not in str(record.msg)


class _NotReported(logging.Filter):
    """Drops a failure that the store has logged: every loop that retries would repeat it."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, StoreUnavailable) and error.reported)


def _tolerate_torn_streams() -> None:
    logging.getLogger("uvicorn.error").addFilter(_NotTorn())


def _announce(settings: Settings, listener: socket.socket, *, authenticated: bool) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _LOGGER.info("listening on http://%s:%d, store %s", shown, port, settings.store)
    if settings.unix_socket:
        _LOGGER.info("listening on unix socket %s", settings.unix_socket)
    if not settings.secret_key_file:
        _LOGGER.warning("no encryption key: the one that sealed the store's secrets is missing")
    for folder in paths_of(settings.plan_folders):
        if not Path(folder).is_dir():
            _LOGGER.warning("plan_folders: there is no folder %s", folder)
    if not authenticated:
        _LOGGER.warning("no authentication is configured: everything is allowed, on loopback only")
