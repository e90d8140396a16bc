"""A semaphore that serves its callers in turn, each up to its share."""

import asyncio
from collections import Counter, deque


class FairSemaphore:
    """A limited amount, of which a caller may hold a share, and for which callers wait in turn.

    A caller with many requests waits behind its own only: waiting callers are served round robin,
    one request each.
    """

    def __init__(self, total: int, *, share: int) -> None:
        """One caller may hold at most ``share`` of ``total``."""
        self._free = self._total = total
        self._share = share
        self._held: Counter[str] = Counter()
        #: By caller, in the order of their turns.
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}

    @property
    def in_use(self) -> int:
        """The amount that callers hold."""
        return self._total - self._free

    def is_full(self, caller: str) -> bool:
        """Whether ``caller`` holds its share."""
        return self._held[caller] >= self._share

    async def acquire(self, caller: str, amount: int = 1) -> int:
        """Wait for ``amount``, at most a share, and return what to ``release``."""
        amount = min(amount, self._share)
        if not self._waiting and self._fits(caller, amount):
            self._grant(caller, amount)
            return amount
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append((amount, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(caller, amount)
            else:
                self._withdraw(caller, turn)
            raise
        return amount

    def try_acquire(self, caller: str, amount: int = 1) -> int:
        """Acquire without waiting: 0 when there is not enough, or other callers wait."""
        amount = min(amount, self._share)
        if self._waiting or not self._fits(caller, amount):
            return 0
        self._grant(caller, amount)
        return amount

    def release(self, caller: str, amount: int = 1) -> None:
        self._free += amount
        self._held[caller] -= amount
        if not self._held[caller]:
            del self._held[caller]
        self._serve()

    def _fits(self, caller: str, amount: int) -> bool:
        return amount <= self._free and self._held[caller] + amount <= self._share

    def _grant(self, caller: str, amount: int) -> None:
        self._free -= amount
        self._held[caller] += amount

    def _serve(self) -> None:
        """Grant what can be granted, one request of each caller in turn."""
        is_granted = True
        while is_granted and self._waiting:
            is_granted = False
            for caller in list(self._waiting):
                if not self._is_waiting(caller):
                    continue
                amount, turn = self._waiting[caller][0]
                if self._held[caller] + amount > self._share:
                    continue
                if amount > self._free:
                    # Small requests of others must not starve a large one.
                    break
                self._grant(caller, amount)
                self._rotate(caller)
                turn.set_result(None)
                is_granted = True

    def _is_waiting(self, caller: str) -> bool:
        """Whether a request of the caller waits.

        A cancelled request leaves in the next iteration of the event loop; until then it must not
        be granted anything.
        """
        requests = self._waiting[caller]
        while requests and requests[0][1].cancelled():
            requests.popleft()
        if not requests:
            del self._waiting[caller]
        return bool(requests)

    def _rotate(self, caller: str) -> None:
        """Move the caller's next request behind every other caller."""
        requests = self._waiting.pop(caller)
        requests.popleft()
        if requests:
            self._waiting[caller] = requests

    def _withdraw(self, caller: str, turn: asyncio.Future[None]) -> None:
        requests = self._waiting.get(caller, deque())
        others = deque(each for each in requests if each[1] is not turn)
        if others:
            self._waiting[caller] = others
        else:
            self._waiting.pop(caller, None)
        self._serve()
