"""A store that nobody observes."""


class Unobserved:
    """A ``CommitObserver`` that ignores everything."""

    def committed(self, seconds: float, events: int) -> None:
        """Not measured."""

    def damaged(self, reason: str) -> None:
        """Suites look for damage themselves."""

    def rows_read(self, rows: int, *, in_vain: int) -> None:
        """Not measured."""
