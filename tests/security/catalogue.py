"""Every row of the catalogue, in its order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.security import addresses, answers, content, folders, leaks, notes, origins

if TYPE_CHECKING:
    from tests.security.stage import Row


def _order(row: Row) -> tuple[int, str]:
    number = re.match(r"S(\d+)", row.name)
    assert number is not None
    return int(number[1]), row.name


ROWS: list[Row] = sorted(
    [*addresses.ROWS, *answers.ROWS, *content.ROWS, *folders.ROWS, *leaks.ROWS, *notes.ROWS, *origins.ROWS], key=_order
)
