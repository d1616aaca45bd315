"""Runs random scenarios for a time, and counts what happened in them.

    python -m tests.faults.stateful --minutes 30 [--seed 1]

Each violation is written to a file that ``python -m tests.faults.replay`` takes. The exit code is 1 when
there was one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.stateful.machine import Worlds, search

if TYPE_CHECKING:
    from collections import Counter

    from tests.faults.stateful.scenario import Tally, Violated

#: Scenarios between two looks at the clock.
_BATCH = 25


def summary(tally: Tally, violations: int, minutes: float) -> str:
    """Return what was gone through."""
    strikes = sorted(tally.faults.items(), key=lambda kind: (-kind[1], kind[0]))
    whole = f"{tally.scenarios} scenarios, {tally.runs.total()} runs, {tally.requests} requests"
    lines = [
        f"{minutes:.1f} minutes: {whole}, {tally.faults.total()} faults of {len(tally.faults)} kinds",
        f"violations: {violations}",
        f"runs: {_counted(tally.runs)}",
        f"tags: {_counted(tally.tags)}; {tally.recorded} by the record",
        "faults:",
        *(f"  {count:7}  {kind}" for kind, count in strikes),
    ]
    return "\n".join(lines)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _keep(violated: Violated, folder: Path, number: int) -> None:
    path = folder / f"violation-{number}.py"
    path.write_text(f"{violated.script}\n", encoding="utf-8")
    sys.stdout.write(f"{violated}\n\npython -m tests.faults.replay {path}\n\n")
    sys.stdout.flush()


def main() -> int:
    """Read the command line, run, and print the summary."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.stateful", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long, at least")
    parser.add_argument("--seed", type=int, default=1, help="of the first scenarios")
    parser.add_argument("--steps", type=int, default=10, help="how many steps a scenario has at most")
    parser.add_argument("--folder", type=Path, default=Path(), help="where scripts of violations are put")
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True
    began = time.monotonic()
    seed, found, tally = given.seed, 0, None
    while tally is None or time.monotonic() - began < given.minutes * 60:
        batch = search(_BATCH, seed=seed, steps=given.steps, is_patient=True)
        tally = batch if tally is None else tally.plus(batch)
        for violated in Worlds.violations:
            found += 1
            _keep(violated, given.folder, found)
        seed += 1
    sys.stdout.write(f"{summary(tally, found, (time.monotonic() - began) / 60)}\n")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
