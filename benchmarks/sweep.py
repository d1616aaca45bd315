"""Adaptive windows beside fixed ones: ``python -m benchmarks sweep``, or ``make sweep``.

The same sync, on loopback and at 50 ms round trip, with windows of each fixed size and with those that
find their size; all take turns. What is told is how near the latter come to the best of the former.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import table, workloads
from benchmarks.facts import facts_of, headline
from benchmarks.peers import SyncerRun
from benchmarks.provision import Missing
from benchmarks.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Measurement
    from benchmarks.peers import Job
    from benchmarks.workloads import Workload

_TAGS = 500
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: A size below this is measured once at a long round trip: it takes minutes there, and is never the best.
_SMALL = 8


class Pinned(SyncerRun):
    """Syncer with windows of a fixed size."""

    def __init__(self, size: int) -> None:
        super().__init__(name=str(size))
        self.size = size

    def command(self, job: Job) -> list[str]:
        """Write the spec and return the command."""
        python, module, _, *arguments = super().command(job)
        return [python, module, "benchmarks.pinned", self.name, *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the tables; return 0, or 2 when something that is needed is missing, or 1 when a run fails."""
    options = _options(arguments)
    tags = max(1, int(_TAGS * options.scale))
    parts: list[dict[str, Any]] = []
    found: list[Measurement] = []
    try:
        facts = facts_of(options.rounds, options.scale)
        for round_trip in options.round_trips:
            workload = swept(tags, round_trip / 2000, options.sizes)
            # The names of W1 and W2 far away begin with that of W5; on loopback the round trip has no name.
            near = "" if round_trip else " on loopback"
            titles = {part.title: f"{part.title.removeprefix('W5, ')}{near}" for part in workload.parts}
            parts += [{"key": table.SWEEP, "title": title} for title in titles.values()]
            for one in workloads.in_turns(workload, options.rounds):
                print(f"{titles[one.workload]}: {one.peer}: {one.usage.wall:.2f} s", file=sys.stderr)
                found.append(replace(one, workload=titles[one.workload]))
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 1
    order = [*map(str, options.sizes), table.ADAPTIVE]
    found.sort(key=lambda one: (order.index(one.peer), one.round))
    document = {**facts, "parts": parts, "measurements": [one.to_json() for one in found]}
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"{facts['when']}-sweep.json"
    result.write_text(json.dumps(document, indent=1) + "\n")
    print(headline(facts), table.text(summarize([document])), f"written to {result}", sep="\n\n")
    return 0


def swept(tags: int, delay: float, sizes: Sequence[int]) -> Workload:
    """Return W1 and W2, or W5 with a ``delay``, for windows of each size and for those that find theirs."""
    peers = [Pinned(size) for size in sizes]
    slow = [peer for peer in peers if delay and peer.size < _SMALL]
    return replace(
        workloads.first_and_again(tags, delay=delay),
        peers=(*(peer for peer in peers if peer not in slow), SyncerRun(name=table.ADAPTIVE)),
        once=slow,
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks sweep", description="Windows that find their size, beside fixed ones."
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help=f"a part of the {_TAGS} images that are copied (%(default)s)"
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=_SIZES, help="fixed sizes (1 to 256)")
    parser.add_argument(
        "--round-trips", type=float, nargs="*", default=(0.0, 50.0), metavar="MS", help="milliseconds (0 and 50)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes (benchmarks/results)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
