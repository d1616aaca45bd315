"""``syncer run`` from a registry, killed: the frame of such jobs, wherever the images go."""

from __future__ import annotations

import json
import shutil
import sqlite3
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, ClassVar

import anyio
from anyio import to_thread

from syncer.events import RunStatus
from tests.kills.corpus import APP, OTHER, Corpus, Stored
from tests.kills.crashes import COUNTED, NOWHERE, Crash, Point
from tests.kills.registries import remembering
from tests.support.forks import Order
from tests.support.layouts.findings import Layout
from tests.support.layouts.reading import leftovers, read_tree
from tests.support.world import fill, spec_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from syncer.server import RequestRecord
    from tests.kills.registries import Remembering
    from tests.support.forks import Ended, Forks

COMMAND = ("run", "spec.yaml", "--quiet", "--output", "json")


class Run(ABC):
    """The frame: two entries, an older image under one of the tags; the folder ``target`` is what is written to."""

    step = 1
    #: What the table calls it.
    name: str
    #: How the spec calls where the images go: the registry ``target``, or the layouts ``usb``.
    target: ClassVar[str]

    def __init__(self) -> None:
        self._corpus = Corpus()
        self._templates: Path | None = None

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Run once, without dying."""
        async with self._registries(folder):
            ended = await self._run(forks, folder, COUNTED)
            assert ended.code == 0, ended
            return ended.points

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Run, die, look, run again, and once more to see that nothing is left to do."""
        crash = Crash(at=at)
        async with self._registries(folder) as asked:
            first = await self._run(forks, folder, at)
            crash.survived = not first.was_killed
            for registry in reversed(asked):
                await registry.settled()
            before = [len(registry.records) for registry in asked]
            stored = await Stored.of(folder / "target")
            crash.problems += await self._look(folder / "target", stored)
            crash.problems += wrong_with(await self._run(forks, folder))
            after = [len(registry.records) for registry in asked]
            crash.requests = sum(after) - sum(before)
            crash.budget = self._budget(stored)
            crash.problems += await self._measure(crash, asked, before, stored, folder / "target")
            crash.problems += wrong_with(await self._run(forks, folder))
            third = asked[-1].records[after[-1] :]
            crash.problems += [
                f"a third run asks {record.method} {record.path}" for record in third if not self._only_looks(record)
            ]
        crash.problems += await to_thread.run_sync(self._wrong_in_the_end, folder)
        return crash

    # ---------------------------------------------------------------- what depends on where the images go

    async def _look(self, root: Path, stored: Stored) -> list[str]:
        """Say what is wrong with what a kill left below ``root``, which is ``stored``; a server may be running."""
        del root, stored
        return []

    @abstractmethod
    async def _measure(
        self, crash: Crash, asked: list[Remembering], before: list[int], stored: Stored, root: Path
    ) -> list[str]:
        """Note the bytes that the second run moved again, and say what it did wrong.

        Args:
            crash: where they are noted.
            asked: the source, and the target where that is a registry.
            before: how much each had been asked when the second run began.
            stored: what was below ``root`` then.
            root: where the images go.
        """

    @abstractmethod
    def _only_looks(self, record: RequestRecord) -> bool:
        """Tell whether a run that has nothing to do may ask this of the last of the registries."""

    @abstractmethod
    def _listing(self, tags: int) -> int:
        """Return the requests for a repository of so many tags, before anything is copied (reference 5.5)."""

    @abstractmethod
    def _copying(self, *, manifests: int, blobs: int, missing: int) -> int:
        """Return the requests for an image and what refers to it, where so many of its blobs are ``missing``."""

    # ---------------------------------------------------------------- what does not

    async def _run(self, forks: Forks, folder: Path, at: Point = NOWHERE) -> Ended:
        return await forks.run(Order(arguments=COMMAND, folder=str(folder), at=at.number, kind=at.kind))

    @asynccontextmanager
    async def _registries(self, folder: Path) -> AsyncIterator[list[Remembering]]:
        """Run a source that has the corpus, and the target where it is one; put the older image there, write the spec.

        Given are those that run.
        """
        if self._templates is None:
            self._templates = folder.parent / "templates"
            async with (
                remembering(self._templates / "source") as source,
                remembering(self._templates / "target") as old,
            ):
                await self._corpus.keep(source.host)
                await fill(old.host, APP, {"moved": self._corpus.old})
        await to_thread.run_sync(shutil.copytree, self._templates / "target", folder / "target")
        roots = [self._templates / "source", *([folder / "target"] if self.target == "target" else [])]
        # What the state says of an immutable tag is not asked for again: it has to be so.
        entries = (
            f"name: app, from: source/app, to: {self.target}/{APP}, tags: {{immutable: [large, multi]}}",
            f"name: other, from: source/other, to: {self.target}/{OTHER}",
        )
        async with AsyncExitStack() as stack:
            running = [await stack.enter_async_context(remembering(root)) for root in roots]
            layout = "target" if self.target == "usb" else ""
            spec = spec_between(running[0].host, running[-1].host, *entries, layout=layout)
            await anyio.Path(folder / "spec.yaml").write_text(spec)
            yield running

    def _budget(self, stored: Stored) -> int:
        """Return the most requests of a run that finds ``stored`` at the target."""
        total = 0
        for repository, tags in self._corpus.tags().items():
            total += self._listing(len(tags))
            for tag, digest in tags.items():
                if stored.tags[repository].get(tag) == digest or tag == self._corpus.cosign_tag:
                    continue
                parts = self._corpus.parts(repository, tag)
                blobs = {str(blob) for part in parts for blob in part.blobs}
                total += self._copying(
                    manifests=sum(len(part.manifests) for part in parts),
                    blobs=len(blobs),
                    missing=len(blobs - stored.content[repository]),
                )
        return total

    def _wrong_in_the_end(self, folder: Path) -> list[str]:
        """Look at all that is on the disk when the last run is over; this blocks."""
        found = [str(finding) for finding in leftovers(folder)]
        layouts = read_tree(folder / "target")
        for repository, tags in self._corpus.tags().items():
            layout = layouts.get(repository, Layout())
            found += layout.told(repository)
            if layout.tags != tags:
                found.append(f"{repository} has {layout.tags} in place of {tags}")
        found += [f"left behind: {path.name}" for path in folder.glob("state.db?*") if path.name != "state.db.lock"]
        with closing(sqlite3.connect(folder / "state.db")) as connection:
            runs = [status for (status,) in connection.execute("SELECT status FROM runs ORDER BY number")]
            if runs[-2:] != ["done", "done"] or not set(runs[:-2]) <= {"interrupted", "done"}:
                found.append(f"the state has runs {runs}")
        return found


def wrong_with(ended: Ended) -> list[str]:
    """Say how a run ended, when that is not as it must."""
    if ended.code:
        return [f"exit code {ended.code}: {ended.err}"]
    found = json.loads(ended.out)["status"]
    return [] if found == RunStatus.DONE else [f"the report says {found}"]
