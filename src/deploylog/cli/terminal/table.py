"""A listing: rows in columns, of which a narrow terminal shows the most important ones."""

from collections.abc import Sequence

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: The narrowest column in which a longer word may be broken.
_BREAKABLE = 32

#: Spaces between columns.
_GAP = 2


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column."""

    name: str
    #: When columns do not fit, the one with the highest rank is left out first; 0 always stays.
    rank: int
    #: Whether a cell may wrap between words.
    wraps: bool = False


class Listing:
    """Rows of cells, one cell per column."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[tuple[Text, ...]] = []

    def add(self, *cells: str | Text) -> None:
        self._rows.append(tuple(c if isinstance(c, Text) else Text(c) for c in cells))

    def print(self, console: Console, *, wide: bool = False) -> None:
        """Print it; unless it is ``wide``, without columns that do not fit on a terminal."""
        fits = console.is_terminal and not wide
        widths = self._fitting_widths(console.width) if fits else self._full_widths()
        # A column that always stays is not cut: the terminal breaks the line.
        console.width = max(console.width, _total(widths))
        console.print(self._table(widths))

    def _full_widths(self) -> dict[int, int]:
        return {index: self._max_width(index) for index in range(len(self._columns))}

    def _fitting_widths(self, width: int) -> dict[int, int]:
        """Return the width of each column that fits into ``width``.

        A column without any value is left out before others are.
        """
        columns = range(len(self._columns))
        widths = self._widths_of(columns, width)
        if len(widths) < len(columns):
            return self._widths_of([index for index in columns if self._has_value(index)], width)
        return widths

    def _widths_of(self, columns: Sequence[int], width: int) -> dict[int, int]:
        """Return the width of each of the columns for which there is room in ``width``."""
        ranked = sorted(columns, key=lambda index: self._columns[index].rank)
        widths: dict[int, int] = {}
        for index in ranked:
            minimum = self._min_width(index, room=width - _total(widths | {index: 0}))
            if minimum is not None:
                widths[index] = minimum
        for index in list(widths):
            spare = max(width - _total(widths), 0)
            widths[index] += min(spare, self._max_width(index) - widths[index])
        return widths

    def _has_value(self, index: int) -> bool:
        """Whether the column always stays, or a row has something in it."""
        return self._columns[index].rank == 0 or any(row[index].plain for row in self._rows)

    def _min_width(self, index: int, *, room: int) -> int | None:
        """Return the width that the column needs; ``None`` if there is no room for it."""
        column = self._columns[index]
        needed = self._longest_word(index) if column.wraps else self._max_width(index)
        if needed <= room or column.rank == 0:
            return needed
        return _BREAKABLE if column.wraps and min(room, needed) >= _BREAKABLE else None

    def _longest_word(self, index: int) -> int:
        words = (word for cell in self._cells(index) for word in cell.split())
        return max(map(cell_len, words), default=0)

    def _max_width(self, index: int) -> int:
        """Return the width of the longest line."""
        lines = (line for cell in self._cells(index) for line in cell.splitlines())
        return max(map(cell_len, lines), default=0)

    def _cells(self, index: int) -> Sequence[str]:
        return [self._columns[index].name, *(row[index].plain for row in self._rows)]

    def _table(self, widths: dict[int, int]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        shown = sorted(widths)
        for index in shown:
            table.add_column(self._columns[index].name, width=widths[index], overflow="fold")
        for row in self._rows:
            table.add_row(*(row[index] for index in shown))
        return table


def _total(widths: dict[int, int]) -> int:
    """Return the width of a row."""
    return sum(widths.values()) + _GAP * max(len(widths) - 1, 0)
