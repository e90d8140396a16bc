"""The server: uvicorn, which ends streams before it waits for open connections."""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import msgspec
import uvicorn

from deploylog.api import APIS
from deploylog.auth.anonymous import is_authentication_configured, is_loopback
from deploylog.errors import InvalidSettings, LogReset
from deploylog.server.app import Application, create_app
from deploylog.server.connection_limits import limits_of, raise_file_limit
from deploylog.server.connections import Connections
from deploylog.server.fast_append import fast_protocol
from deploylog.server.keyfile import with_key_file
from deploylog.server.listeners import bound
from deploylog.server.logs import configure_logging
from deploylog.server.metrics import Metrics
from deploylog.server.serving import claim
from deploylog.server.settings import Settings
from deploylog.server.worker_metrics import WorkerMetrics
from deploylog.server.workers import Supervisor, Worker
from deploylog.store import key_file_of, open_store, shown_url
from deploylog.store.contract import Store
from deploylog.subscriptions.delivery.dispatcher import DEFAULT_PACING, Pacing
from deploylog.subscriptions.delivery.status_events import status_event

#: Seconds that one thread runs while others wait. At Python's 5 ms, a busy event loop would
#: starve the writer, which needs its turn between two statements. At 1 ms, readers waited some
#: 0.7 ms longer for an event while others were written to.
SWITCH_SECONDS = 0.0003

#: Allocations before the interpreter collects the youngest generation.
GARBAGE_THRESHOLD = 20_000

#: Connections that may wait in the accept queue.
BACKLOG = 4096

#: Seconds between two changes of the ``Date`` of responses.
DATE_SECONDS = 1.0

#: Seconds that running requests may take after SIGTERM.
GRACE_SECONDS = 5

_LOGGER = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A uvicorn server that ends streams first: uvicorn alone would wait for them."""

    def __init__(
        self,
        config: uvicorn.Config,
        application: Application,
        *,
        listeners: Sequence[socket.socket] = (),
        stops: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """It ends on the signals ``stops``, and then closes this process's ``listeners``.

        It calls ``started`` when it accepts connections.
        """
        super().__init__(config)
        self._application = application
        self._listeners = listeners
        self._stops = stops
        self._started = started
        self._exit = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in order on a signal.

        uvicorn raises the signal again when it is done, which would kill the process before the
        store is closed.
        """
        loop = asyncio.get_running_loop()
        for number in self._stops:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    @property
    def was_signalled(self) -> bool:
        """Whether a signal has asked it to end."""
        return bool(self._captured_signals)

    def finish(self) -> None:
        """End in order."""
        self.should_exit = True
        self._exit.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._exit.set()

    async def main_loop(self) -> None:
        """Set the date of responses once a second, until told to end; uvicorn wakes ten times."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._exit.wait(), DATE_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.end_streams()
        if self.was_signalled:
            _close(self._listeners)
        await super().shutdown(sockets)


def _close(listeners: Sequence[socket.socket]) -> None:
    """A client that is refused goes elsewhere. In the queue it would wait for the process's end."""
    for listener in listeners:
        listener.close()


def serve(settings: Settings, *, pacing: Pacing = DEFAULT_PACING) -> None:
    """Serve until SIGINT or SIGTERM; raises OperatorError when the server cannot start."""
    configure_logging(settings.log_level, settings.log_format)
    raise_file_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    # Objects that exist now stay, and those of a request rarely form a cycle.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 50, 100)
    with _serving(settings), bound(settings) as sockets:
        if settings.workers == 1:
            _run(_serve(settings, pacing, sockets))
        else:
            work = partial(_work, settings, pacing, sockets)
            stopping = partial(_close, sockets)
            Supervisor(work, number=settings.workers, stopping=stopping).run()


def _work(settings: Settings, pacing: Pacing, sockets: list[socket.socket], worker: Worker) -> None:
    """Serve as one of several workers."""
    configure_logging(settings.log_level, settings.log_format, worker=worker.number)
    _run(_serve(settings, pacing, sockets, worker))


def _run(serving: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_event_loop) as runner:
        runner.run(serving)


@contextmanager
def _serving(settings: Settings) -> Iterator[None]:
    """Warn about another process that serves the same store from a file."""
    key_file = key_file_of(settings.store)
    if key_file is None:
        yield
        return
    with claim(key_file.with_suffix(".serving"), _address_of(settings)) as other:
        if other is not None:
            _LOGGER.warning("the store is served already, by %s", other)
        yield


def _address_of(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}"


def _event_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _serve(
    settings: Settings,
    pacing: Pacing,
    sockets: list[socket.socket],
    worker: Worker | None = None,
) -> None:
    """Serve the log, and again from the start whenever it was reset."""
    metrics = Metrics()
    reset = await _serve_epoch(settings, pacing, sockets, worker, metrics, None)
    while reset is not None:
        _LOGGER.error("%s; every id has changed, and readers are told", reset.message)
        reset = await _serve_epoch(settings, pacing, sockets, worker, metrics, reset)


async def _serve_epoch(
    settings: Settings,
    pacing: Pacing,
    sockets: list[socket.socket],
    worker: Worker | None,
    metrics: Metrics,
    before: LogReset | None,
) -> LogReset | None:
    """Serve until a signal, or until the log is reset; return that. ``before`` is the last one."""
    async with open_store(
        settings.store, observer=metrics, query_seconds=settings.query_timeout_seconds
    ) as store:
        authenticated = await is_authentication_configured(store.credentials, settings.oidc_issuer)
        _check_address(settings, authenticated=authenticated)
        for listener in sockets:
            listener.listen(BACKLOG)
        settings = await with_key_file(settings, store, file=key_file_of(settings.store))
        async with AsyncExitStack() as running:
            exposition = metrics.exposition
            if worker is not None:
                of_workers = WorkerMetrics(metrics, worker)
                await running.enter_async_context(of_workers.answering())
                exposition = of_workers.render
                if not worker.speaks_for_all:
                    settings = msgspec.structs.replace(settings, dora_places="")
            application = await running.enter_async_context(
                create_app(store, settings, metrics, pacing=pacing, exposition=exposition)
            )
            if worker is None or worker.is_first:
                _announce(settings, sockets[0], authenticated=authenticated)
            if before is not None and before.is_first:
                await _tell_subscriptions(store, before)
            _tolerate_aborted_streams()
            connections = Connections(limits_of(settings), metrics.turned_away)
            config = _configuration(application, connections)
            server = _server(config, application, sockets, worker)
            application.when_reset(server.finish)
            async with connections.watching():
                # It closes what it is given.
                await server.serve(sockets=[listener.dup() for listener in sockets])
            return None if server.was_signalled else application.reset


async def _tell_subscriptions(store: Store, reset: LogReset) -> None:
    """Record for each subscription that events may be missing from what it was sent."""
    now = time.time_ns()
    for subscription in await store.subscriptions.list():
        key = f"reset/{store.log.epoch}"
        event = status_event(subscription, "gap", reason=reset.message, time=now, key=key)
        await store.log.append([event])


def _server(
    config: uvicorn.Config,
    application: Application,
    listeners: Sequence[socket.socket],
    worker: Worker | None,
) -> Server:
    if worker is None:
        return Server(config, application, listeners=listeners)
    server = Server(
        config, application, listeners=listeners, stops=[signal.SIGTERM], started=worker.ready
    )
    # Readable once the supervisor has ended, however it did.
    asyncio.get_running_loop().add_reader(worker.lifeline, server.finish)
    return server


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


class _NotAborted(logging.Filter):
    """Drops uvicorn's error about an incomplete response.

    A stream is aborted on purpose when its client would take an orderly end for the end of what
    it follows.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing response" not in str(record.msg)


def _tolerate_aborted_streams() -> None:
    logging.getLogger("uvicorn.error").addFilter(_NotAborted())


def _announce(settings: Settings, listener: socket.socket, *, authenticated: bool) -> None:
    host, port = listener.getsockname()[:2]
    store = shown_url(settings.store)
    shown = f"[{host}]" if ":" in host else host
    _LOGGER.info("listening on http://%s:%d, store %s", shown, port, store)
    if settings.unix_socket:
        _LOGGER.info("listening on unix socket %s", settings.unix_socket)
    if not settings.secret_key_file:
        _LOGGER.warning(
            "no encryption key: the key that encrypted the secrets in the store is missing"
            if key_file_of(settings.store) is not None
            else "no encryption key: set secret_key_file, alike for each process of this store"
        )
    for api in APIS:
        for warning in api.warnings(settings.section(api.settings)):
            _LOGGER.warning("%s", warning)
    if not authenticated:
        _LOGGER.warning("no authentication is configured: anyone on this machine may do everything")
