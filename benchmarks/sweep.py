"""Adaptive windows beside fixed ones: ``python -m benchmarks sweep``.

The same sync, on loopback and at 50 ms round trip, with windows of each fixed size and with those that
find their size; all take turns. What is told is how near the latter come to the best of the former.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import workloads
from benchmarks.peers import SyncerRun
from benchmarks.provision import Missing, find
from benchmarks.workloads import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measure import Usage
    from benchmarks.peers import Job

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made by mkdtemp
_SIZES = (4, 8, 16, 32, 64, 128, 256)
_ADAPTIVE = "adaptive"
_MEGA = 1_000_000
_HEADINGS = ("at once", "wall s", "min..max", "x of best fixed", "CPU s", "peak MB")


class Pinned(SyncerRun):
    """Syncer with windows of a fixed size."""

    def __init__(self, size: int) -> None:
        super().__init__(name=str(size))

    def command(self, job: Job) -> list[str]:
        """Write the spec and return the command."""
        python, module, _, *arguments = super().command(job)
        return [python, module, "benchmarks.pinned", self.name, *arguments]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the tables; return 0, or 2 when something that is needed is missing, or 1 when a run fails."""
    options = _options(arguments)
    peers = [*(Pinned(size) for size in options.sizes), SyncerRun(name=_ADAPTIVE)]
    found: dict[str, dict[str, list[Usage]]] = {}
    try:
        find("docker-registry")
        for delay in options.round_trips:
            for part, peer, usage in _rounds(options.tags, delay / 2000, peers, options.rounds):
                found.setdefault(part, {}).setdefault(peer, []).append(usage)
                print(f"{part}: {peer}: {usage.wall:.2f} s", file=sys.stderr)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 1
    print(f"{options.tags} tags, {options.rounds} rounds, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for part, by_peer in found.items():
        print("", *table(part, by_peer), sep="\n")
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"{when}-sweep.json"
    result.write_text(json.dumps({"when": when, "tags": options.tags, "sweep": _document(found)}, indent=1) + "\n")
    print(f"\nwritten to {result}")
    return 0


def table(part: str, by_peer: dict[str, list[Usage]]) -> Iterator[str]:
    """Yield the lines of one table: a row for each size, the adaptive one last, and how it compares."""
    walls = {peer: median(usage.wall for usage in usages) for peer, usages in by_peer.items()}
    fixed = {peer: wall for peer, wall in walls.items() if peer != _ADAPTIVE} or walls
    best = min(fixed, key=lambda peer: fixed[peer])
    rows = [_HEADINGS]
    for peer, usages in by_peer.items():
        spread = f"{min(usage.wall for usage in usages):.2f}..{max(usage.wall for usage in usages):.2f}"
        cpu = median(usage.cpu for usage in usages)
        memory = max(usage.memory for usage in usages) / _MEGA
        ratio = walls[peer] / fixed[best]
        rows.append((peer, f"{walls[peer]:.2f}", spread, f"{ratio:.2f}", f"{cpu:.2f}", f"{memory:.0f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    yield part
    for row in rows:
        yield "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    if _ADAPTIVE in walls:
        yield f"  adaptive takes {walls[_ADAPTIVE] / fixed[best]:.2f} of the best fixed size's time ({best} at once)"


def _rounds(tags: int, delay: float, peers: Sequence[SyncerRun], rounds: int) -> Iterator[tuple[str, str, Usage]]:
    """Let all sizes take turns; in each round another one begins."""
    workload = replace(workloads.first_and_again(tags, delay=delay), peers=peers)
    base = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="syncer-bench-", dir=base) as name,
        Stage.set_up(workload, Path(name)) as stage,
    ):
        for number in range(rounds):
            first = number % len(peers)
            for peer in (*peers[first:], *peers[:first]):
                for measurement in stage.measure(peer, number):
                    yield measurement.workload, peer.name, measurement.usage


def _document(found: dict[str, dict[str, list[Usage]]]) -> dict[str, Any]:
    return {
        part: {
            peer: [{"wall": one.wall, "cpu": one.cpu, "memory": one.memory} for one in usages]
            for peer, usages in by_peer.items()
        }
        for part, by_peer in found.items()
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks sweep", description="Windows that find their size, beside fixed ones."
    )
    parser.add_argument("--tags", type=int, default=500, help="images that are copied (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument("--sizes", type=int, nargs="*", default=_SIZES, help="fixed sizes (4 to 256)")
    parser.add_argument(
        "--round-trips", type=float, nargs="*", default=(0.0, 50.0), metavar="MS", help="milliseconds (0 and 50)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes (benchmarks/results)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
