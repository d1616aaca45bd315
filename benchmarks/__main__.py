"""Measure, print the tables, and write the results: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import growth, table, workloads
from benchmarks.facts import facts_of, headline
from benchmarks.provision import Missing, find
from benchmarks.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from benchmarks.measure import Measurement
    from benchmarks.workloads import Part, Workload

#: What else this program does, by its first argument.
_COMMANDS = ("publish", "profile", "sweep")

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
    "W8": (lambda scale: workloads.bounded_connections(max(64 << 20, _scaled(128 << 20, scale)), rate=20_000_000.0),),
}
_GROWTHS = {growing.key: growing for growing in growth.GROWTHS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 0, or 2 when something that is needed is missing, or 1 when a tool fails."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Servers and folders are cleaned up on the way out, also when somebody ends us politely.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    if arguments and arguments[0] in _COMMANDS:
        command: Callable[[Sequence[str]], int] = import_module(f"benchmarks.{arguments[0]}").main
        return command(arguments[1:])
    options = _options(arguments)
    try:
        for program in ("docker-registry", "skopeo", "xargs", "curl"):
            find(program)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    facts = facts_of(options.rounds, options.scale)
    try:
        parts, measurements = _measure(options)
    except RuntimeError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    document = {**facts, "parts": parts, "measurements": [one.to_json() for one in measurements]}
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"{facts['when']}.json"
    result.write_text(json.dumps(document, indent=1) + "\n")
    print(headline(facts), table.text(summarize([document])), table.NOTE, f"written to {result}", sep="\n\n")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Syncer and its peers on the same servers, in the same minutes.",
        epilog=f"Also: python -m benchmarks {'|'.join(_COMMANDS)} --help",
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="W", help=f"{', '.join([*_MAKERS, *_GROWTHS])} (all; W2 is measured with W1)"
    )
    parser.add_argument("--rounds", type=_positive, help="how often everything is measured (5)")
    parser.add_argument(
        "--growth-rounds", type=_positive, default=1, help=f"the same for {' and '.join(_GROWTHS)} (%(default)s)"
    )
    parser.add_argument("--scale", type=float, help="a part of the size of everything (1.0)")
    parser.add_argument("--brief", action="store_true", help="leave out the tools that take minutes at each round")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, twice: minutes, and no more")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes (benchmarks/results)"
    )
    options = parser.parse_args(arguments)
    options.workloads = options.workloads or [*_MAKERS, *_GROWTHS]
    if unknown := set(options.workloads) - {*_MAKERS, *_GROWTHS}:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.scale = options.scale or (0.1 if options.quick else 1.0)
    return options


def _measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Measurement]]:
    """Measure all that is asked for; return the parts of the workloads with their least, and what was measured."""
    _warm_up()
    parts: list[dict[str, Any]] = []
    measurements: list[Measurement] = []
    for name in options.workloads:
        for make in _MAKERS.get(name, ()):
            workload = make(options.scale)
            if options.brief:
                workload = replace(workload, once=())
            parts += [_part(workload, part) for part in workload.parts]
            measurements += _rounds(workload, options.rounds)
        if growing := _GROWTHS.get(name):
            parts += [{"key": name, "title": step.title, "moves": step.is_first} for step in growing.steps]
            measurements += _growth(growing, options.scale, options.growth_rounds)
    return parts, measurements


def _part(workload: Workload, part: Part) -> dict[str, Any]:
    return {
        "key": workload.key,
        "title": part.title,
        "least_source": part.bound.source,
        "least_target": part.bound.target,
        "least_seconds": round(part.bound.seconds, 3),
        "moves": part.moves,
        "is_within": workload.is_within,
        "size": workload.size,
    }


def _warm_up() -> None:
    """Let every tool do something small: what is read and compiled once should not count, and all should work."""
    for workload in (workloads.first_and_again(2), workloads.large_layer(100_000, is_secure=True)):
        _rounds(workload, 1, tell=False)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _scaled(number: int, scale: float) -> int:
    return max(1, int(number * scale))


def _rounds(workload: Workload, rounds: int, *, tell: bool = True) -> list[Measurement]:
    """Let the tools take turns, and return what they took, by workload and tool."""
    measurements: list[Measurement] = []
    for measurement in workloads.in_turns(workload, rounds):
        if tell:
            _tell(f"round {measurement.round + 1}: {measurement.peer}: {measurement.workload}", measurement)
        measurements.append(measurement)
    parts, order = [part.title for part in workload.parts], [peer.name for peer in (*workload.peers, *workload.once)]
    return sorted(measurements, key=lambda one: (parts.index(one.workload), order.index(one.peer), one.round))


def _growth(growing: growth.Growth, scale: float, rounds: int) -> list[Measurement]:
    found: list[Measurement] = []
    for number in range(rounds):
        for size in growing.sizes:
            with tempfile.TemporaryDirectory(prefix="syncer-bench-", dir=workloads.in_memory()) as name:
                for measurement in growth.measure(growing, _scaled(size, scale), number, Path(name)):
                    _tell(f"{measurement.peer}: {measurement.workload}", measurement)
                    found.append(measurement)
    return sorted(found, key=lambda one: (one.facts["amount"], one.round))


def _tell(what: str, measurement: Measurement) -> None:
    print(f"{what}: {measurement.usage.wall:.2f} s", file=sys.stderr)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
