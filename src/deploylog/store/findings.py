"""Findings of a verification: reported one by one, and mended together at its end."""

from collections.abc import Callable

from deploylog.store.contract import Finding

Mend = Callable[[], object]


class Findings:
    """What a verification has found so far."""

    def __init__(self, found: Callable[[Finding], None], *, mends: bool) -> None:
        """``found`` is called with each; with ``mends``, what is derived is to be made again."""
        self._found = found
        self._mends = mends
        self._pending: dict[tuple[str, str], Mend] = {}
        self.count = self.mended = 0

    def add(self, part: str, where: object, what: str, mend: Mend | None = None) -> None:
        """Report a finding; ``mend`` makes right everything that is found there."""
        is_mended = self._mends and mend is not None
        if is_mended and mend is not None:
            self._pending.setdefault((part, str(where)), mend)
        self.count += 1
        self.mended += is_mended
        self._found(Finding(part=part, where=str(where), what=what, mended=is_mended))

    def mend(self) -> None:
        """Mend what can be mended, in the order in which it was found."""
        for mend in self._pending.values():
            mend()
