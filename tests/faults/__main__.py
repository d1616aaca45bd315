"""Print the fault matrix: each fault at each step, what came of it, and how many cells were played.

python -m tests.faults            all of them
python -m tests.faults 429        the rows that have this in their name
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.connecting import CONNECTING
from tests.faults.matrix import CONVERGES, STEPS, play
from tests.faults.rows import cells
from tests.support.personalities.history import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.matrix import Played

_COLUMNS = {
    Step.TOKEN: "tok",
    Step.TAGS: "tags",
    Step.MANIFEST_HEAD: "mHEAD",
    Step.MANIFEST_GET: "mGET",
    Step.REFERRERS: "refs",
    Step.BLOB_GET: "bGET",
    Step.STORAGE: "redir",
    Step.POST: "POST",
    Step.MOUNT: "mount",
    Step.PATCH: "PATCH",
    Step.PUT: "PUT",
    Step.STATUS: "stat",
    Step.BLOB_HEAD: "bHEAD",
    Step.ABORT: "DEL",
    Step.MANIFEST_PUT_DIGEST: "mPUT@",
    Step.MANIFEST_PUT_TAG: "mPUT:",
}
_LEGEND = (
    "ok: converges. A number: ends with that exit code, as stated for the cell, and the run after it converges. "
    "RED: something else. bGET: a blob from the registry; redir: from where it redirects; stat: GET of an upload; "
    "DEL: DELETE of one; mPUT@ and mPUT: are manifests by digest and by tag."
)


def _shown(played: Played) -> str:
    if played.problems:
        return "RED"
    return "ok" if played.outcome == CONVERGES else str(played.outcome.code)


def _lines(rows: dict[str, dict[Step, Played]]) -> Iterator[str]:
    width = max(map(len, rows), default=0)
    yield " ".join([" " * width, *(title.rjust(5) for title in _COLUMNS.values())])
    for title, row in rows.items():
        shown = [_shown(row[step]) if step in row else "." for step in STEPS]
        yield " ".join([title.ljust(width), *(text.rjust(5) for text in shown)])


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
    sys.stdout.write("\n".join([*_lines(rows), ""]))
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
        sys.stdout.write(f"{case.step:8}{case.title:68}{_shown(played)}\n")
        sys.stdout.writelines(f"  {text}\n" for text in played.problems)
    return count, red


def main() -> int:
    """Play everything; the exit code is the number of cells that are not as they should be, up to 100."""
    logging.getLogger("aiohttp.server").disabled = True
    wanted = " ".join(sys.argv[1:]).lower()
    number, red, faults = _matrix(wanted)
    sys.stdout.write("\n")
    more, more_red = _connecting(wanted)
    sys.stdout.write(f"\n{_LEGEND}\n{number + more} cells, {faults} faults of exchanges, {red + more_red} cells RED.\n")
    return min(red + more_red, 100)


if __name__ == "__main__":
    sys.exit(main())
