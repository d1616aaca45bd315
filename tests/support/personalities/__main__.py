"""Print the matrix: personality, role, scenario, requests beside the budget, and what came of it."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.personalities.matrix import Outcome, Pair, Role, courses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.personalities.matrix import Scenario
    from tests.support.personalities.registry import Personality

#: In the order of the scenarios.
_TITLES = ("first", "no-op", "changed", "again")
_WIDTHS = (15, 17, 12, 12, 12, 12)
_LEGEND = "Requests to the personality / budget, challenges and hops among them. 'again' is the run after a stop."


async def _play(personality: type[Personality], role: Role, course: Sequence[Scenario]) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        return await Pair(personality, role, Path(folder)).play(course)


def _shown(outcome: Outcome) -> str:
    return f"{outcome.spent}/{outcome.allowed}{' RED' if outcome.is_red else ''}"


def _line(texts: Sequence[str]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(texts, _WIDTHS, strict=False)).rstrip()


def _told(red: Sequence[Outcome]) -> Iterator[str]:
    for outcome in red:
        yield f"\n{outcome.personality}, {outcome.role}, {outcome.scenario}:"
        yield from (f"  {problem}" for problem in outcome.problems[:8])
        yield from (f"  over budget: {kind} {text}" for kind, text in outcome.over.items())


def main() -> int:
    """Play every cell; the exit code is the number of those that are not as they should be, up to 100."""
    logging.getLogger("aiohttp.server").disabled = True
    wanted = " ".join(sys.argv[1:]).lower()
    rows: dict[tuple[str, str], list[Outcome]] = {}
    for personality, role, course in courses():
        if wanted in ("", personality.title.lower()):
            is_refused = role is Role.TARGET and personality.is_pull_only
            row = rows.setdefault((personality.title, "target (refused)" if is_refused else str(role)), [])
            row += asyncio.run(_play(personality, role, course))
    outcomes = [outcome for row in rows.values() for outcome in row]
    red = [outcome for outcome in outcomes if outcome.is_red]
    lines = [("personality", "role", *_TITLES), *((*name, *map(_shown, row)) for name, row in rows.items())]
    summary = f"{len(outcomes)} cells, {len(red)} of them not as they should be."
    sys.stdout.write("\n".join([*map(_line, lines), "", _LEGEND, summary, *_told(red), ""]))
    return min(len(red), 100)


if __name__ == "__main__":
    sys.exit(main())
