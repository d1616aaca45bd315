"""The same sync against every kind of registry, as source and as target: what arrives, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.personalities.matrix import Cell, Role, Scenario, cells

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.personalities.registry import Personality

pytestmark = pytest.mark.untraced


def _name(cell: tuple[type[Personality], Role, Scenario]) -> str:
    personality, role, scenario = cell
    return f"{personality.title}-{role}-{scenario}".replace(" ", "-")


@pytest.mark.parametrize(("personality", "role", "scenario"), cells(), ids=map(_name, cells()))
async def test_a_sync(personality: type[Personality], role: Role, scenario: Scenario, tmp_path: Path) -> None:
    """All arrives bit by bit, within the budget of requests, and no rule of the protocol or of secrecy is broken."""
    outcome = await Cell(personality, role, tmp_path).play(scenario)
    assert not outcome.problems
    assert not outcome.over
