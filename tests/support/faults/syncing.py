"""Whole runs of Syncer between registries on an :class:`~tests.support.personalities.internet.Internet`."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from syncer.app.running import run_spec
from syncer.app.surroundings import Surroundings
from syncer.spec import parse_spec
from tests.support.faults.judging import Judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from syncer.events import Observer
    from syncer.telemetry.report import Report
    from tests.support.personalities.internet import Internet
    from tests.support.personalities.registry import Personality

#: Seconds since the epoch when the loop's clock is at zero.
EPOCH = 1_800_000_000.0


def surroundings(seed: object = 0) -> Surroundings:
    """Return an empty environment that lives by the running loop's clock, with randomness from ``seed``."""
    clock = asyncio.get_running_loop().time
    nowhere = Path("/nonexistent")
    return Surroundings(
        environ={},
        home=nowhere,
        etc=nowhere,
        clock=clock,
        wall_clock=lambda: EPOCH + clock(),
        random=random.Random(str(seed)).random,  # noqa: S311 - a test's
    )


def spec_of(registries: Mapping[str, Personality], *entries: str, more: Mapping[str, str] | None = None) -> str:
    """Return a spec with ``registries`` by key, what is ``more`` to say of each, and ``entries``.

    It can be made once the registries are served: it names their port.
    """
    lines = ["version: 1", "state: ./state.db", "registries:"]
    for key, registry in registries.items():
        login = registry.login
        secret = f", credentials: {{username: '{login.user}', password: '{login.password}'}}" if login.password else ""
        said = f", {(more or {})[key]}" if more and key in more else ""
        lines.append(f"  {key}: {{host: '{registry.address}', plain_http: true{secret}{said}}}")
    return "\n".join([*lines, "sync:", *(f"  - {{{entry}}}" for entry in entries)])


async def synced(
    internet: Internet,
    text: str,
    base: Path,
    *observers: Observer,
    seed: object = 0,
    is_rerun: bool = False,
    budget: int | None = None,
    **options: Any,
) -> Report:
    """Run the spec in ``text`` once, and judge it: what it breaks is among the violations of ``internet``.

    Args:
        internet: where its registries are.
        text: the spec, whose paths are relative to ``base``.
        base: a folder.
        observers: hear the run.
        seed: of Syncer's own randomness.
        is_rerun: nothing may be written.
        budget: requests that it may cost when nothing fails.
        options: of ``run_spec``.
    """
    spec = await to_thread.run_sync(lambda: parse_spec(text, file="spec.yaml", base=base, environ={}))
    judge = Judge(internet, spec)
    report: Report | None = None
    try:
        report = await run_spec(spec, surroundings=surroundings(seed), observers=(judge, *observers), **options)
    finally:
        verdict = await to_thread.run_sync(lambda: judge.verdict(report, is_rerun=is_rerun, budget=budget))
        internet.violations += map(str, verdict)
    return report


async def synced_between(
    internet: Internet,
    registries: Mapping[str, Personality],
    entries: Iterable[str],
    base: Path,
    *observers: Observer,
    **options: Any,
) -> Report:
    """Serve ``internet``, run ``entries`` between ``registries`` once, and stop serving."""
    async with internet.running():
        return await synced(internet, spec_of(registries, *entries), base, *observers, **options)
