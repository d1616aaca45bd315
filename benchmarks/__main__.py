"""Measure, print the table, and write the results: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import workloads
from benchmarks.peers import PEERS, Job, SyncerRun, measured, version
from benchmarks.servers import docker_registry
from benchmarks.table import Measurement, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from benchmarks.peers import Peer
    from benchmarks.servers import Server
    from benchmarks.workloads import Image

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made by mkdtemp
_FIRST = "W1: first sync, to an empty registry"
_AGAIN = "W2: the same again, nothing changed"
_NOTE = """\
x: ratio to syncer; below 1 is better than syncer. peak MB: the largest process (xargs runs 16 of them).
source, target: requests that the registry answered. read MB: what the source sent."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What stays the same for all measurements."""

    content: Sequence[Image]
    source: Server
    folder: Path

    def job(self, peer: Peer, target: Server, repository: str, tags: Sequence[str]) -> Job:
        """Return what ``peer`` has to do, with a folder of its own."""
        folder = Path(tempfile.mkdtemp(prefix=f"{peer.name.split()[0]}-", dir=self.folder))
        return Job(source=self.source.host, target=target.host, repository=repository, tags=tags, folder=folder)

    def warm_up(self) -> None:
        """Let each tool copy one image, so that none of them pays for cold files."""
        with docker_registry(self.folder / "target") as target:
            for peer in PEERS:
                job = self.job(peer, target, workloads.WARM_UP, [self.content[0].tag])
                measured(peer.command(job), job.folder)

    def measure(self, peer: Peer, number: int) -> Iterator[Measurement]:
        """Yield the measurements of one tool in one round, on a new target.

        Raises:
            RuntimeError: when the tool fails, or the target does not hold what it should.
        """
        with docker_registry(self.folder / "target") as target:
            job = self.job(peer, target, workloads.REPOSITORY, [image.tag for image in self.content])
            command = peer.command(job)
            for workload in (_FIRST, _AGAIN):
                marks = self.source.mark(), target.mark()
                usage = measured(command, job.folder)
                yield Measurement(
                    workload=workload,
                    peer=peer.name,
                    round=number,
                    usage=usage,
                    source=self.source.traffic(marks[0]),
                    target=target.traffic(marks[1]),
                )
                if wrong := workloads.count_wrong(target.host, workloads.REPOSITORY, list(self.content)):
                    raise RuntimeError(f"{peer.name} left {wrong} tags that are not what they should be")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 when something it needs is missing, or 1 when a tool fails."""
    options = _parser().parse_args(arguments)
    if missing := [name for name in ("docker-registry", "skopeo", "xargs") if shutil.which(name) is None]:
        print(f"not found: {', '.join(missing)}; on Debian: apt-get install docker-registry skopeo", file=sys.stderr)
        return 2
    # Servers and folders are cleaned up on the way out, also when somebody ends us politely.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    facts = _facts(options.tags, options.rounds)
    try:
        measurements = _measure(options.tags, options.rounds)
    except RuntimeError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print(_headline(facts), render(measurements, SyncerRun.name), _NOTE, sep="\n\n")
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"{facts['when']}.json"
    result.write_text(json.dumps({**facts, "measurements": [one.to_json() for one in measurements]}, indent=2) + "\n")
    print(f"\nwritten to {result}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Syncer and skopeo on the same servers.")
    parser.add_argument("--tags", type=_positive, default=200, help="how many tags the repository has (%(default)s)")
    parser.add_argument("--rounds", type=_positive, default=3, help="how often everything is measured (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes (benchmarks/results)"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _measure(tags: int, rounds: int) -> list[Measurement]:
    """Set everything up and let the tools take turns; in each round another one begins."""
    measurements: list[Measurement] = []
    base = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="syncer-bench-", dir=base) as name,
        docker_registry(Path(name) / "source") as source,
    ):
        bench = Bench(content=workloads.images(tags), source=source, folder=Path(name))
        workloads.fill(source.host, workloads.REPOSITORY, list(bench.content))
        workloads.fill(source.host, workloads.WARM_UP, [bench.content[0]])
        bench.warm_up()
        for number in range(rounds):
            first = number % len(PEERS)
            for peer in (*PEERS[first:], *PEERS[:first]):
                for measurement in bench.measure(peer, number):
                    seconds = f"{measurement.usage.wall:.2f} s"
                    print(f"round {number + 1}: {peer.name}: {measurement.workload}: {seconds}", file=sys.stderr)
                    measurements.append(measurement)
    order = [peer.name for peer in PEERS]
    return sorted(measurements, key=lambda one: (one.workload, order.index(one.peer), one.round))


def _facts(tags: int, rounds: int) -> dict[str, Any]:
    return {
        "when": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "rounds": rounds,
        "workload": {
            "tags": tags,
            "shared_layers": workloads.SHARED_LAYERS,
            "shared_bytes": workloads.SHARED_BYTES,
            "unique_bytes": workloads.UNIQUE_BYTES,
        },
        "machine": {
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "in_memory": _IN_MEMORY.is_dir(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {
            "syncer": version(sys.executable, "-m", "syncer", "--version"),
            "skopeo": version("skopeo", "--version"),
            "docker-registry": version("docker-registry", "--version"),
        },
    }


def _headline(facts: dict[str, Any]) -> str:
    workload, machine = facts["workload"], facts["machine"]
    storage = "in memory" if machine["in_memory"] else "on disk"
    return (
        f"{workload['tags']} tags of {workload['shared_layers']} shared layers ({workload['shared_bytes'] // 1000} kB)"
        f" and one of their own ({workload['unique_bytes'] // 1000} kB); {facts['rounds']} rounds;"
        f" {machine['cpus']} CPUs, load {machine['load'][0]:.1f}; storage {storage}\n"
        f"{'; '.join(facts['versions'].values())}"
    )


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
