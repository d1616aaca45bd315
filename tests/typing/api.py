"""How a program uses Syncer; run by nobody, read by the type checker."""

from __future__ import annotations

from pathlib import Path

import anyio

from syncer import Event, Observer, Plan, Report, Spec, Surroundings, SyncerError, load_spec, plan_spec, run_spec


class Counting:
    """An observer needs one method, and no base class."""

    def __init__(self) -> None:
        self.count = 0

    def notify(self, event: Event) -> None:
        """Count the event."""
        self.count += 1


async def nightly(spec_file: Path) -> int:
    """Run a spec and return how many tags failed."""
    here: Surroundings = Surroundings.of_process()
    spec: Spec = load_spec(spec_file, here.environ)
    observer: Observer = Counting()
    try:
        report: Report = await run_spec(spec, surroundings=here, observers=[observer], retry_failed=True)
    except SyncerError as error:
        text: str = error.paragraph()
        raise SystemExit(text) from None
    plan: Plan
    plan, _ = await plan_spec(spec, surroundings=here)
    return len(report.failures) + len(plan.due)


def main() -> int:
    """Start a loop of one's own."""
    return anyio.run(nightly, Path("mirror.yaml"))
