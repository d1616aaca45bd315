"""Summaries as tables: of text for a terminal, of Markdown for the page."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.summary import Row, Section, Summary

_MEGA = 1_000_000
_HEADINGS = ("", "wall s", "min..max", "x", "CPU s", "x", "peak MB", "source", "target", "sent MB", "taken MB", "MB/s")
_GROWTH = ("", "wall s", "min..max", "ms/tag", "CPU s", "peak MB", "source", "least", "target", "least")
_GLANCE = ("", "Syncer s", "best of skopeo", "s", "x", "Syncer's requests", "least")

NOTE = """\
x: ratio to syncer run; above 1 is worse than Syncer. CPU: of the tool and its children, without the registries.
peak MB: the largest process (xargs runs many). source, target: requests that the registry answered. sent: bodies
that the source sent; taken: what the target read. MB/s: the bytes of all blobs, each once, over the wall time."""

Cells: TypeAlias = tuple[str, ...]


def text(summary: Summary) -> str:
    """Return all workloads as tables of text."""
    return "\n\n".join(
        "\n".join((section.title, _text(_rows(section)), *(f"    {line}" for line in kinds(section))))
        for section in summary.sections
    )


def markdown(section: Section) -> str:
    """Return a workload as a table of Markdown."""
    return _markdown(_rows(section))


def glance(summary: Summary) -> str:
    """Return a line of Markdown for each workload that has peers: Syncer, the best of them, the least."""
    rows: list[Cells] = [_GLANCE]
    for section in summary.sections:
        own, peer = section.own, section.best_peer
        if own is None or peer is None:
            continue
        mine, theirs = median(own.wall), median(peer.wall)
        least = [section.least_source, section.least_target]
        rows.append((
            section.title,
            f"{mine:.2f}",
            peer.peer,
            f"{theirs:.2f}",
            f"{theirs / mine:.2f}",
            _both(section, [total(own.source), total(own.target)]),
            _both(section, least),
        ))  # fmt: skip
    return _markdown(rows)


def kinds(section: Section) -> list[str]:
    """Return a line for each tool: its requests by kind, to the source and to the target."""
    lines = []
    for row in section.rows:
        sides = [row.source] if section.is_within else [row.source, row.target]
        asked = " | ".join(", ".join(f"{count:,.0f} {kind}" for kind, count in side.items()) for side in sides)
        lines.append(f"{row.peer}: {asked}")
    return lines


def total(requests: Mapping[str, float]) -> float:
    """Return how many requests there were of all kinds."""
    return sum(requests.values())


def _both(section: Section, counts: Sequence[float]) -> str:
    """Return the counts of both sides, or of the one registry that is both."""
    return f"{counts[0]:,.0f}" if section.is_within else " + ".join(f"{count:,.0f}" for count in counts)


def _rows(section: Section) -> list[Cells]:
    if any(row.tags for row in section.rows):
        return [_GROWTH, *(_growth(row) for row in section.rows)]
    own = section.own or section.rows[0]
    rows = [_HEADINGS, *(_row(section, row, own) for row in section.rows)]
    seconds = section.least_seconds
    wall = (f"{seconds:.2f}", "", f"{seconds / median(own.wall):.2f}") if seconds else ("", "", "")
    target = "same" if section.is_within else f"{section.least_target:,}"
    return [*rows, ("least", *wall, "", "", "", f"{section.least_source:,}", target, *_least_bytes(section), "")]


def _least_bytes(section: Section) -> Cells:
    size = section.size if section.moves else 0
    return (f"{size / _MEGA:.1f}", "same" if section.is_within else f"{size / _MEGA:.1f}")


def _row(section: Section, row: Row, own: Row) -> Cells:
    wall, cpu = median(row.wall), median(row.cpu)
    return (
        row.peer,
        f"{wall:.2f}",
        _range(row.wall),
        f"{wall / median(own.wall):.2f}",
        f"{cpu:.2f}",
        f"{cpu / median(own.cpu):.2f}",
        f"{row.memory / _MEGA:.0f}",
        f"{total(row.source):,.0f}",
        "same" if section.is_within else f"{total(row.target):,.0f}",
        f"{row.sent / _MEGA:.1f}",
        f"{row.taken / _MEGA:.1f}",
        f"{section.size / _MEGA / wall:.0f}" if section.moves else "",
    )


def _growth(row: Row) -> Cells:
    wall = median(row.wall)
    return (
        row.peer,
        f"{wall:.2f}",
        _range(row.wall),
        f"{1000 * wall / row.tags:.3f}",
        f"{median(row.cpu):.2f}",
        f"{row.memory / _MEGA:.0f}",
        f"{total(row.source):,.0f}",
        f"{row.least_source:,}",
        f"{total(row.target):,.0f}",
        f"{row.least_target:,}",
    )


def _range(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.2f}..{max(seconds):.2f}" if len(seconds) > 1 else "once"


def _text(rows: Sequence[Cells]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(["  " + first, *others]).rstrip())
    return "\n".join(lines)


def _markdown(rows: Sequence[Cells]) -> str:
    headings, *others = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    rule = ["---", *["--:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *others))
