"""Results as tables of medians, with their spread and their ratio to Syncer's, and the least beside them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.measure import Measurement
    from benchmarks.servers import Traffic

_MEGA = 1_000_000
_HEADINGS = ("", "wall s", "min..max", "x", "CPU s", "x", "peak MB", "source", "target", "read MB", "MB/s")


def render(measurements: Sequence[Measurement], least: Mapping[str, tuple[int, int]], reference: str) -> str:
    """Return the tables of all workloads; ratios are to the peer ``reference``, where it takes part.

    ``least`` has the requests that the protocol asks for, to the source and to the target.
    """
    workloads = dict.fromkeys(one.workload for one in measurements)
    return "\n\n".join(
        _workload(workload, [one for one in measurements if one.workload == workload], least.get(workload), reference)
        for workload in workloads
    )


def _workload(title: str, measurements: Sequence[Measurement], least: tuple[int, int] | None, reference: str) -> str:
    by_peer: dict[str, list[Measurement]] = {}
    for one in measurements:
        by_peer.setdefault(one.peer, []).append(one)
    own = by_peer.get(reference, measurements)
    rows = [_HEADINGS, *(_row(peer, rounds, own) for peer, rounds in by_peer.items())]
    if least is not None:
        bound = ("least", "", "", "", "", "", "", *(f"{count}" for count in least), "", "")
        rows.append(bound)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [title]
    for row in rows:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(["  " + first, *others]).rstrip())
    lines.append("  requests by kind, source | target")
    for peer, rounds in by_peer.items():
        source, target = (", ".join(_kinds([getattr(one, side) for one in rounds])) for side in ("source", "target"))
        lines.append(f"    {peer.ljust(widths[0])}  {source} | {target}")
    return "\n".join(lines)


def _row(peer: str, rounds: Sequence[Measurement], own: Sequence[Measurement]) -> tuple[str, ...]:
    walls = [one.usage.wall for one in rounds]
    wall, cpu = median(walls), median(one.usage.cpu for one in rounds)
    own_wall, own_cpu = median(one.usage.wall for one in own), median(one.usage.cpu for one in own)
    speed = median(one.facts.get("bytes_per_second", 0.0) for one in rounds)
    return (
        peer,
        f"{wall:.2f}",
        f"{min(walls):.2f}..{max(walls):.2f}",
        f"{wall / own_wall:.2f}",
        f"{cpu:.2f}",
        f"{cpu / own_cpu:.2f}",
        f"{max(one.usage.memory for one in rounds) / _MEGA:.0f}",
        f"{median(one.source.requests.total() for one in rounds):.0f}",
        f"{median(one.target.requests.total() for one in rounds):.0f}",
        f"{median(one.source.sent for one in rounds) / _MEGA:.1f}",
        f"{speed / _MEGA:.0f}" if speed else "",
    )


def _kinds(traffic: Sequence[Traffic]) -> Iterator[str]:
    """Yield each kind of request with its median count, the most frequent first."""
    counts = {kind: median(one.requests[kind] for one in traffic) for one in traffic for kind in one.requests}
    for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"{count:.0f} {kind}"
