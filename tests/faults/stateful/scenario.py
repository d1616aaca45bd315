"""One world and what happens in it, step by step; each run is judged, and the steps taken make a script."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import anyio

from syncer.engine.draining import Drain
from syncer.events import RunStatus, TagFinished
from syncer.oci import Manifest
from tests.faults.stateful.expectation import Expectation, is_list, subject_of
from tests.faults.stateful.fatal import Verdict, arm
from tests.faults.stateful.graphs import built
from tests.faults.stateful.passing import strike
from tests.support import images
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced
from tests.support.faults.virtual_time import VirtualTimeLoop
from tests.support.personalities.history import Exchange, Step, What, nobodys_doing
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp import web

    from syncer.telemetry.report import Report
    from tests.faults.stateful.fatal import Fatal, Item
    from tests.faults.stateful.graphs import Graph
    from tests.support.personalities.history import Change

P = ParamSpec("P")

HEADER = """\
from tests.faults.stateful.fatal import Fatal
from tests.faults.stateful.graphs import Image, Index
from tests.faults.stateful.scenario import Move, Scenario
"""


@dataclass(frozen=True)
class Move:
    """A tag gets another meaning while a run is under way, once so many requests have come."""

    after: int
    repository: str
    tag: str
    graph: Graph


@dataclass
class Tally:
    """What scenarios have gone through, added up."""

    scenarios: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    #: Tags that were taken from the record.
    recorded: int = 0

    def plus(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(
            scenarios=self.scenarios + other.scenarios,
            runs=self.runs + other.runs,
            tags=self.tags + other.tags,
            requests=self.requests + other.requests,
            faults=self.faults + other.faults,
            recorded=self.recorded + other.recorded,
        )


class Violated(AssertionError):
    """Something did not keep its promise; the message has a script that shows it again."""

    def __init__(self, wrong: list[str], script: str, told: str, history: str) -> None:
        super().__init__("\n".join([*wrong, "", "To see it again:", "", script, "", told]))
        self.wrong = wrong
        self.script = script
        #: All that happened in the run.
        self.history = history


def _step(
    take: Callable[Concatenate[Scenario, P], None],
) -> Callable[Concatenate[Scenario, P], None]:
    """Note the step for the script."""

    def noted(self: Scenario, /, *args: P.args, **named: P.kwargs) -> None:
        said = [*map(repr, args), *(f"{key}={value!r}" for key, value in named.items())]
        self.script.append(f"scenario.{take.__name__}({', '.join(said)})")
        take(self, *args, **named)

    noted.__doc__ = take.__doc__
    return noted


class Scenario:
    """A source and a target; what is pushed to the source, and runs that fail in many ways.

    Args (all of them as :class:`~tests.support.faults.model.Model` takes them):
        source: options of the source.
        target: options of the target.
        is_glob: one entry for all repositories, rather than one for each.
        is_sole: the spec says that nobody else writes to the target, which is so: whatever else happens there takes
            a tag away.
    """

    REPOSITORIES = ("app", "lib", "base/tools")

    def __init__(
        self,
        *,
        source: Mapping[str, Any] | None = None,
        target: Mapping[str, Any] | None = None,
        is_glob: bool = False,
        is_sole: bool = False,
        tally: Tally | None = None,
    ) -> None:
        said = f"source={dict(source or {})!r}, target={dict(target or {})!r}, {is_glob=!r}, {is_sole=!r}"
        self.script = [f"scenario = Scenario({said})"]
        self.internet = Internet()
        self.source = Model(self.internet, "source.example", **(source or {}))
        self.target = Model(self.internet, "target.example", **(target or {}))
        self.injector = Injector(self.internet)
        self.expected = Expectation(self.source, self.target)
        self.is_glob = is_glob
        self.is_sole = is_sole
        self.tally = tally or Tally()
        self.tally.scenarios += 1
        self._folder = TemporaryDirectory(prefix="syncer-scenario-")
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        #: Nothing has happened since a run that succeeded.
        self._is_settled = False

    def close(self) -> None:
        """Remove what the scenario has put on the disk."""
        self._runner.close()
        self._folder.cleanup()

    # ------------------------------------------------------------------ what others do

    @_step
    def push(self, repository: str, tags: dict[str, Graph]) -> None:
        """Push images to the source, each under a tag, which may have been something else before."""
        self._is_settled = False
        for tag, graph in tags.items():
            self.source.keep(repository, built(graph), tag)

    @_step
    def untag(self, repository: str, tag: str) -> None:
        """Delete a tag of the source; what it stood for stays."""
        held = self.source.repository(repository)
        if tag in held.tags:
            self._is_settled = False
            with nobodys_doing():
                held.untag(tag)

    @_step
    def attach(self, repository: str, tag: str, seed: int, *, part: int = 0, cosign: str = "") -> None:
        """Attach an artifact to a manifest of an image of the source: ``part`` 0 is the image itself.

        With ``cosign`` (``sig``, ``att``, ``sbom``) it gets a tag of cosign's and no subject.
        """
        held = self.source.repository(repository)
        if tag not in held.tags:
            return
        self._is_settled = False
        top = held.tags[tag]
        needed = self.expected.needs(repository, top, is_wide=True) - {top}
        manifests = [top, *sorted(digest for digest in needed if digest in held.manifests)]
        subject = manifests[part % len(manifests)]
        if cosign:
            name = f"{subject.replace(':', '-')}.{cosign}"
            self.source.keep(repository, images.artifact(seed=seed), name)
            self.expected.attach(repository, subject, "", name)
            return
        sample = images.artifact(seed=seed, subject=Manifest.parse(held.manifests[subject].raw))
        if str(sample.digest) not in held.manifests:
            with nobodys_doing():
                self.source.keep(repository, sample)
                self.expected.attach(repository, subject, str(sample.digest))

    @_step
    def collect(self, repository: str, tag: str, *, keeps_blobs: bool = False) -> None:
        """Delete a tag of the target, and then what no tag there needs; or only the manifests of that."""
        held = self.target.repository(repository)
        if tag not in held.tags:
            return
        self._is_settled = False
        with nobodys_doing():
            held.untag(tag)
            kept: set[str] = set()
            waiting = list(held.tags.values())
            while waiting:
                digest = waiting.pop()
                if digest not in kept:
                    kept.add(digest)
                    waiting += held.manifests[digest].links() if digest in held.manifests else ()
                    waiting += [entry["digest"] for entry in held.referrers(digest)]
            lost = held.manifests.keys() if keeps_blobs else held.manifests.keys() | held.blobs.keys()
            for digest in sorted(lost - kept):
                held.drop(digest)

    @_step
    def rot(self, repository: str, tag: str) -> None:
        """The target loses a blob of an image and keeps the tag: nobody who trusts the tag finds out."""
        held = self.target.repository(repository)
        if tag in held.tags:
            self._is_settled = False
            with nobodys_doing():
                held.drop(min(digest for digest, _ in held.below(held.tags[tag]) if digest in held.blobs))

    @_step
    def lose_state(self) -> None:
        """Remove the state file."""
        for path in Path(self._folder.name).iterdir():
            path.unlink()

    @_step
    def trust(self, *, is_sole: bool) -> None:
        """Let the spec say, or no longer say, that nobody else writes to the target."""
        self.is_sole = is_sole

    # ------------------------------------------------------------------ runs

    @_step
    def run(
        self,
        *,
        seed: int = 0,
        rate: float = 0.0,
        kinds: tuple[str, ...] = (),
        fatal: Fatal | None = None,
        stop: int | None = None,
        drain: int | None = None,
        move: Move | None = None,
        recheck: bool = False,
    ) -> None:
        """Run Syncer once, and judge what came of it.

        Args:
            seed: of the faults and of Syncer's own dice.
            rate: the share of requests that meet a fault of :mod:`.passing`.
            kinds: names of faults to which that is limited.
            fatal: a fault that nobody survives.
            stop: after so many requests the run is told to stop.
            drain: after so many requests the run is told to begin nothing more, and to stop some seconds later.
            move: what happens at the source meanwhile.
            recheck: look at everything again.

        Raises:
            Violated: when something is not as promised.
        """
        if not self.expected.repositories:
            return
        self.injector.stop()
        verdict = Verdict()
        if fatal is not None:
            verdict = arm(fatal, self.injector, self.expected, is_recheck=recheck)
        strike(self.injector, seed, rate, kinds)
        course = _Course(self, stop=stop, drain=drain, move=move)
        before = {name: dict(self.target.repository(name).tags) for name in Scenario.REPOSITORIES}
        self.expected.has_run()
        report = self._runner.run(self._synced(course, seed=seed, recheck=recheck))
        self.expected.has_run()
        self._count(course, report)
        wrong = [*self.internet.violations, *course.judge(report, verdict, before, is_recheck=recheck)]
        if wrong:
            raise Violated(wrong, self.as_script(), course.told(report), course.history())
        self._is_settled = report.status is RunStatus.DONE and move is None

    async def _synced(self, course: _Course, *, seed: int, recheck: bool) -> Report:
        registries = {"source": self.source, "target": self.target}
        async with self.internet.running():
            course.stopped, course.draining = anyio.Event(), Drain(7)
            return await synced(
                self.internet,
                spec_of(registries, *self._entries()),
                Path(self._folder.name),
                course,
                seed=seed,
                is_rerun=self._is_settled and not (recheck or course.has_move),
                recheck=recheck,
                stop=course.stopped,
                drain=course.draining,
            )

    def _entries(self) -> list[str]:
        more = ", sole_writer: true" if self.is_sole else ""
        if self.is_glob:
            return [f"name: all, from: source/**, to: 'target/{{path}}'{more}"]
        return [f"name: {name}, from: source/{name}, to: target/{name}{more}" for name in self.expected.repositories]

    def _count(self, course: _Course, report: Report) -> None:
        self.tally.runs[report.status] += 1
        self.tally.requests += course.came
        self.tally.faults.update(exchange.fault for exchange in self.injector.struck)
        self.injector.struck.clear()
        for event in course.finished:
            self.tally.tags[event.outcome] += 1
        self.tally.recorded += report.totals.recorded

    def as_script(self) -> str:
        """Return the steps taken so far as a program."""
        return "\n".join([HEADER, *self.script, "scenario.close()"])


class _Course:
    """One run: hears it, stands in its way, and judges it."""

    def __init__(self, scenario: Scenario, *, stop: int | None, drain: int | None, move: Move | None) -> None:
        self._scenario = scenario
        self._expected = scenario.expected
        self._stop = stop
        self._drain = drain
        self._move = move
        self._injector = scenario.injector
        self._since = len(scenario.internet.history.entries)
        #: What was written before what belongs to it.
        self._hasty: list[str] = []
        #: Tags that moved meanwhile, and what they had been.
        self._moved: dict[Item, str | None] = {}
        self.stopped: anyio.Event
        self.draining: Drain
        self.came = 0
        self.finished: list[TagFinished] = []
        scenario.internet.interceptor = self

    @property
    def has_move(self) -> bool:
        """True when a tag of the source moves, or has moved, in this run."""
        return self._move is not None or bool(self._moved)

    def notify(self, event: object) -> None:
        """Hear what became of a tag."""
        if isinstance(event, TagFinished):
            self.finished.append(event)

    async def __call__(
        self, exchange: Exchange, request: web.BaseRequest, answer: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse | None:
        """Count a request, and let happen what is to happen now."""
        self.came += 1
        if self._stop is not None and self.came > self._stop:
            self.stopped.set()
        if self._drain is not None and self.came > self._drain and not self.draining.has_begun:
            self.draining.begin()
            asyncio.get_running_loop().call_later(self.draining.seconds, self.stopped.set)
        if self._move is not None and self.came > self._move.after:
            move, self._move = self._move, None
            had = self._scenario.source.repository(move.repository).tags.get(move.tag)
            self._moved[move.repository, move.tag] = had
            self._scenario.source.keep(move.repository, built(move.graph), move.tag)
        response = await self._injector(exchange, request, answer)
        if exchange.step is Step.MANIFEST_PUT_TAG and exchange.site == self._scenario.target.host:
            self._look_behind(exchange)
        return response

    def _look_behind(self, exchange: Exchange) -> None:
        """Look whether all that a tag needs is there when the tag is written, and what refers to it too."""
        name, tag = exchange.repository, exchange.reference
        there = self._scenario.target.repository(name)
        written = self._scenario.internet.history.changes(What.TAG_SET, since=exchange.number)
        if subject_of(tag) or not any(change.cause == exchange.number for change in written):
            return
        needed = self._expected.needs(name, there.tags[tag])
        held = there.manifests.keys() | there.blobs.keys() | there.tags.keys()
        self._hasty += [f"{name}:{tag} was written before {one}" for one in sorted(needed - held)]

    # ------------------------------------------------------------------ judging

    def judge(
        self, report: Report, verdict: Verdict, before: Mapping[str, Mapping[str, str]], *, is_recheck: bool
    ) -> list[str]:
        """Return what is not as promised."""
        failed = {(failure.target.partition("/")[2], failure.tag) for failure in report.failures}
        unexpected = sorted(failed - verdict.may)
        wrong = [f"{name}:{tag} is reported as failed, and nothing stood in its way" for name, tag in unexpected]
        wrong += [*self._hasty, *self._strays(before)]
        # What was drained may have done everything all the same; it is not called done for less.
        is_cut = self.stopped.is_set() or (self.draining.has_begun and report.status is RunStatus.INTERRUPTED)
        is_whole = not (is_cut or verdict.is_deferring)
        if is_whole:
            wrong += [f"{name}:{tag} is not reported as failed" for name, tag in sorted(verdict.must - failed)]
            wrong += self._missing(failed, is_recheck=is_recheck)
        statuses = {RunStatus.FAILED if failed else RunStatus.DONE} | (set() if is_whole else {RunStatus.INTERRUPTED})
        if report.status not in statuses:
            wrong.append(f"the run is {report.status}, where it should be {' or '.join(sorted(statuses))}")
        return wrong

    def _missing(self, failed: set[Item], *, is_recheck: bool) -> list[str]:
        """Return what is not in step, and did not fail."""
        expected = self._expected
        wrong: list[str] = []
        for name in expected.repositories:
            for tag, digest in expected.tags(name).items():
                # A companion is judged with what it belongs to.
                if {(name, ""), (name, tag)} & failed or (name, tag) in self._moved or subject_of(tag):
                    continue
                wide = expected.needs(name, digest, is_wide=True)
                is_bare = any(repository == name and subject_of(one) in wide for repository, one in failed)
                wrong += expected.shortfalls(name, tag, is_wide=is_recheck, is_bare=is_bare)
        return wrong

    def _strays(self, before: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Return tags of the target that are something nobody wants them to be."""
        wrong: list[str] = []
        for name, had in before.items():
            has = self._scenario.target.repository(name).tags
            wrong += [f"{name}:{tag} is gone from the target" for tag in had if tag not in has]
            source = self._scenario.source.repository(name).tags
            for tag, digest in has.items():
                allowed = {had.get(tag), source.get(tag), self._moved.get((name, tag))}
                if digest not in allowed and not (is_list(tag) and not self._scenario.target.has_referrers):
                    wrong.append(f"{name}:{tag} is {digest} in the target, and it never was at the source")
        return wrong

    def told(self, report: Report) -> str:
        """Return what is to be known of the run: what it reported, and what went wrong where."""
        lines = [
            f"{report.status}, run of {self.came} requests, judged at {self._scenario.internet.history.clock():.2f}"
        ]
        lines += [f"failed: {failure.place}: {failure.message}" for failure in report.failures]
        lines += [f"{event.target}:{event.tag}: {event.outcome} {event.reason}" for event in self.finished]
        struck = [entry for entry in self._entries() if isinstance(entry, Exchange) and entry.fault]
        lines += map(str, struck[:100])
        return "\n".join(lines)

    def history(self) -> str:
        """Return everything that happened in the run, a line each."""
        return "\n".join(f"{entry.number:5} {entry.at:9.2f} {entry}" for entry in self._entries())

    def _entries(self) -> list[Exchange | Change]:
        return self._scenario.internet.history.entries[self._since :]
