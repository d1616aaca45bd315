"""``python -m tests.kills [WORDS] [--every N] [--some N]``: kill each job at its failpoints, and print what came of it.

WORDS are part of a job's name; ``--every`` takes only every N-th failpoint of a loop; ``--some`` plays N of each job,
spread evenly.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kills.crashes import every, some
from tests.kills.jobs import jobs
from tests.kills.table import TITLE, row
from tests.support.forks import forking

if TYPE_CHECKING:
    from tests.kills.crashes import Tally

_LEGEND = """\
Killed at each failpoint of each kind, until it survives them; after each kill it is run again.
committed sent again: bytes of blobs that the place they are sent to had; in flight: other bytes that were moved twice.
requests over: the most that a run after a kill asked for beyond its budget (reference 5.5)."""


async def _play(words: str, stride: int, count: int) -> list[Tally]:
    tallies: list[Tally] = []
    sys.stdout.write(f"{TITLE}\n")
    with tempfile.TemporaryDirectory() as folder:
        async with forking() as forks:
            for number, make in enumerate(jobs()):
                job = make()
                if words not in job.name:
                    continue
                place = Path(folder, str(number))
                played = (
                    some(job, forks, place, count=count, seed=1) if count else every(job, forks, place, stride=stride)
                )
                tallies.append(await played)
                sys.stdout.write(f"{row(tallies[-1])}\n")
                sys.stdout.flush()
    return tallies


def main() -> int:
    """Play and print; the exit code is 1 when something was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description="kill -9 at every step, and go on")
    parser.add_argument("words", nargs="*", help="part of a job's name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th failpoint")
    parser.add_argument("--some", type=int, default=0, metavar="N", help="only N failpoints of each job")
    arguments = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True
    tallies = asyncio.run(_play(" ".join(arguments.words), arguments.every, arguments.some))
    told = [line for tally in tallies for line in tally.told()]
    deaths = sum(len(tally.deaths) for tally in tallies)
    sys.stdout.write(f"\n{_LEGEND}\n{deaths} kills, {len(told)} not as they should be.\n")
    sys.stdout.writelines(f"{line}\n" for line in told)
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
