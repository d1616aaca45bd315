"""Every fault at every step: what is stated of it is what comes of it, and no invariant is broken."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest

from tests.faults.connecting import CONNECTING, Connecting
from tests.faults.matrix import STEPS, Cell, play
from tests.faults.rows import cells

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.untraced

CELLS = cells()
#: Of so many cells one is played every day, by its name: the same ones each time, and all under ``make torture``.
_SHARE = 9


def _is_daily(cell: Cell) -> bool:
    return zlib.crc32(cell.name.encode()) % _SHARE == 0


DAILY = [cell for cell in CELLS if _is_daily(cell)]


@pytest.mark.parametrize("cell", DAILY, ids=lambda cell: cell.name)
def test_a_cell(cell: Cell, tmp_path: Path) -> None:
    """The run converges, or ends with the error and the exit code that the cell states."""
    assert not play(cell, tmp_path).problems


@pytest.mark.torture
@pytest.mark.parametrize("cell", [cell for cell in CELLS if not _is_daily(cell)], ids=lambda cell: cell.name)
def test_the_other_cells(cell: Cell, tmp_path: Path) -> None:
    """The run converges, or ends with the error and the exit code that the cell states."""
    assert not play(cell, tmp_path).problems


@pytest.mark.parametrize("case", CONNECTING, ids=lambda case: case.title)
def test_connecting(case: Connecting, tmp_path: Path) -> None:
    """Names, connections and TLS that fail: once they are made up for, and for ever they are the host's end."""
    assert not case.play(tmp_path).problems


def test_every_step_is_there() -> None:
    """No step of the protocol is without faults, among those of every day as well; no two cells have one name."""
    assert {cell.step for cell in DAILY} == set(STEPS)
    assert len({cell.name for cell in CELLS}) == len(CELLS)
