"""Many small runs in one process, which tells what it holds from time to time.

Run as ``soak.py FOLDER RUNS EVERY``; prints one JSON object for each look, after every ``EVERY`` runs. Runs come
in turns of four: a first copy, one with nothing to do, one that fails in part, and one that is stopped.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import anyio
from anyio import to_thread

from syncer.events import BlobStarted, Event, RunStatus
from tests.support.images import image, index
from tests.support.resources import Held
from tests.support.world import embedded, fill, run, spec_between

SAMPLES = {"v1": image(seed="soak", layers=2, size=20_000), "v2": index(seed="soak", size=5_000)}


class Stopper:
    """Stops a run at its first blob."""

    def __init__(self) -> None:
        self.stop = anyio.Event()

    def notify(self, event: Event) -> None:
        """Take note of ``event``."""
        if isinstance(event, BlobStarted):
            self.stop.set()


async def turn(folder: Path, source: str) -> None:
    """Do four runs, against a new target and with a new state; nothing of it is left."""
    async with embedded(folder / "target", on_request=None) as target:
        stopper = Stopper()
        text = spec_between(source, target.host, "from: source/app, to: target/other")
        stopped = await run(text, folder, stopper, stop=stopper.stop)
        assert stopped.status is RunStatus.INTERRUPTED, stopped
        text = spec_between(source, target.host, "from: source/app, to: target/app")
        assert (await run(text, folder)).status is RunStatus.DONE
        assert (await run(text, folder)).status is RunStatus.DONE
        missing = spec_between(
            source, target.host, "from: source/app, to: target/app", "from: source/no, to: target/no"
        )
        assert (await run(missing, folder)).status is RunStatus.FAILED
    await to_thread.run_sync(shutil.rmtree, folder)


async def main(folder: Path, runs: int, every: int) -> None:
    """Do ``runs`` runs."""
    async with embedded(folder / "source", on_request=None) as source:
        await fill(source.host, "app", SAMPLES)
        for at in range(0, runs, 4):
            work = folder / "work"
            await to_thread.run_sync(work.mkdir)
            await turn(work, source.host)
            if (at + 4) % every < 4:
                sys.stdout.write(json.dumps(asdict(Held.now())) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
