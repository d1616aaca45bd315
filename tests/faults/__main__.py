"""Print the fault matrix: each fault at each step, what came of it, and how many cells were played.

python -m tests.faults            all of them
python -m tests.faults 429        the rows that have this in their name
python -m tests.faults --page     nothing is played: docs/fault-matrix.md is written as things are stated
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults import table
from tests.faults.connecting import CONNECTING
from tests.faults.matrix import play
from tests.faults.rows import cells

if TYPE_CHECKING:
    from tests.faults.matrix import Played
    from tests.support.personalities.history import Step


def _shown(played: Played) -> str:
    return "RED" if played.problems else table.shown(played.outcome)


def _matrix(wanted: str) -> tuple[int, int, int]:
    """Play the cells and print them; return their number, that of the red ones, and that of the faults."""
    rows: dict[str, dict[Step, Played]] = {}
    red: list[tuple[str, Played]] = []
    for cell in cells():
        if wanted not in cell.name.lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            played = play(cell, Path(folder))
        rows.setdefault(cell.row.heading, {})[cell.step] = played
        if played.problems:
            red.append((cell.name, played))
    texts = {title: {step: _shown(played) for step, played in row.items()} for title, row in rows.items()}
    sys.stdout.write("\n".join([*table.lines(texts), ""]))
    for name, played in red:
        sys.stdout.write("\n".join([f"\n{name}:", *(f"  {text}" for text in played.problems[:8]), ""]))
    played_cells = [played for row in rows.values() for played in row.values()]
    return len(played_cells), len(red), sum(played.struck for played in played_cells)


def _connecting(wanted: str) -> tuple[int, int]:
    """Play what goes wrong before there is an exchange, and print it."""
    count = red = 0
    for case in CONNECTING:
        if wanted not in f"{case.step} {case.title}".lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            played = case.play(Path(folder))
        count, red = count + 1, red + bool(played.problems)
        sys.stdout.write(f"{table.line(case.step, case.title, _shown(played))}\n")
        sys.stdout.writelines(f"  {text}\n" for text in played.problems)
    return count, red


def main() -> int:
    """Play everything; the exit code is the number of cells that are not as they should be, up to 100."""
    logging.getLogger("aiohttp.server").disabled = True
    if sys.argv[1:] == ["--page"]:
        table.PAGE.write_text(table.page(table.PAGE.read_text()))
        return 0
    wanted = " ".join(sys.argv[1:]).lower()
    number, red, faults = _matrix(wanted)
    sys.stdout.write("\n")
    more, more_red = _connecting(wanted)
    counts = f"{number + more} cells, {faults} faults of exchanges, {red + more_red} cells RED."
    sys.stdout.write(f"\n{table.LEGEND}\n{counts}\n")
    return min(red + more_red, 100)


if __name__ == "__main__":
    sys.exit(main())
