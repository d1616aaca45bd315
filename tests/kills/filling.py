"""``syncer run`` from a registry into a tree of layouts, killed."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from tests.kills.crashes import COUNTED, Crash, Point
from tests.kills.mirroring import APP, COMMAND, OTHER, Corpus, Stored, wrong_in_the_end, wrong_with
from tests.kills.registries import Remembering, blobs_read, remembering
from tests.support.forks import Order
from tests.support.layouts import read_tree, read_with_journal
from tests.support.world import fill, spec_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.support.forks import Forks

_ENTRIES = (f"name: app, from: source/app, to: usb/{APP}", f"name: other, from: source/other, to: usb/{OTHER}")


class Fill:
    """The job: two entries, an older image under one of the tags; bytes are those that are read again."""

    name = "run, registry to layout"
    step = 1

    def __init__(self) -> None:
        self._corpus = Corpus()
        self._templates: Path | None = None

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Run once, without dying."""
        async with self._source(folder):
            ended = await forks.run(Order(arguments=COMMAND, folder=str(folder), kind=COUNTED.kind))
            assert ended.code == 0, ended
            return ended.points

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Run, die, look, run again, and once more to see that nothing is left to do."""
        crash = Crash(at=at)
        async with self._source(folder) as source:
            first = await forks.run(Order(arguments=COMMAND, folder=str(folder), at=at.number, kind=at.kind))
            crash.survived = not first.was_killed
            await source.settled()
            asked = len(source.records)
            crash.problems += await self._look(folder / "target")
            stored = await Stored.of(folder / "target")
            again = await forks.run(Order(arguments=COMMAND, folder=str(folder)))
            crash.problems += wrong_with(again)
            crash.requests = len(source.records) - asked
            crash.budget = self._budget(stored)
            before, after = blobs_read(source.records[:asked]), blobs_read(source.records[asked:])
            crash.repeated = sum(
                count for (name, digest), count in after.items() if digest in stored.content[f"mirror/{name}"]
            )
            crash.resent = sum(min(count, before[blob]) for blob, count in after.items())
            read = len(source.records)
            crash.problems += wrong_with(await forks.run(Order(arguments=COMMAND, folder=str(folder))))
            crash.problems += [
                f"a third run asks {record.method} {record.path}"
                for record in source.records[read:]
                if record.method != "HEAD" and not record.path.endswith("/tags/list")
            ]
        crash.problems += await to_thread.run_sync(wrong_in_the_end, self._corpus, folder)
        return crash

    async def _look(self, root: Path) -> list[str]:
        """Look at what a kill left: each layout is whole, and each tag has what refers to its image."""
        stored = await Stored.of(root)
        found = []
        for repository, layout in (await to_thread.run_sync(read_tree, root)).items():
            ours = await read_with_journal(root / repository)
            found += [f"{repository}: {problem}" for problem in [*layout.problems, *ours.problems]]
        for repository, tags in self._corpus.needed().items():
            there = stored.content[repository] | set(stored.tags[repository])
            for tag, needed in tags.items():
                if stored.tags[repository].get(tag) == self._corpus.tags()[repository][tag] and not needed <= there:
                    found.append(f"{repository}:{tag} lacks {sorted(needed - there)}")
        return found

    @asynccontextmanager
    async def _source(self, folder: Path) -> AsyncIterator[Remembering]:
        """Run a source that has the corpus; put the older image into the tree, and write the spec."""
        if self._templates is None:
            self._templates = folder.parent / "templates"
            async with (
                remembering(self._templates / "source") as source,
                remembering(self._templates / "target") as old,
            ):
                await self._corpus.keep(source.host)
                await fill(old.host, APP, {"moved": self._corpus.old})
        await to_thread.run_sync(shutil.copytree, self._templates / "target", folder / "target")
        async with remembering(self._templates / "source") as source:
            spec = spec_between(source.host, source.host, *_ENTRIES, layout="target")
            await anyio.Path(folder / "spec.yaml").write_text(spec)
            yield source

    def _budget(self, stored: Stored) -> int:
        """Return the most requests to the source of a run that finds ``stored`` in the tree (reference 5.5)."""
        total = 0
        for repository, tags in self._corpus.tags().items():
            # The tags are listed, and what the tree has is looked at.
            total += 1 + len(tags)
            for tag, digest in tags.items():
                if stored.tags[repository].get(tag) == digest or tag == self._corpus.cosign_tag:
                    continue
                parts = self._corpus.parts(repository, tag)
                manifests = [manifest for part in parts for manifest in part.manifests]
                blobs = {str(blob) for part in parts for blob in part.blobs}
                # Each manifest is read and asked for referrers; each blob that is not there is read.
                total += 2 * len(manifests) + len(blobs - stored.content[repository])
        return total
