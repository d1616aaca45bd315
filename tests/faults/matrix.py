"""The fault matrix: every fault of reference section 6.2 at every step of the protocol where it can happen.

A cell is one sync of a tiny corpus, in virtual time, in which one step goes wrong in one way. It is to
converge, or to end with the error and the exit code that the cell states. All invariants are judged,
and a second run, in which nothing goes wrong, has to converge after an error, and to write nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncer.cli.exits import code_of, code_of_report
from syncer.errors import Side, SyncerError
from syncer.events import RunStatus
from tests.support import images
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.history import Step, What
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from syncer.telemetry.report import Report
    from tests.support.faults.injection import Fault
    from tests.support.images import Sample

SOURCE, TARGET = "source.example", "target.example"
#: The site at which each step is looked at; the target for what both sides have.
SITES = {
    Step.TOKEN: f"auth.{TARGET}",
    Step.TAGS: SOURCE,
    Step.MANIFEST_HEAD: SOURCE,
    Step.MANIFEST_GET: SOURCE,
    Step.REFERRERS: SOURCE,
    Step.BLOB_GET: SOURCE,
    Step.STORAGE: f"storage.{SOURCE}",
}
#: In the order in which a copy takes them.
STEPS = (
    Step.TOKEN,
    Step.TAGS,
    Step.MANIFEST_HEAD,
    Step.MANIFEST_GET,
    Step.REFERRERS,
    Step.BLOB_GET,
    Step.STORAGE,
    Step.POST,
    Step.MOUNT,
    Step.PATCH,
    Step.PUT,
    Step.STATUS,
    Step.BLOB_HEAD,
    Step.ABORT,
    Step.MANIFEST_PUT_DIGEST,
    Step.MANIFEST_PUT_TAG,
)


@dataclass(frozen=True)
class Outcome:
    """What a cell comes to: the errors' classes (none when it converges), the exit code, and who is blamed."""

    errors: frozenset[str] = frozenset()
    code: int = 0
    sides: frozenset[str] = field(default=frozenset(), compare=False)

    def __str__(self) -> str:
        return f"{'/'.join(sorted(self.errors))} ({self.code})" if self.code else "converges"


CONVERGES = Outcome()


def ends(error: str, code: int = 1) -> Outcome:
    """Return the outcome of a run in which all that fails fails with ``error``."""
    return Outcome(frozenset({error}), code)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault.

    Attributes:
        fault: what happens.
        steps: where it is tried.
        times: to how many requests of that step; None for all.
        outcome: what comes of it.
        at: where something else comes of it.
        before: what has to happen for the step to be reached, or for the fault to matter.
        is_reached: it is for the former.
    """

    fault: Fault
    steps: frozenset[Step]
    times: int | None = 1
    outcome: Outcome = CONVERGES
    at: Mapping[Step, Outcome] = field(default_factory=dict)
    before: tuple[tuple[Step, Fault], ...] = ()
    is_reached: bool = False

    @property
    def heading(self) -> str:
        """The line of the table that it belongs to: how a step is reached makes no line of its own."""
        return self._titled(()) if self.is_reached else self.title

    @property
    def title(self) -> str:
        """How the table calls it."""
        return self._titled(self.before)

    def _titled(self, before: tuple[tuple[Step, Fault], ...]) -> str:
        often = {1: "", None: ", always"}.get(self.times, f", {self.times} times")
        earlier = "".join(f" after {fault.name}" for _, fault in before)
        return f"{self.fault.name}{earlier}{often}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A fault at a step."""

    row: Row
    step: Step

    @property
    def expected(self) -> Outcome:
        """What is to come of it."""
        return self.row.at.get(self.step, self.row.outcome)

    @property
    def name(self) -> str:
        """How tests call it."""
        return f"{self.row.title} @ {self.step}"


@dataclass(kw_only=True)
class Played:
    """What came of a cell.

    Attributes:
        outcome: as the report and the exit code have it.
        problems: what is not as it should be; that the outcome is not the one expected is among them.
        struck: how often the fault struck.
    """

    outcome: Outcome
    problems: list[str]
    struck: int = 0

    def expect(self, outcome: Outcome) -> None:
        """Make it a problem when something else came of it."""
        if self.outcome != outcome:
            self.problems.append(f"it is {self.outcome}, and is to be {outcome}")


class World:
    """A small corpus in which the ``step`` is taken, and a spec that copies it."""

    def __init__(self, step: Step) -> None:
        self.internet = Internet()
        self.injector = Injector(self.internet)
        self.source = Model(self.internet, SOURCE, tokens=True, storage=step is Step.STORAGE)
        # What comes from the source is looked at by us: this target would keep anything.
        is_read = step in (Step.MANIFEST_GET, Step.BLOB_GET, Step.STORAGE)
        self.target = Model(self.internet, TARGET, tokens=True, believing=is_read)
        self.samples: dict[tuple[str, str], Sample] = {}
        self.more: dict[str, str] = {}
        self.referrer: Sample | None = None
        shared = images.random_bytes(700, "shared")
        one = images.image(seed="one", layers=1, size=900, shared=[shared])
        match step:
            case Step.MANIFEST_HEAD:
                # Both sides have the tag, and the source's has moved.
                self.target.keep("app", images.image(seed="earlier", layers=1), "v1")
                self._keep("app", "v1", one)
            case Step.MANIFEST_PUT_DIGEST:
                self._keep("app", "v1", images.index(seed="two", size=500))
            case Step.MANIFEST_GET:
                # What the tag was before is still to be had by its digest.
                self.source.keep("app", images.image(seed="earlier", layers=1))
                self._keep("app", "v1", one)
            case Step.MOUNT:
                self._keep("app", "v1", one)
                self._keep("other", "v1", images.image(seed="other", layers=1, size=600, shared=[shared]))
            case Step.REFERRERS:
                self._keep("app", "v1", one)
                self.referrer = images.artifact(seed="signature", subject=one.manifest)
                self.source.keep("app", self.referrer)
                # Where there is no such question, or no answer to it, the tag stands in.
                self.source.repository("app").list_under_tag(one.manifest, self.referrer.manifest)
            case Step.PATCH | Step.STATUS:
                self._keep("app", "v1", one)
                self.more["target"] = "upload: {form: stream}"
            case _:
                self._keep("app", "v1", one)

    def _keep(self, repository: str, tag: str, sample: Sample) -> None:
        self.source.keep(repository, sample, tag)
        self.samples[repository, tag] = sample

    async def sync(self, base: Path, *, budget: int | None = None, is_rerun: bool = False) -> Report:
        """Run once."""
        entries = [
            f"name: {repository}, from: source/{repository}, to: target/{repository}"
            for repository in sorted({repository for repository, _ in self.samples})
        ]
        text = spec_of({"source": self.source, "target": self.target}, *entries, more=self.more)
        return await synced(self.internet, text, base, budget=budget, is_rerun=is_rerun)

    @property
    def is_in_step(self) -> bool:
        """True when nobody has moved a tag of the source away from what the target has."""
        return all(
            self.source.repository(name).tags.get(tag) == self.target.repository(name).tags.get(tag)
            for name, tag in self.samples
        )

    def missing(self) -> list[str]:
        """Return what did not arrive, or not as it was."""
        found = []
        changes = list(self.internet.history.changes(What.TAG_SET))
        for repository, tag in self.samples:
            wanted = self.source.repository(repository)
            held = self.target.repository(repository)
            # What it was when it was read: that it is one of these, and none before another, is invariant I2.
            values = {one.content for one in changes if one.site == SOURCE and one.name == tag}
            digest = held.tags.get(tag, "")
            if tag not in wanted.tags:
                continue
            if digest not in values:
                found.append(f"{repository}:{tag} is {digest or 'not there'}, where the source had {values}")
            elif dict(held.below(digest)) != dict(wanted.below(digest)):
                found.append(f"{repository}:{tag} arrived with other bytes, or not whole")
            elif not self._has_referrer(repository, digest):
                found.append(f"{repository}:{tag} arrived without what refers to it")
        return found

    def _has_referrer(self, repository: str, digest: str) -> bool:
        listed = [entry["digest"] for entry in self.target.repository(repository).referrers(digest)]
        return self.referrer is None or str(self.referrer.digest) in listed


#: The requests of each world when nothing goes wrong.
_BUDGETS: dict[Step, int] = {}


def budget_of(step: Step, base: Path) -> int:
    """Return the requests that the world of ``step`` costs when nothing goes wrong."""
    if step not in _BUDGETS:

        async def count() -> int:
            world = World(step)
            async with world.internet.running():
                report = await world.sync(base)
            assert report.status is RunStatus.DONE, report.failures
            assert not world.internet.violations
            return len(world.internet.seen)

        base.mkdir()
        _BUDGETS[step] = virtually(count())
    return _BUDGETS[step]


def play(cell: Cell, base: Path) -> Played:
    """Play a cell in the folder ``base``."""
    budget = budget_of(cell.step, base / "budget")
    return virtually(_play(cell, base, budget))


async def _play(cell: Cell, base: Path, budget: int) -> Played:
    world = World(cell.step)
    for step, fault in cell.row.before:
        world.injector.at(step, fault, site=SITES.get(step, TARGET))
    first = 1 + sum(step is cell.step for step, _ in cell.row.before)
    site = SITES.get(cell.step, TARGET)
    world.injector.at(cell.step, cell.row.fault, nth=first, times=cell.row.times, site=site)
    problems: list[str] = []
    async with world.internet.running():
        outcome = await _outcome(world, base, budget)
        struck = [one for one in world.injector.struck if one.fault == cell.row.fault.name]
        if not struck:
            problems.append("the fault did not strike")
        if outcome == CONVERGES:
            problems += world.missing()
            # After a mount that fails, and a look that does, nobody knows that the blob is there.
            if cell.step not in (Step.MOUNT, Step.BLOB_HEAD):
                problems += _moved_twice(world)
            world.injector.stop()
            if world.is_in_step and (again := await _outcome(world, base, None, is_rerun=True)) != CONVERGES:
                problems.append(f"the run after it: {again}")
        else:
            world.injector.stop()
            if (again := await _outcome(world, base, None)) != CONVERGES:
                problems.append(f"the run after it: {again}")
            problems += world.missing()
    if outcome.sides - {blamed := Side.SOURCE if SOURCE in site else Side.TARGET}:
        problems.append(f"{'/'.join(sorted(outcome.sides))} is blamed, and it is the {blamed}")
    played = Played(outcome=outcome, problems=[*problems, *world.internet.violations], struck=len(struck))
    played.expect(cell.expected)
    return played


async def _outcome(world: World, base: Path, budget: int | None, *, is_rerun: bool = False) -> Outcome:
    """Run, and return what came of it."""
    try:
        report = await world.sync(base, budget=budget, is_rerun=is_rerun)
    except SyncerError as error:
        return ends(type(error).__name__, int(code_of(error)))
    return outcome_of(report)


def outcome_of(report: Report) -> Outcome:
    """Return what a report says came of a run."""
    errors = {failure.error for failure in report.failures}
    if report.deferrals:
        errors.add("RateLimitReached")
    sides = frozenset(failure.side for failure in report.failures)
    return Outcome(frozenset(errors), int(code_of_report(report)), sides=sides)


def _moved_twice(world: World) -> list[str]:
    """Return the blobs that were committed more than once; those that were lost meanwhile aside."""
    lost = {(one.repository, one.name) for one in world.internet.history.changes(What.BLOB_DROPPED)}
    stored = Counter(
        (one.repository, one.name)
        for one in world.internet.history.changes(What.BLOB_STORED)
        if one.site == TARGET and one.cause is not None
    )
    return [f"{name} was committed {count} times" for name, count in stored.items() if count > 1 and name not in lost]
