"""Thousands of tags through random faults of all kinds, at full speed: what is lost, and what is said falsely.

    python -m tests.faults.load --tags 10000 --rate 0.01 --seed 1

No second is waited for. The exit code is 1 when something was not as promised.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from syncer.events import RunStatus, TagFinished, TagOutcome
from syncer.oci import Digest
from syncer.telemetry.report import CopiedTag
from tests.faults.stateful.passing import strike
from tests.support import images
from tests.support.faults.injection import Injector
from tests.support.faults.invariants import LADDER_COST
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    from syncer.telemetry.report import Report

REPOSITORIES = ("app", "lib", "base/tools", "jobs")
#: Requests of a run that do not depend on the number of tags: tokens, and the first pages of lists.
_ONCE = 60
_PAGE = 100
_SIZE = 400
_DONE = (TagOutcome.COPIED, TagOutcome.IN_SYNC)


@dataclass(kw_only=True)
class Outcome:
    """What became of a load.

    Attributes:
        tags: at the source.
        lost: tags that the target lacks, or has as something else, or not whole.
        false_successes: tags that are said to be in step, and are not.
        false_failures: tags and repositories that are said to have failed; nothing that struck is fatal.
        faults: what struck, by kind.
        requests: of the run; ``budget`` of them without faults.
        objects: how many objects of Syncer's there were, at each tenth of the tags.
        violations: what the invariants say.
        writes: requests of a second run, without faults, that were more than questions.
    """

    tags: int
    lost: int
    false_successes: int
    false_failures: int
    faults: Counter[str]
    requests: int
    budget: int
    objects: list[int]
    violations: list[str]
    writes: int
    seconds: float

    @property
    def is_as_promised(self) -> bool:
        """True when nothing was lost, nothing said falsely, and everything bounded."""
        wrong = self.lost + self.false_successes + self.false_failures + self.writes + len(self.violations)
        return wrong == 0 and self.is_bounded and self.is_flat

    @property
    def is_bounded(self) -> bool:
        """True when the faults cost no more than their ladder each."""
        return self.requests <= self.budget + LADDER_COST * self.faults.total()

    @property
    def is_flat(self) -> bool:
        """True when the second half of the tags took no more objects than the first, but for some play."""
        half = len(self.objects) // 2
        return max(self.objects[half:], default=0) <= max(self.objects[:half], default=0) * 1.2 + 500

    def __str__(self) -> str:
        return (
            f"{self.tags} tags, {self.faults.total()} faults of {len(self.faults)} kinds: {self.lost} lost, "
            f"{self.false_successes} false successes, {self.false_failures} false failures, "
            f"{len(self.violations)} violations; {self.requests} requests, {self.budget} without faults and "
            f"{LADDER_COST} for each fault allowed; {max(self.objects, default=0)} objects at most, "
            f"{self.objects[-1] if self.objects else 0} at the end; {self.writes} writes in a second run; "
            f"{self.seconds:.0f} s of CPU"
        )


@dataclass
class _Witness:
    """Hears what is said of each tag, and counts Syncer's objects now and then where it ``is_counting``."""

    tags: int
    is_counting: bool
    finished: list[TagFinished] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)

    def notify(self, event: object) -> None:
        """Hear an event."""
        if isinstance(event, TagFinished):
            self.finished.append(event)
            if self.is_counting and len(self.finished) % max(self.tags // 10, 1) == 0:
                self.objects.append(_objects())


def _objects() -> int:
    """Return how many objects of Syncer's there are, but for those of single tags: they are kept, and in the report."""
    kept = (TagFinished, CopiedTag, Digest)
    return sum(
        str(type(one).__module__).startswith("syncer.") and not isinstance(one, kept) for one in gc.get_objects()
    )


class Load:
    """A source with many images of all shapes, and an empty target."""

    def __init__(self, tags: int) -> None:
        self.internet = Internet()
        self.source = Model(self.internet, "source.example", storage=True, page_size=_PAGE)
        self.target = Model(self.internet, "target.example", tokens=True, page_size=_PAGE)
        shared = [images.random_bytes(_SIZE, f"shared/{number}") for number in range(20)]
        for number in range(tags):
            repository = REPOSITORIES[number % len(REPOSITORIES)]
            layers = [shared[number % len(shared)]]
            sample = images.image(seed=number, layers=1, size=_SIZE, shared=layers)
            if number % 10 == 0:
                other = images.image(seed=f"other/{number}", layers=1, size=_SIZE, platform="linux/arm64")
                sample = images.index_of([sample, other])
            self.source.keep(repository, sample, f"v{number}")
            if number % 25 == 0:
                self.source.keep(repository, images.artifact(seed=number, size=_SIZE, subject=sample.manifest))

    @property
    def budget(self) -> int:
        """Requests that a first sync costs at most when nothing fails (reference section 5.5)."""
        count = _ONCE
        for name in REPOSITORIES:
            held = self.source.repository(name)
            referrers = sum("subject" in stored.document for stored in held.manifests.values())
            # A blob: POST, GET, the storage, PUT. A manifest: GET, what refers to it, PUT. A signed image is put twice.
            count += 4 * len(held.blobs) + 3 * len(held.manifests) + 2 * referrers
            # Both lists, and a HEAD where there are few tags.
            count += 2 * (len(held.tags) // _PAGE + 1) + 4
        return count

    async def run(self, rate: float, seed: int, *, is_counting: bool = False) -> Outcome:
        """Sync through faults, then look what came of it, and sync again without.

        Args:
            rate: of the faults.
            seed: of them.
            is_counting: count objects, which takes long in a process that has many.
        """
        began = time.process_time()
        injector = Injector(self.internet)
        tags = sum(len(self.source.repository(name).tags) for name in REPOSITORIES)
        witness = _Witness(tags, is_counting)
        with TemporaryDirectory(prefix="syncer-load-") as folder:
            async with self.internet.running():
                entries = [f"name: {name}, from: source/{name}, to: target/{name}" for name in REPOSITORIES]
                spec = spec_of({"source": self.source, "target": self.target}, *entries)
                # Between two times that all tokens are taken back.
                strike(injector, seed, rate, quiet=min(2000, self.budget // 3))
                report = await synced(self.internet, spec, Path(folder), witness, seed=seed)
                requests = len(self.internet.seen)
                outcome = self._judged(report, witness, injector, requests)
                injector.stop()
                again = await synced(
                    self.internet, spec, Path(folder), seed=seed, is_rerun=report.status is RunStatus.DONE
                )
        if again.status is not RunStatus.DONE:
            outcome.violations.append(f"the second run is {again.status}")
        outcome.violations += self.internet.violations
        outcome.writes = sum(
            seen.method not in ("GET", "HEAD") for seen in self.internet.seen[requests:] if seen.site_kind == "registry"
        )
        outcome.seconds = time.process_time() - began
        return outcome

    def _judged(self, report: Report, witness: _Witness, injector: Injector, requests: int) -> Outcome:
        lost = {
            (name, tag)
            for name in REPOSITORIES
            for tag, digest in self.source.repository(name).tags.items()
            if self.target.repository(name).tags.get(tag) != digest or self.target.repository(name).hole(digest)
        }
        said = {(one.target.partition("/")[2], one.tag) for one in witness.finished if one.outcome in _DONE}
        outcome = Outcome(
            tags=witness.tags,
            lost=len(lost),
            false_successes=len(lost & said),
            false_failures=len(report.failures),
            faults=Counter(seen.fault for seen in injector.struck),
            requests=requests,
            budget=self.budget,
            objects=witness.objects,
            violations=[f"failed: {failure.place}: {failure.message}" for failure in report.failures],
            writes=0,
            seconds=0.0,
        )
        if report.status is not RunStatus.DONE:
            outcome.violations.append(f"the run is {report.status}")
        return outcome


def main() -> int:
    """Read the command line, run, and print one line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.load", description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0.01, help="the share of requests that fail")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True
    outcome = virtually(Load(given.tags).run(given.rate, given.seed, is_counting=True))
    sys.stdout.write("".join(f"{violation}\n" for violation in outcome.violations[:50]))
    sys.stdout.write(f"{outcome}\n")
    return int(not outcome.is_as_promised)


if __name__ == "__main__":
    sys.exit(main())
