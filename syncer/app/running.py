"""Running a spec: state, registries, engine and report put together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from syncer.app.spec_places import SpecPlaces
from syncer.app.stopping import until
from syncer.app.ticking import beside
from syncer.engine.journal import MemoryJournal, ReadOnlyJournal
from syncer.engine.runs import SyncRun
from syncer.errors import SyncerError
from syncer.events import Observers, RunFinished, RunStarted, RunStatus, TagOutcome
from syncer.plan.document import Plan
from syncer.plan.records import Unresolved
from syncer.registry.unfinished import UnfinishedUploads
from syncer.telemetry.recorder import ReportObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from syncer.app.surroundings import Surroundings
    from syncer.engine.draining import Drain
    from syncer.engine.journal import Journal
    from syncer.events import Observer
    from syncer.plan.records import LearnedChallenge
    from syncer.spec.values import Spec
    from syncer.state.store import StateStore
    from syncer.telemetry.report import Report


async def run_spec(
    spec: Spec,
    *,
    surroundings: Surroundings,
    observers: Sequence[Observer] = (),
    recheck: bool = False,
    retry_failed: bool = False,
    stop: anyio.Event | None = None,
    drain: Drain | None = None,
    recorder: ReportObserver | None = None,
) -> Report:
    """Run every entry of ``spec`` once and return the report.

    Args:
        spec: what to do.
        surroundings: environment, home, credential file.
        observers: hear every event; those with a ``run`` method run beside.
        recheck: look at everything again, in-sync images included, and repair what is missing.
        retry_failed: look only at what failed, or was not reached, when it was looked at last.
        stop: when set, the run stops cleanly and the report says it was interrupted.
        drain: when begun, nothing more is; the report says it was interrupted, unless all was done all the same.
        recorder: accumulates the report, for who wants it although this raises.

    Raises:
        StateLocked: when another process is using the state file.
        SyncerError: when the state file or a registry's settings cannot be used; failures of single
            tags and repositories are in the report.
    """
    from syncer.state.store import StateStore  # noqa: PLC0415 - aiosqlite is slow to import, and not every command needs it

    recorder = recorder or ReportObserver()
    observer = Observers(recorder, *observers)
    if drain is not None:
        surroundings = replace(surroundings, sleep=drain.sleep)
    began = surroundings.clock()
    async with StateStore.open(spec.state, observer=observer) as state:
        run = await state.begin_run(spec.file)
        observer.notify(RunStarted(run=run, spec=spec.file, entries=len(spec.entries)))
        status = RunStatus.INTERRUPTED
        try:
            async with _places(spec, surroundings, observer, state) as places, beside(observers):
                only = Unresolved.of(await state.unresolved()) if retry_failed else None
                work = SyncRun(spec.entries, places, state, observer, run=run, recheck=recheck, only=only, drain=drain)
                if stop is None:
                    await work.execute()
                is_done = stop is None or await until(stop, work.execute)
            if is_done:
                # A run whose state is lost at the last moment has failed, and not ended well before it failed.
                await state.flush()
                status = _status(recorder.report(), is_drained=drain is not None and drain.has_begun)
        except SyncerError:
            # Settings or a state that cannot be used: nobody stopped this run, and the next one will not just go on.
            status = RunStatus.FAILED
            raise
        finally:
            observer.notify(RunFinished(run=run, status=status, seconds=surroundings.clock() - began))
            report = recorder.report()
            with anyio.CancelScope(shield=True):
                await state.finish_run(run, status, _summary(report))
    return report


async def plan_spec(
    spec: Spec, *, surroundings: Surroundings, observers: Sequence[Observer] = ()
) -> tuple[Plan, Report]:
    """Look at every tag of ``spec`` and return what is due, and a report that holds what could not be looked at.

    Nothing is written, neither to a registry nor to the state; the state is read when there is one.
    """
    recorder = ReportObserver()
    observer = Observers(recorder, *observers)
    began = surroundings.clock()
    observer.notify(RunStarted(run="", spec=spec.file, entries=len(spec.entries)))
    async with (
        _remembered(spec) as journal,
        SpecPlaces.open(spec, surroundings, observer) as places,
        beside(observers),
    ):
        actions = await SyncRun(spec.entries, places, journal, observer).plan()
    status = _status(recorder.report())
    observer.notify(RunFinished(run="", status=status, seconds=surroundings.clock() - began))
    return Plan.of(actions, spec=spec.file), recorder.report()


@asynccontextmanager
async def _places(
    spec: Spec, surroundings: Surroundings, observer: Observer, state: StateStore
) -> AsyncIterator[SpecPlaces]:
    """Open the registries of ``spec`` with what earlier runs have learned of them and left unfinished there."""
    known = await state.challenges()
    unfinished = UnfinishedUploads(state, await state.unfinished_uploads())
    async with (
        SpecPlaces.open(spec, surroundings, observer, learned=known, unfinished=unfinished) as places,
        _remembering(state, places, known),
    ):
        yield places


@asynccontextmanager
async def _remembering(state: StateStore, places: SpecPlaces, known: Sequence[LearnedChallenge]) -> AsyncIterator[None]:
    """Remember at the end of the block how the registries want to be asked, where that is not ``known``."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            for location, learned in places.learned().items():
                if learned and set(learned) != {one for one in known if one.location == location}:
                    await state.record_challenges(location, learned)


@asynccontextmanager
async def _remembered(spec: Spec) -> AsyncIterator[Journal]:
    """Open the state for reading beside whoever writes it; nothing is remembered where there is none."""
    from syncer.state.store import StateStore  # noqa: PLC0415 - as above

    if not await anyio.Path(spec.state).exists():
        yield MemoryJournal()
        return
    async with StateStore.read(spec.state) as state:
        yield ReadOnlyJournal(state)


def _status(report: Report, *, is_drained: bool = False) -> RunStatus:
    """Return how a run ended that came to its end; what a drain or a registry left for later is an interruption."""
    if is_drained and (report.cut_entries or report.cut_repositories or report.totals.tags[TagOutcome.CANCELLED]):
        return RunStatus.INTERRUPTED
    if report.failures:
        return RunStatus.FAILED
    return RunStatus.INTERRUPTED if report.deferrals else RunStatus.DONE


def _summary(report: Report) -> dict[str, int]:
    counts = {str(outcome): count for outcome, count in report.totals.tags.items()}
    return counts | {"bytes": report.totals.streamed}
