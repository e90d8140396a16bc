"""A map with a limit: once its entries exceed it, the oldest are dropped."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _one(value: object) -> int:
    return 1


class BoundedMap(Generic[_Key, _Value]):
    """Entries in the order in which they were put."""

    def __init__(self, limit: int, *, weigh: Callable[[_Value], int] = _one) -> None:
        """The values weigh ``limit`` at most together; without ``weigh`` each weighs 1.

        A value must weigh the same for as long as it is in the map.
        """
        self._limit = limit
        self._weigh = weigh
        self._weight = 0
        self._entries: dict[_Key, _Value] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._entries)

    def __contains__(self, key: _Key) -> bool:
        return key in self._entries

    def get(self, key: _Key) -> _Value | None:
        return self._entries.get(key)

    def oldest(self) -> tuple[_Key, _Value] | None:
        return next(iter(self._entries.items()), None)

    def put(self, key: _Key, value: _Value) -> list[_Key]:
        """Make it the newest entry, and return the keys that were dropped for it.

        A value that weighs more than the limit is dropped, too.
        """
        self.drop(key)
        self._entries[key] = value
        self._weight += self._weigh(value)
        dropped = []
        while self._weight > self._limit:
            oldest = next(iter(self._entries))
            self.drop(oldest)
            dropped.append(oldest)
        return dropped

    def drop(self, key: _Key) -> None:
        """Drop the entry, if there is one."""
        if key in self._entries:
            self._weight -= self._weigh(self._entries.pop(key))

    def clear(self) -> None:
        self._entries.clear()
        self._weight = 0
