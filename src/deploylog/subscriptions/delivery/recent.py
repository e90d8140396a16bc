"""A mapping of bounded size."""

from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class RecentDict(dict[_Key, _Value]):
    """Remembers the entries set last, at most ``max_size`` of them."""

    def __init__(self, max_size: int) -> None:
        super().__init__()
        self._max_size = max_size

    def __setitem__(self, key: _Key, value: _Value) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > self._max_size:
            del self[next(iter(self))]
