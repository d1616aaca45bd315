"""The same sync against every kind of registry, as source and as target: what arrives, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.personalities.matrix import Cell, Role, Scenario, cells

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.personalities.registry import Personality

pytestmark = pytest.mark.untraced


def _name(cell: tuple[type[Personality], Role, tuple[Scenario, ...]]) -> str:
    personality, role, course = cell
    return f"{personality.title}-{role}-{course[0]}".replace(" ", "-")


@pytest.mark.parametrize(("personality", "role", "course"), cells(), ids=map(_name, cells()))
async def test_a_sync(personality: type[Personality], role: Role, course: tuple[Scenario, ...], tmp_path: Path) -> None:
    """All arrives bit by bit, within the budget of requests, and no rule of the protocol or of secrecy is broken."""
    for outcome in await Cell(personality, role, tmp_path).play(course):
        assert not outcome.problems, outcome.scenario
        assert not outcome.over, outcome.scenario
