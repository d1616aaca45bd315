"""A process that records tags as fast as it can, and says how far it is, until it is killed.

Run as ``holder.py PATH FIRST``. Prints ``ready`` when it has the file, ``put N`` when record N is
queued, ``done N`` when all up to N are written.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from syncer.events import Event, TagOutcome
from syncer.oci.digest import Digest
from syncer.plan.records import TagRecord
from syncer.state import StateStore


class Deaf:
    """An observer that does not listen."""

    def notify(self, event: Event) -> None:
        """Ignore ``event``."""


def say(text: str) -> None:
    """Write a line that survives a kill."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(path: Path, first: int) -> None:
    """Record without end."""
    async with StateStore.open(path, observer=Deaf()) as store:
        run = await store.begin_run("spec.yaml")
        say("ready")
        number = first
        while True:
            digest = Digest.of(str(number).encode())
            await store.record_tag(
                TagRecord(
                    run=run,
                    entry="entry",
                    source="s.io/a",
                    target="t.io/a",
                    tag=f"v{number:07}",
                    outcome=TagOutcome.COPIED,
                    target_digest=digest,
                )
            )
            await store.record_content("t.io", "a", [digest])
            say(f"put {number}")
            if number % 1000 == 999:
                await store.flush()
                say(f"done {number}")
            number += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
