"""Results as JSON, and as a table of medians with their spread and their ratio to Syncer's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.peers import Usage
    from benchmarks.servers import Traffic

_MEGA = 1_000_000
_HEADINGS = ("", "wall s", "min..max", "x", "CPU s", "x", "peak MB", "source", "target", "read MB")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One tool, one workload, one round."""

    workload: str
    peer: str
    round: int
    usage: Usage
    source: Traffic
    target: Traffic

    def to_json(self) -> dict[str, Any]:
        """Return the plain data: seconds, bytes, and requests by kind."""
        return {
            "workload": self.workload,
            "peer": self.peer,
            "round": self.round,
            **asdict(self.usage),
            "source": self.source.to_json(),
            "target": self.target.to_json(),
        }


def render(measurements: Sequence[Measurement], reference: str) -> str:
    """Return the tables of all workloads; ratios are to the peer ``reference``."""
    workloads = dict.fromkeys(one.workload for one in measurements)
    return "\n\n".join(
        _workload(workload, [one for one in measurements if one.workload == workload], reference)
        for workload in workloads
    )


def _workload(title: str, measurements: Sequence[Measurement], reference: str) -> str:
    by_peer: dict[str, list[Measurement]] = {}
    for one in measurements:
        by_peer.setdefault(one.peer, []).append(one)
    own = by_peer[reference]
    rows = [_HEADINGS, *(_row(peer, rounds, own) for peer, rounds in by_peer.items())]
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
    return (
        peer,
        f"{wall:.2f}",
        f"{min(walls):.2f}..{max(walls):.2f}",
        f"{wall / own_wall:.2f}",
        f"{cpu:.2f}",
        f"{cpu / own_cpu:.2f}",
        f"{median(one.usage.memory for one in rounds) / _MEGA:.0f}",
        f"{median(one.source.requests.total() for one in rounds):.0f}",
        f"{median(one.target.requests.total() for one in rounds):.0f}",
        f"{median(one.source.sent for one in rounds) / _MEGA:.1f}",
    )


def _kinds(traffic: Sequence[Traffic]) -> Iterator[str]:
    """Yield each kind of request with its median count, the most frequent first."""
    counts = {kind: median(one.requests[kind] for one in traffic) for one in traffic for kind in one.requests}
    for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"{count:.0f} {kind}"
