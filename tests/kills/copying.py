"""``syncer copy`` to an OCI layout, an archive and a directory, killed."""

from __future__ import annotations

import shutil
import tarfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import to_thread

from tests.kills.crashes import COUNTED, NOWHERE, Crash, Point
from tests.kills.registries import Remembering, blobs_read, remembering
from tests.support import images
from tests.support.forks import Order
from tests.support.layouts.directories import read_dir
from tests.support.layouts.findings import Finding, Flaw, Layout
from tests.support.layouts.opened import open_layout
from tests.support.layouts.reading import leftovers, read_layout
from tests.support.world import fill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.support.forks import Forks

TAG = "moved"


@dataclass(frozen=True)
class Place:
    """A transport of ``syncer copy`` that writes to the disk."""

    transport: str
    name: str
    #: Whether what was finished before a crash is found again; an archive is all or nothing.
    keeps: bool = True
    tagged: bool = True

    @property
    def title(self) -> str:
        """What the table calls it."""
        return f"copy to {self.transport}:"

    def reference(self, tag: str) -> str:
        """Return how the place is named on the command line, in the working directory."""
        return f"{self.transport}:{self.name}" + (f":{tag}" if self.tagged else "")

    def read(self, folder: Path) -> Layout:
        """Read what is there as any other tool would; this blocks."""
        path = folder / self.name
        if self.transport == "dir":
            return read_dir(path, TAG)
        if self.transport == "oci":
            return read_layout(path)
        unpacked = folder / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            with tarfile.open(path, "r:") as archive:
                archive.extractall(unpacked)  # noqa: S202 - our own archive; 3.11.2 has no filter yet
        except (OSError, tarfile.TarError) as error:
            return Layout(findings=[Finding(Flaw.ABSENT, self.name, f"cannot be read: {error}")])
        return read_layout(unpacked)

    def held(self, folder: Path) -> set[str]:
        """Return the digests that are there, with a manifest that leads to them or not; this blocks."""
        pattern = {"oci": "blobs/sha256/*", "dir": "*"}.get(self.transport, "")
        return {f"sha256:{path.name}" for path in (folder / self.name).glob(pattern)} if pattern else set()


PLACES = (
    Place("oci", "layout"),
    Place("oci-archive", "archive.tar", keeps=False),
    Place("dir", "directory", tagged=False),
)


class Copy:
    """The job: an index with a referrer over an older image, from a registry to a place on the disk."""

    step = 1

    def __init__(self, place: Place) -> None:
        self._place = place
        shared = images.random_bytes(3000, "shared")
        self._old = images.image(seed="old", layers=1, shared=[shared])
        large = images.random_bytes(3_000_000, "large")
        self._new = images.index_of(
            [
                images.image(seed="one", layers=1, shared=[shared, large]),
                images.image(seed="two", layers=2, platform="linux/arm64", shared=[shared]),
            ]
        )
        self._signature = images.artifact(subject=self._new.manifest, seed="signature")
        self._samples = [self._new, *([self._signature] if place.tagged else [])]
        self._templates: Path | None = None

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self._place.title

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Copy once, without dying."""
        async with self._source(forks, folder) as source:
            ended = await forks.run(self._order(source, folder, at=COUNTED))
            assert ended.code == 0, ended
            return ended.points

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Copy, die, look, and copy again."""
        crash = Crash(at=at)
        async with self._source(forks, folder) as source:
            first = await forks.run(self._order(source, folder, at=at))
            crash.survived = not first.was_killed
            await source.settled()
            asked = len(source.records)
            crash.problems += await self._check(folder, is_final=False)
            held = await to_thread.run_sync(self._place.held, folder)
            again = await forks.run(self._order(source, folder))
            if again.code:
                crash.problems.append(f"exit code {again.code}: {again.err}")
            crash.problems += await self._check(folder, is_final=True)
            crash.requests = len(source.records) - asked
            crash.budget = self._budget(held)
            before, after = blobs_read(source.records[:asked]), blobs_read(source.records[asked:])
            crash.repeated = sum(count for (_, digest), count in after.items() if digest in held)
            crash.resent = sum(min(count, before[blob]) for blob, count in after.items() if blob[1] not in held)
        return crash

    def _order(self, source: Remembering, folder: Path, *, at: Point = NOWHERE) -> Order:
        arguments = ("copy", f"docker://{source.host}/app:{TAG}", self._place.reference(TAG), "--quiet")
        return Order(arguments=arguments, folder=str(folder), at=at.number, kind=at.kind)

    @asynccontextmanager
    async def _source(self, forks: Forks, folder: Path) -> AsyncIterator[Remembering]:
        """Run a registry that has the image, and put the older image in the place where the new one is to go."""
        if self._templates is None:
            self._templates = folder.parent / "templates"
            async with remembering(self._templates / "source") as source:
                await fill(source.host, "app", {TAG: self._old})
                ended = await forks.run(self._order(source, self._templates))
                assert ended.code == 0, ended
                await fill(source.host, "app", {TAG: self._new, "@signature": self._signature})
        name = self._place.name
        copy = shutil.copy if (self._templates / name).is_file() else shutil.copytree
        await to_thread.run_sync(copy, self._templates / name, folder / name)
        async with remembering(self._templates / "source") as source:
            yield source

    async def _check(self, folder: Path, *, is_final: bool) -> list[str]:
        layout = await to_thread.run_sync(self._place.read, folder)
        found = layout.told(self._place.name)
        expected = [str(self._new.digest)] if is_final else [str(self._new.digest), str(self._old.digest)]
        if layout.tags.get(TAG) not in expected:
            found.append(f"the tag stands for {layout.tags.get(TAG)}")
        if self._place.transport == "oci":
            ours = await open_layout(folder / self._place.name)
            found += ours.told("opened")
            if ours.tags.get(TAG) not in expected:
                found.append(f"when it is opened, the tag stands for {ours.tags.get(TAG)}")
        if is_final:
            if self._place.tagged and str(self._signature.digest) not in layout.digests:
                found.append("the signature is missing")
            found += map(str, await to_thread.run_sync(leftovers, folder))
        return found

    def _budget(self, held: set[str]) -> int:
        """Return the most requests of a copy that finds ``held``: a list of the tags, then reference 5.5."""
        manifests = [manifest for sample in self._samples for manifest in sample.manifests]
        blobs = {str(digest) for sample in self._samples for digest in sample.blobs}
        listed = len(manifests) if self._place.tagged else 0
        return 1 + len(manifests) + listed + len(blobs - held)
