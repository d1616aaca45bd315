"""Columns of text and numbers, for terminals of any width and for pipes.

On a terminal a grid is a rich table, without the columns that do not fit. Anywhere else it is plain
ASCII without colours, complete and never cut: what reads a pipe can search for a whole name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console

#: What a rich table adds to each column of a grid, and to the whole.
_PADDING = 3
#: A name may be folded down to this width before a whole column is left out.
_NARROWEST_NAME = 24


@dataclass(frozen=True, slots=True)
class Pipe:
    """Where text goes that no terminal shows; without rich, which takes 12 ms to import."""

    stream: TextIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """Cells under a heading. Names are to the left and may be folded, numbers are to the right.

    Where space is short the columns of the highest ``rank`` are left out first, those of rank 0 never.
    """

    heading: str
    cells: tuple[str, ...]
    rank: int = 0
    is_name: bool = False

    @property
    def width(self) -> int:
        """The characters of the widest cell or the heading."""
        return max(len(self.heading), *(len(cell) for cell in self.cells), 0)

    @property
    def least(self) -> int:
        """The characters it can do with."""
        return min(self.width, _NARROWEST_NAME) if self.is_name else self.width


def fit(columns: tuple[Column, ...], width: int) -> tuple[Column, ...]:
    """Return the columns that have space side by side in ``width`` characters."""
    kept = list(columns)
    while sum(column.least + _PADDING for column in kept) > width:
        last = max(kept, key=lambda column: column.rank)
        if last.rank == 0:
            break
        kept.remove(last)
    return tuple(kept)


def print_grid(columns: tuple[Column, ...], console: Console | Pipe) -> None:
    """Print ``columns`` side by side, in the way that suits ``console``."""
    if not isinstance(console, Pipe) and console.is_terminal:
        _print_table(fit(columns, console.width), console)
        return
    rows = zip(*((column.heading, *column.cells) for column in columns), strict=True)
    for row in rows:
        cells = (
            cell.ljust(column.width) if column.is_name else cell.rjust(column.width)
            for cell, column in zip(row, columns, strict=True)
        )
        print_line(console, "  ".join(cells).rstrip())


def print_line(console: Console | Pipe, text: str, *, style: str = "") -> None:
    """Print one line as it is. A long one is wrapped by the terminal; in a pipe it stays one line."""
    if isinstance(console, Pipe):
        console.stream.write(f"{text}\n")
        return
    console.print(text, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _print_table(columns: tuple[Column, ...], console: Console) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - rich is not imported until there is something to draw
    from rich.table import Table  # noqa: PLC0415 - same
    from rich.text import Text  # noqa: PLC0415 - same

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", safe_box=True)
    for column in columns:
        if column.is_name:
            table.add_column(column.heading, overflow="fold")
        else:
            table.add_column(column.heading, justify="right", no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell, style="dim" if cell in ("0", "-") else "") for cell in row))
    console.print(table)
