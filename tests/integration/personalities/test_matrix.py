"""The same sync against every kind of registry, as source and as target: what arrives, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.personalities.matrix import Pair, Role, Scenario, courses

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.personalities.registry import Personality

pytestmark = pytest.mark.untraced


def _name(played: tuple[type[Personality], Role, tuple[Scenario, ...]]) -> str:
    personality, role, course = played
    return f"{personality.title}-{role}-{','.join(course)}".replace(" ", "-")


@pytest.mark.parametrize(("personality", "role", "course"), courses(), ids=map(_name, courses()))
async def test_syncs(personality: type[Personality], role: Role, course: tuple[Scenario, ...], tmp_path: Path) -> None:
    """All arrives bit by bit, within the budget of requests, and no rule of the protocol or of secrecy is broken."""
    outcomes = await Pair(personality, role, tmp_path).play(course)
    assert [outcome.scenario for outcome in outcomes] == list(course)
    assert not [(outcome.scenario, outcome.problems, outcome.over) for outcome in outcomes if outcome.is_red]
