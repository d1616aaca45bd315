"""``syncer run`` between two registries, killed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from syncer.events import RunStatus
from syncer.layout.store import LayoutStore
from syncer.oci.referrers import cosign_tags
from tests.kills.crashes import COUNTED, Crash, Point
from tests.kills.registries import Remembering, incomplete, remembering
from tests.support import images
from tests.support.forks import Order
from tests.support.layouts import Layout, leftovers, read_tree
from tests.support.world import fill, spec_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from typing import Self

    from tests.support.forks import Ended, Forks
    from tests.support.images import Sample

APP, OTHER = "mirror/app", "mirror/other"
#: What the state says of an immutable tag is not asked for again: it has to be so.
ENTRIES = (
    f"name: app, from: source/app, to: target/{APP}, tags: {{immutable: [large, multi]}}",
    f"name: other, from: source/other, to: target/{OTHER}",
)
COMMAND = ("run", "spec.yaml", "--quiet", "--output", "json")


class Corpus:
    """Two repositories: an image that moved, a large one, an index that is signed, a cosign tag, a shared layer."""

    def __init__(self) -> None:
        shared = images.random_bytes(3000, "shared")
        large = images.random_bytes(3_000_000, "large")
        self.old = images.image(seed="old", layers=1)
        self.moved = images.image(seed="moved", layers=1, shared=[shared])
        self.multi = images.index(seed="multi", layers=1)
        self.signature = images.artifact(subject=self.multi.manifest, seed="signature")
        self.cosign = images.artifact(seed="cosign")
        self.cosign_tag = cosign_tags(self.moved.digest)[0]
        self.app: dict[str, Sample] = {
            "large": images.image(seed="large", layers=1, shared=[shared, large]),
            "moved": self.moved,
            "multi": self.multi,
        }
        self.other: dict[str, Sample] = {"only": images.image(seed="other", layers=1, shared=[shared])}
        self.companions = {"moved": [self.cosign], "multi": [self.signature]}

    async def keep(self, host: str) -> None:
        """Put everything into the source."""
        await fill(host, "app", {**self.app, "@signature": self.signature, self.cosign_tag: self.cosign})
        await fill(host, "other", self.other)

    def tags(self) -> dict[str, dict[str, str]]:
        """Return what every tag of the target stands for in the end, by repository."""
        app = {tag: str(sample.digest) for tag, sample in self.app.items()}
        return {
            APP: {**app, self.cosign_tag: str(self.cosign.digest)},
            OTHER: {tag: str(sample.digest) for tag, sample in self.other.items()},
        }

    def needed(self) -> dict[str, dict[str, frozenset[str]]]:
        """Return what must be there before each tag of the target: blobs, children, and what refers to them."""
        needed = {APP: {tag: self._below(tag, sample) for tag, sample in self.app.items()}}
        needed[APP]["moved"] |= {self.cosign_tag}
        needed[APP]["moved"] -= {str(self.cosign.digest)}
        needed[OTHER] = {tag: self._below(tag, sample) for tag, sample in self.other.items()}
        return needed

    def _below(self, tag: str, sample: Sample) -> frozenset[str]:
        companions = self.companions.get(tag, [])
        digests = {str(child.digest) for child in sample.children} | {str(one.digest) for one in companions}
        return frozenset(digests.union(*(map(str, one.blobs) for one in [sample, *companions])))

    def parts(self, repository: str, tag: str) -> list[Sample]:
        """Return the image of a tag and what refers to it."""
        return [(self.app if repository == APP else self.other)[tag], *self.companions.get(tag, [])]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the target has on its disk: blobs and manifests of each repository, and what its tags stand for."""

    content: Mapping[str, frozenset[str]]
    tags: Mapping[str, Mapping[str, str]]

    @classmethod
    async def of(cls, root: Path) -> Self:
        """Look at the layouts below ``root``, whose server may be running."""
        content: dict[str, frozenset[str]] = {}
        tags: dict[str, dict[str, str]] = {}
        for repository in (APP, OTHER):
            blobs = [path async for path in anyio.Path(root, repository).glob("blobs/sha256/*")]
            content[repository] = frozenset(f"sha256:{blob.name}" for blob in blobs)
            tags[repository] = {}
            if await anyio.Path(root, repository, "oci-layout").exists():
                store = await LayoutStore.open(root / repository)
                tags[repository] = {tag: str(digest) for tag, digest in store.tag_digests(store.tags()).items()}
        return cls(content=content, tags=tags)

    @property
    def anywhere(self) -> frozenset[str]:
        """Every digest that some repository has."""
        return frozenset().union(*self.content.values())


class Mirror:
    """The job: two entries, an older image under one of the tags."""

    name = "run, registry to registry"
    step = 1

    def __init__(self) -> None:
        self._corpus = Corpus()
        self._templates: Path | None = None

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Run once, without dying."""
        async with self._registries(folder):
            ended = await forks.run(Order(arguments=COMMAND, folder=str(folder), kind=COUNTED.kind))
            assert ended.code == 0, ended
            return ended.points

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Run, die, run again, and once more to see that nothing is left to do."""
        crash = Crash(at=at)
        async with self._registries(folder) as (source, target):
            first = await forks.run(Order(arguments=COMMAND, folder=str(folder), at=at.number, kind=at.kind))
            crash.survived = not first.was_killed
            await target.settled()
            await source.settled()
            asked, done = len(source.records), len(target.records)
            stored = await Stored.of(folder / "target")
            again = await forks.run(Order(arguments=COMMAND, folder=str(folder)))
            crash.requests = len(source.records) + len(target.records) - asked - done
            crash.budget = self._budget(stored)
            crash.problems += wrong_with(again)
            crash.problems += incomplete(target.records, self._corpus.needed())
            received = target.uploads(done)
            crash.repeated = sum(count for (name, digest), count in received.items() if digest in stored.content[name])
            crash.resent = target.uploads().total() - self._streamed(await Stored.of(folder / "target"))
            written = len(target.records)
            crash.problems += wrong_with(await forks.run(Order(arguments=COMMAND, folder=str(folder))))
            crash.problems += [
                f"a third run asks {record.method} {record.path}"
                for record in target.records[written:]
                if record.method not in ("GET", "HEAD")
            ]
        crash.problems += await to_thread.run_sync(wrong_in_the_end, self._corpus, folder)
        return crash

    @asynccontextmanager
    async def _registries(self, folder: Path) -> AsyncIterator[tuple[Remembering, Remembering]]:
        """Run a source that has the corpus, and a target that has the older image; write the spec."""
        if self._templates is None:
            self._templates = folder.parent / "templates"
            async with (
                remembering(self._templates / "source") as source,
                remembering(self._templates / "target") as old,
            ):
                await self._corpus.keep(source.host)
                await fill(old.host, APP, {"moved": self._corpus.old})
        await to_thread.run_sync(shutil.copytree, self._templates / "target", folder / "target")
        async with remembering(self._templates / "source") as source, remembering(folder / "target") as target:
            spec = spec_between(source.host, target.host, *ENTRIES)
            await anyio.Path(folder / "spec.yaml").write_text(spec)
            yield source, target

    def _budget(self, stored: Stored) -> int:
        """Return the most requests of a run that finds ``stored`` at the target (reference 5.5)."""
        total = 0
        for repository, tags in self._corpus.tags().items():
            # Both sides list their tags, and what both have is looked at on each.
            total += 2 + 2 * len(tags)
            for tag, digest in tags.items():
                if stored.tags[repository].get(tag) == digest or tag == self._corpus.cosign_tag:
                    continue
                parts = self._corpus.parts(repository, tag)
                manifests = [manifest for part in parts for manifest in part.manifests]
                blobs = {str(blob) for part in parts for blob in part.blobs}
                # Each manifest is read, asked for referrers, and written, the tag's own once more under its digest.
                total += 3 * len(manifests) + 1
                # Each blob is read and asked for, and sent where it is not there.
                total += 2 * len(blobs) + len(blobs - stored.content[repository])
        return total

    def _streamed(self, stored: Stored) -> int:
        """Return the bytes of the blobs that had to be sent, each once."""
        samples = [
            *self._corpus.app.values(),
            *self._corpus.other.values(),
            self._corpus.signature,
            self._corpus.cosign,
        ]
        blobs = {str(digest): len(data) for sample in samples for digest, data in sample.blobs.items()}
        return sum(size for digest, size in blobs.items() if digest in stored.anywhere)


def wrong_in_the_end(corpus: Corpus, folder: Path) -> list[str]:
    """Look at all that is on the disk when the last run is over; this blocks."""
    found = [f"left behind: {name}" for name in leftovers(folder)]
    layouts = read_tree(folder / "target")
    for repository, tags in corpus.tags().items():
        layout = layouts.get(repository, Layout())
        found += layout.problems
        if layout.tags != tags:
            found.append(f"{repository} has {layout.tags} in place of {tags}")
    found += [f"left behind: {path.name}" for path in folder.glob("state.db?*") if path.name != "state.db.lock"]
    with closing(sqlite3.connect(folder / "state.db")) as connection:
        runs = [status for (status,) in connection.execute("SELECT status FROM runs ORDER BY number")]
        if runs[-2:] != ["done", "done"] or not set(runs[:-2]) <= {"interrupted", "done"}:
            found.append(f"the state has runs {runs}")
    return found


def wrong_with(ended: Ended, status: RunStatus = RunStatus.DONE) -> list[str]:
    """Say how a run ended, when that is not as it must."""
    if ended.code:
        return [f"exit code {ended.code}: {ended.err}"]
    found = json.loads(ended.out)["status"]
    return [] if found == status else [f"the report says {found}"]
