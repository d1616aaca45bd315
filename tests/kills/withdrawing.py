"""``syncer run`` to a target that nobody else writes, killed while it follows a tag that goes back afterwards."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from tests.kills.crashes import COUNTED, NOWHERE, Crash, Point
from tests.kills.registries import remembering
from tests.kills.running import COMMAND, wrong_with
from tests.support import images
from tests.support.forks import Order
from tests.support.layouts.findings import Layout
from tests.support.layouts.reading import leftovers, read_tree
from tests.support.world import fill, spec_between

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.kills.registries import Remembering
    from tests.support.forks import Ended, Forks

ENTRY = "name: app, from: source/app, to: target/app, referrers: false, sole_writer: true"
#: Those that move, and enough others for both sides to be listed.
MOVING, STAYING = ("v1", "v2"), ("v3", "v4", "v5", "v6")


class Withdraw:
    """The job: two tags move, the run that follows is killed, and they are what they were when the next run comes.

    What the first run has recorded is then true of the source, and no longer of the target: a run that believed it
    would say that all is in sync, and ask nobody.
    """

    name = "run, sole writer, tags go back"
    step = 1

    def __init__(self) -> None:
        self._before = {tag: images.image(seed=f"before {tag}", layers=1) for tag in MOVING}
        self._after = {tag: images.image(seed=f"after {tag}", layers=1) for tag in MOVING}
        self._others = {tag: images.image(seed=tag, layers=1) for tag in STAYING}
        self._template: Path | None = None

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Run once where the tags have moved, without dying."""
        async with self._registries(forks, folder):
            ended = await self._run(forks, folder, COUNTED)
            assert ended.code == 0, ended
            return ended.points

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Run, die, move the tags back, run again, and once more to see that nothing is left to do."""
        crash = Crash(at=at)
        async with self._registries(forks, folder) as (source, target):
            crash.survived = not (await self._run(forks, folder, at)).was_killed
            await target.settled()
            await fill(source.host, "app", self._before)
            begun = len(source.records) + len(target.records)
            crash.problems += wrong_with(await self._run(forks, folder))
            crash.requests = len(source.records) + len(target.records) - begun
            # Lists, a look at each tag on both sides; and the manifests that went back, read and written.
            crash.budget = 2 + 2 * len(MOVING + STAYING) + 2 * len(MOVING)
            done = len(target.records)
            crash.problems += wrong_with(await self._run(forks, folder))
            crash.problems += [
                f"a third run asks {record.method} {record.path}"
                for record in target.records[done:]
                if "/tags/list" not in record.path
            ]
        layout = (await to_thread.run_sync(read_tree, folder / "target")).get("app", Layout())
        crash.problems += layout.told("app")
        for tag, sample in {**self._before, **self._others}.items():
            if layout.tags.get(tag) != str(sample.digest):
                crash.problems.append(f"{tag} is {layout.tags.get(tag)} in place of {sample.digest}")
        crash.problems += [str(finding) for finding in await to_thread.run_sync(leftovers, folder)]
        return crash

    @asynccontextmanager
    async def _registries(self, forks: Forks, folder: Path) -> AsyncIterator[tuple[Remembering, Remembering]]:
        """Run both registries, the target in step as the state knows, and the tags of the source moved since."""
        if self._template is None:
            self._template = folder.parent / "template"
            async with remembering(self._template) as source:
                await fill(source.host, "app", {**self._before, **self._others})
        await to_thread.run_sync(shutil.copytree, self._template, folder / "source")
        async with remembering(folder / "source") as source, remembering(folder / "target") as target:
            await anyio.Path(folder / "spec.yaml").write_text(spec_between(source.host, target.host, ENTRY))
            ended = await self._run(forks, folder)
            assert ended.code == 0, ended
            await fill(source.host, "app", self._after)
            yield source, target

    @staticmethod
    async def _run(forks: Forks, folder: Path, at: Point = NOWHERE) -> Ended:
        return await forks.run(Order(arguments=COMMAND, folder=str(folder), at=at.number, kind=at.kind))
