"""The fault matrix as a table: what is stated for each fault at each step, or what came of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.connecting import CONNECTING
from tests.faults.matrix import CONVERGES, STEPS
from tests.faults.rows import cells
from tests.support.personalities.history import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.faults.matrix import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "fault-matrix.md"
_BLOCK = re.compile(r"(<!-- stated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
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
LEGEND = (
    "ok: converges. A number: ends with that exit code, as stated for the cell, and the run after it converges. "
    "RED: something else. bGET: a blob from the registry; redir: from where it redirects; stat: GET of an upload; "
    "DEL: DELETE of one; mPUT@ and mPUT: are manifests by digest and by tag."
)


def shown(outcome: Outcome) -> str:
    """Return what stands in a cell."""
    return "ok" if outcome == CONVERGES else str(outcome.code)


def lines(rows: Mapping[str, Mapping[Step, str]]) -> Iterator[str]:
    """Yield the table of exchanges; a dot is a fault that cannot happen there."""
    width = max(map(len, rows), default=0)
    yield " ".join([" " * width, *(title.rjust(5) for title in _COLUMNS.values())])
    for title, row in rows.items():
        yield " ".join([title.ljust(width), *(row.get(step, ".").rjust(5) for step in STEPS)])


def line(step: str, title: str, text: str) -> str:
    """Return the line of what goes wrong before there is an exchange."""
    return f"{step:8}{title:68}{text}"


def stated() -> dict[str, list[str]]:
    """Return the lines of both tables as they are to be: nothing is played."""
    rows: dict[str, dict[Step, str]] = {}
    for cell in cells():
        rows.setdefault(cell.row.heading, {})[cell.step] = shown(cell.expected)
    return {
        "exchanges": list(lines(rows)),
        "connections": [line(case.step, case.title, shown(case.outcome)) for case in CONNECTING],
    }


def page(text: str) -> str:
    """Return the text of docs/fault-matrix.md with its tables as they are stated now."""
    tables = stated()
    return _BLOCK.sub(lambda block: "\n".join([f"{block[1]}```text", *tables[block[2]], f"```\n{block[3]}"]), text)
