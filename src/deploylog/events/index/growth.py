"""Growth: the segments of one process that are not sealed yet."""

from collections.abc import Iterable

from deploylog.events.index.segments import SEGMENT_SIZE, GrowingSegment, segment_of


class Growth:
    """The newest positions and their terms. One thread adds at a time; any may read."""

    def __init__(self, after: int) -> None:
        """Begin behind the position ``after``."""
        #: What is at or below this position was never added here.
        self.after = after
        #: The newest position that was added, or passed over because it holds nothing.
        self.fed = after
        #: In order. It is replaced, never changed: whoever has it may go on reading.
        self.segments: tuple[GrowingSegment, ...] = ()

    def add(self, position: int, time: int, terms: Iterable[str]) -> None:
        """Add the event of the next position; ``time`` is in ns."""
        number = segment_of(position)
        if not self.segments or self.segments[-1].number != number:
            self.segments = (*self.segments, GrowingSegment(number))
        self.segments[-1].add_terms(position % SEGMENT_SIZE, time, terms)
        self.fed = position

    def full(self) -> list[GrowingSegment]:
        """The segments to which nothing is added any more, in order."""
        return [segment for segment in self.segments if self.fed >= last_position(segment.number)]

    def drop_through(self, number: int) -> None:
        """Drop the segments up to ``number``, which others hold."""
        if self.segments and self.segments[0].number <= number:
            self.segments = tuple(each for each in self.segments if each.number > number)


def last_position(number: int) -> int:
    """The last position of a segment."""
    return (number + 1) * SEGMENT_SIZE - 1
