"""Measure, print the tables, and write the results: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import growth, workloads
from benchmarks.measure import version
from benchmarks.peers import SyncerRun
from benchmarks.provision import Missing, find
from benchmarks.table import render
from benchmarks.workloads import Stage, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from benchmarks.measure import Measurement

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made by mkdtemp
_GROWTH = (1_000, 10_000, 100_000)
_NOTE = """\
x: ratio to syncer run; below 1 is better than syncer. peak MB: the largest process (xargs runs 16 of them).
source, target: requests that the registry answered; least: those that the protocol asks for. read MB: what the
source sent. MB/s: the bytes of all blobs, each once, over the wall time."""

#: By name, how a workload is made at a scale from 0 to 1.
_MAKERS: dict[str, tuple[Callable[[float], Workload], ...]] = {
    "W1": (lambda scale: workloads.first_and_again(_scaled(500, scale)),),
    "W3": (
        lambda scale: workloads.large_layer(_scaled(1024**3, scale), is_secure=False),
        lambda scale: workloads.large_layer(_scaled(1024**3, scale), is_secure=True),
    ),
    "W4": (lambda scale: workloads.promotion(_scaled(100, scale)),),
    "W5": (lambda scale: workloads.first_and_again(_scaled(500, scale), delay=workloads.DELAY),),
    "W6": (lambda scale: workloads.large_images(_scaled(20, scale), 50_000_000),),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 0, or 2 when something that is needed is missing, or 1 when a tool fails."""
    options = _parser().parse_args(arguments)
    try:
        for program in ("docker-registry", "skopeo", "xargs", "curl"):
            find(program)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    # Servers and folders are cleaned up on the way out, also when somebody ends us politely.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    facts = _facts(options)
    names = options.workloads or [*_MAKERS, "W7"]
    measurements: list[Measurement] = []
    least: dict[str, tuple[int, int]] = {}
    try:
        for name in names:
            for make in _MAKERS.get(name, ()):
                workload = make(options.scale)
                least.update(zip(workload.parts, workload.least, strict=False))
                measurements += _rounds(workload, options.rounds)
            if name == "W7":
                measurements += _growth(options.scale)
    except RuntimeError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print(_headline(facts), render(measurements, least, SyncerRun().name), _NOTE, sep="\n\n")
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"{facts['when']}.json"
    document = {**facts, "least": least, "measurements": [one.to_json() for one in measurements]}
    result.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {result}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Syncer and its peers on the same servers, in the same minutes."
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="W", help=f"{', '.join(_MAKERS)} or W7 (all; W2 is measured with W1)"
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the size of everything (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes (benchmarks/results)"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _scaled(number: int, scale: float) -> int:
    return max(1, int(number * scale))


def _rounds(workload: Workload, rounds: int) -> list[Measurement]:
    """Let the tools take turns; in each round another one begins."""
    measurements: list[Measurement] = []
    with (
        tempfile.TemporaryDirectory(prefix="syncer-bench-", dir=_base()) as name,
        Stage.set_up(workload, Path(name)) as stage,
    ):
        for number in range(rounds):
            first = number % len(workload.peers)
            for peer in (*workload.peers[first:], *workload.peers[:first]):
                for measurement in stage.measure(peer, number):
                    _tell(f"round {number + 1}: {peer.name}: {measurement.workload}", measurement)
                    measurements.append(measurement)
    parts, order = list(workload.parts), [peer.name for peer in workload.peers]
    return sorted(measurements, key=lambda one: (parts.index(one.workload), order.index(one.peer), one.round))


def _growth(scale: float) -> list[Measurement]:
    found: list[Measurement] = []
    for tags in _GROWTH:
        with tempfile.TemporaryDirectory(prefix="syncer-bench-", dir=_base()) as name:
            for measurement in growth.measure(_scaled(tags, scale), Path(name)):
                _tell(f"{measurement.peer}: {measurement.workload}", measurement)
                found.append(measurement)
    return sorted(found, key=lambda one: (one.workload, one.facts["tags"]))


def _tell(what: str, measurement: Measurement) -> None:
    print(f"{what}: {measurement.usage.wall:.2f} s", file=sys.stderr)


def _base() -> Path | None:
    return _IN_MEMORY if _IN_MEMORY.is_dir() else None


def _facts(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "when": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "rounds": options.rounds,
        "scale": options.scale,
        "machine": {
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "in_memory": _IN_MEMORY.is_dir(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {
            "syncer": version(sys.executable, "-m", "syncer", "--version"),
            "skopeo": version(find("skopeo"), "--version"),
            "docker-registry": version(find("docker-registry"), "--version"),
            "curl": version(find("curl"), "--version"),
        },
    }


def _headline(facts: dict[str, Any]) -> str:
    machine = facts["machine"]
    storage = "in memory" if machine["in_memory"] else "on disk"
    return (
        f"{facts['rounds']} rounds, scale {facts['scale']:g}; {machine['cpus']} CPUs, load {machine['load'][0]:.1f};"
        f" storage {storage}\n{'; '.join(facts['versions'].values())}"
    )


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
