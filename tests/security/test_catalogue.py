"""The security catalogue: each attack is defended against, and would succeed if the one defence were gone."""

from __future__ import annotations

import importlib
import traceback
from typing import TYPE_CHECKING

import pytest

from tests.security.catalogue import ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.stage import Row

pytestmark = pytest.mark.untraced

_NAMES = [row.name for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=_NAMES)
async def test_is_defended(row: Row, tmp_path: Path) -> None:
    """The attack yields nothing, and ends in the error that it should end in."""
    outcome = await row.attack(tmp_path)
    assert not outcome.loot
    if row.refusal is None:
        assert outcome.error is None, outcome.error
    else:
        assert isinstance(outcome.error, row.refusal), repr(outcome.error)
        assert outcome.error.message
        assert "canary" not in "".join(traceback.format_exception(outcome.error))


@pytest.mark.undefended
@pytest.mark.parametrize("row", ROWS, ids=_NAMES)
async def test_would_succeed_without_the_defence(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the defence switched off, and only it, the same attack succeeds."""
    row.switch_off(monkeypatch)
    outcome = await row.attack(tmp_path)
    assert outcome.loot, f"nothing was lost; {outcome.error!r}"


@pytest.mark.parametrize("row", ROWS, ids=_NAMES)
def test_the_defence_is_there(row: Row) -> None:
    """The function that a row names exists."""
    parts = row.defence.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return
    pytest.fail(f"there is no {row.defence}")


def test_every_row_of_the_catalogue_is_there() -> None:
    """S1 to S17, each at least once, and no name twice."""
    assert len(set(_NAMES)) == len(_NAMES)
    assert {f"S{number}" for number in range(1, 18)} == {name.partition("-")[0] for name in _NAMES}
