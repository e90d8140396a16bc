"""A listing: rows in columns, of which a narrow screen shows those that matter most."""

from collections.abc import Sequence

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Where longer words than this do not fit, they are broken.
_BREAKABLE = 32


#: Blanks between columns.
_GAP = 2


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column."""

    name: str
    #: Of columns that do not fit, the one with the highest rank goes first; 0 always stays.
    rank: int
    #: Whether a cell may take several lines, broken between words.
    wraps: bool = False


class Listing:
    """Rows of cells, one for each column."""

    def __init__(self, *columns: Column) -> None:
        """Begin without rows."""
        self._columns = columns
        self._rows: list[tuple[Text, ...]] = []

    def add(self, *cells: str | Text) -> None:
        """Add a row."""
        self._rows.append(tuple(c if isinstance(c, Text) else Text(c) for c in cells))

    def print(self, console: Console) -> None:
        """Print it: whole, unless a terminal is too narrow."""
        widths = self._fitting(console.width) if console.is_terminal else self._whole()
        # What always stays is not cut either: the terminal breaks the line.
        console.width = max(console.width, _total(widths))
        console.print(self._table(widths))

    def _whole(self) -> dict[int, int]:
        return {index: self._most(index) for index in range(len(self._columns))}

    def _fitting(self, width: int) -> dict[int, int]:
        """The columns that fit into ``width``, and how wide each is."""
        ranked = sorted(range(len(self._columns)), key=lambda index: self._columns[index].rank)
        widths: dict[int, int] = {}
        for index in ranked:
            least = self._least(index, room=width - _total(widths | {index: 0}))
            if least is not None:
                widths[index] = least
        for index in list(widths):
            spare = max(width - _total(widths), 0)
            widths[index] += min(spare, self._most(index) - widths[index])
        return widths

    def _least(self, index: int, *, room: int) -> int | None:
        """The width that the column needs; ``None`` if there is no room for it."""
        column = self._columns[index]
        whole = self._longest_word(index) if column.wraps else self._most(index)
        if whole <= room or column.rank == 0:
            return whole
        return _BREAKABLE if column.wraps and min(room, whole) >= _BREAKABLE else None

    def _longest_word(self, index: int) -> int:
        words = (word for cell in self._cells(index) for word in cell.split())
        return max(map(cell_len, words), default=0)

    def _most(self, index: int) -> int:
        """The width of the longest line."""
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
    """The width of a row."""
    return sum(widths.values()) + _GAP * max(len(widths) - 1, 0)
