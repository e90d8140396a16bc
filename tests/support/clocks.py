"""Clocks that stand still until they are told to go on."""


class Clock:
    """Seconds, from wherever it began."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class WallClock:
    """ns since 1970."""

    def __init__(self, seconds: int) -> None:
        self.ns = seconds * 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    @property
    def seconds(self) -> int:
        return self.ns // 1_000_000_000

    def advance(self, seconds: float) -> None:
        self.ns += int(seconds * 1_000_000_000)
