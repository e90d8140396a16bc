"""Workers: processes that serve together, and the supervisor that starts them again.

The supervisor forks before it opens anything, has no threads, and waits for signals only. The
workers share the listening sockets, so a connection that waits to be accepted survives the end of
any worker.
"""

import logging
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from deploylog.errors import DeploylogError, OperatorError

#: A worker that lived shorter than this, in seconds, is started again after a delay, which doubles
#: each time.
SHORT_LIFE_SECONDS = 10.0
FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.5, 30.0

#: Seconds for which workers may drain before they are killed.
STOP_SECONDS = 30.0

_STOPS = {signal.SIGTERM, signal.SIGINT}

#: A worker sends SIGUSR1 when it serves.
_SIGNALS = {*_STOPS, signal.SIGCHLD, signal.SIGUSR1}

_LOGGER = logging.getLogger(__name__)


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker knows of itself."""

    #: From 1.
    number: int
    #: Whether no worker has served before it.
    is_first: bool
    #: A folder that the workers share.
    folder: Path
    #: The process of the supervisor, and a pipe that ends when it does.
    supervisor: int
    lifeline: int

    @property
    def speaks_for_all(self) -> bool:
        """Whether it shows what all workers would show the same, such as figures of the log."""
        return self.number == 1

    def ready(self) -> None:
        """Tell the supervisor that this worker serves."""
        if os.getppid() == self.supervisor:
            os.kill(self.supervisor, signal.SIGUSR1)


class _Slot:
    """The place of a worker, and its process, if it has one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: int | None = None
        self.started = 0.0
        #: When to start the next process.
        self.due = 0.0
        self._short_lives = 0

    def ended(self, now: float) -> float:
        """Note that the process has ended; return the seconds until the next one starts."""
        self.process = None
        self._short_lives = self._short_lives + 1 if now - self.started < SHORT_LIFE_SECONDS else 0
        delay = FIRST_DELAY_SECONDS * 2 ** (self._short_lives - 1) if self._short_lives else 0.0
        self.due = now + min(delay, LAST_DELAY_SECONDS)
        return self.due - now


class Supervisor:
    """Runs workers until SIGTERM or SIGINT."""

    def __init__(
        self,
        run: Callable[[Worker], None],
        *,
        number: int,
        stopping: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``run`` is what each of ``number`` workers does; ``stopping`` is called before they end.

        ``clock`` is monotonic.
        """
        self._run_worker = run
        self._stopping = stopping
        self._slots = [_Slot(each) for each in range(1, number + 1)]
        self._clock = clock
        self._served = False
        #: Ends in every worker when this process does.
        self._lifeline, self._life = os.pipe()
        #: Why a worker could not start.
        self._reasons, self._reason = os.pipe()
        os.set_blocking(self._reasons, False)

    def run(self) -> None:
        """Run the workers. Raises OperatorError when the first cannot start."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        with tempfile.TemporaryDirectory(prefix="deploylog-") as folder:
            self._folder = Path(folder)
            try:
                self._supervise()
            finally:
                self._stopping()
                self._stop()

    def _supervise(self) -> None:
        # One alone at first: it migrates the store, or says why it cannot start.
        self._start(self._slots[0])
        while (received := self._next_signal()) not in _STOPS:
            if received == signal.SIGUSR1:
                self._served = True
            self._reap()
            self._start_due()

    def _next_signal(self) -> int | None:
        """Wait for a signal, or until a worker is due."""
        due = [slot.due for slot in self._waiting()]
        if not due:
            return signal.sigwaitinfo(_SIGNALS).si_signo
        found = signal.sigtimedwait(_SIGNALS, max(min(due) - self._clock(), 0.001))
        return found.si_signo if found is not None else None

    def _waiting(self) -> list[_Slot]:
        """The places without a process, once a first worker serves."""
        return [slot for slot in self._slots if slot.process is None and self._served]

    def _start_due(self) -> None:
        for slot in self._waiting():
            if slot.due <= self._clock():
                self._start(slot)

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.process is None:
                continue
            process, status = os.waitpid(slot.process, os.WNOHANG)
            if process:
                self._ended(slot, process, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: _Slot, process: int, code: int) -> None:
        if not self._served:
            slot.process = None
            raise self._refusal(code)
        delay = slot.ended(self._clock())
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        _LOGGER.warning(
            "worker %d (process %d) %s; starting it again %s",
            slot.number, process, how, f"in {delay:g} s" if delay else "now",
        )  # fmt: skip

    def _refusal(self, code: int) -> BaseException:
        """Why the first worker did not start."""
        try:
            return OperatorError(os.read(self._reasons, 1 << 16).decode())
        except BlockingIOError:
            return SystemExit(code if code >= 0 else 128 - code)

    def _start(self, slot: _Slot) -> None:
        slot.started = self._clock()
        worker = Worker(
            number=slot.number,
            is_first=not self._served,
            folder=self._folder,
            supervisor=os.getpid(),
            lifeline=self._lifeline,
        )
        process = os.fork()
        if process == 0:
            self._work(worker)
        slot.process = process

    def _work(self, worker: Worker) -> None:
        """What the new process does to its end."""
        code = 1
        try:
            os.close(self._life)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            # Ctrl-C reaches every process of the terminal; the supervisor tells the workers.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._run_worker(worker)
            code = 0
        except DeploylogError as error:
            self._say_why(worker, error)
        except BaseException:
            traceback.print_exc()
        finally:
            # Nothing of the supervisor's is closed or deleted here.
            os._exit(code)

    def _say_why(self, worker: Worker, error: DeploylogError) -> None:
        if worker.is_first:
            os.write(self._reason, error.message.encode())
        else:
            _LOGGER.error("worker %d cannot start: %s", worker.number, error.message)

    def _stop(self) -> None:
        """Let the workers drain, and wait for them; a second signal kills them."""
        self._kill(signal.SIGTERM)
        end = self._clock() + STOP_SECONDS
        while any(slot.process for slot in self._slots):
            found = signal.sigtimedwait(_SIGNALS, max(end - self._clock(), 0.001))
            if found is None or found.si_signo in _STOPS:
                _LOGGER.warning("killing the workers: they have not ended yet")
                self._kill(signal.SIGKILL)
                end = self._clock() + STOP_SECONDS
            self._forget_ended()

    def _kill(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.process is not None:
                os.kill(slot.process, number)

    def _forget_ended(self) -> None:
        for slot in self._slots:
            if slot.process is not None and os.waitpid(slot.process, os.WNOHANG)[0]:
                slot.process = None
