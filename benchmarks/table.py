"""Summaries as tables: of text for a terminal, of Markdown for the page."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.summary import Row, Section, Summary

#: The workload whose rows are sizes of windows, and the row whose windows find their size.
SWEEP = "sweep"
ADAPTIVE = "adaptive"

_MEGA = 1_000_000
_SWEEP = ("at once", "wall s", "min..max", "x of best fixed", "CPU s", "registries CPU s", "peak MB")
_GROWTH = ("", "wall s", "min..max", "ms each", "CPU s", "peak MB", "source", "least", "target", "least")
_GLANCE = ("", "Syncer s", "best of skopeo", "s", "x", "Syncer's requests", "least")
_REACH = ("", "floor s", "compared with", "its s", "x of Syncer", "x at the floor")

NOTE = """\
x: ratio to syncer run; above 1 is worse than Syncer. CPU: of the tool and its children, without the registries.
CPU s/GiB: without what the tool takes for something tiny. floor: the registries' CPU seconds by the number of CPUs.
peak MB: the largest process (xargs runs many). source, target: requests that the registry answered. sent: bodies
that the source sent; taken: what the target read. MB/s: the bytes of all blobs, each once, over the wall time."""

Cells: TypeAlias = tuple[str, ...]


def text(summary: Summary) -> str:
    """Return all workloads as tables of text."""
    return "\n\n".join(
        "\n".join((section.title, _text(_rows(section)), *(f"    {line}" for line in _below(section))))
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


def reach(summary: Summary) -> str:
    """Return a line of Markdown for each peer in each workload: how much faster Syncer is, and how much one can be.

    Empty where the registries' CPU seconds are not known.
    """
    rows: list[Cells] = []
    for section in summary.sections:
        own, floor = section.own, section.floor
        if own is None or not floor:
            continue
        for peer in section.peers:
            theirs = median(peer.wall)
            rows.append((
                section.title,
                f"{floor:.2f}",
                peer.peer,
                f"{theirs:.2f}",
                f"{theirs / median(own.wall):.2f}",
                f"{theirs / floor:.2f}",
            ))  # fmt: skip
    return _markdown([_REACH, *rows]) if rows else ""


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


def _below(section: Section) -> list[str]:
    return [verdict(section)] if section.key == SWEEP else kinds(section)


def _both(section: Section, counts: Sequence[float]) -> str:
    """Return the counts of both sides, or of the one registry that is both."""
    return f"{counts[0]:,.0f}" if section.is_within else " + ".join(f"{count:,.0f}" for count in counts)


class _Column(NamedTuple):
    """A column: what a row says in it, beside Syncer's own row, and what the least is."""

    heading: str
    cell: Callable[[Section, Row, Row], str]
    least: Callable[[Section, Row], str] = lambda _section, _own: ""


def _seconds_of(section: Section, own: Row) -> str:
    seconds = section.least_seconds
    return f"{seconds / median(own.wall):.2f}" if seconds else ""


def _bytes_of(section: Section) -> str:
    return f"{(section.size if section.moves else 0) / _MEGA:.1f}"


_COLUMNS = (
    _Column("", lambda _section, row, _own: row.peer, lambda _section, _own: "least"),
    _Column(
        "wall s",
        lambda _section, row, _own: f"{median(row.wall):.2f}",
        lambda section, _own: f"{section.least_seconds:.2f}" if section.least_seconds else "",
    ),
    _Column("min..max", lambda _section, row, _own: _range(row.wall)),
    _Column("x", lambda _section, row, own: f"{median(row.wall) / median(own.wall):.2f}", _seconds_of),
    _Column("CPU s", lambda _section, row, _own: f"{median(row.cpu):.2f}"),
    _Column("x", lambda _section, row, own: f"{median(row.cpu) / median(own.cpu):.2f}"),
    _Column("CPU s/GiB", lambda section, row, _own: f"{row.marginal(section.size):.2f}" if row.started else ""),
    _Column("registries CPU s", lambda _section, row, _own: f"{median(row.served):.2f}" if row.served else ""),
    _Column(
        "floor s",
        lambda section, row, _own: f"{row.floor(section.cpus):.2f}" if row.served and section.cpus else "",
        lambda section, _own: f"{section.floor:.2f}" if section.floor else "",
    ),
    _Column("peak MB", lambda _section, row, _own: f"{row.memory / _MEGA:.0f}"),
    _Column("source", lambda _section, row, _own: f"{total(row.source):,.0f}",
            lambda section, _own: f"{section.least_source:,}"),
    _Column(
        "target",
        lambda section, row, _own: "same" if section.is_within else f"{total(row.target):,.0f}",
        lambda section, _own: "same" if section.is_within else f"{section.least_target:,}",
    ),
    _Column("sent MB", lambda _section, row, _own: f"{row.sent / _MEGA:.1f}", lambda section, _own: _bytes_of(section)),
    _Column(
        "taken MB",
        lambda _section, row, _own: f"{row.taken / _MEGA:.1f}",
        lambda section, _own: "same" if section.is_within else _bytes_of(section),
    ),
    _Column(
        "MB/s",
        lambda section, row, _own: f"{section.size / _MEGA / median(row.wall):.0f}" if section.moves else "",
    ),
)  # fmt: skip


def _rows(section: Section) -> list[Cells]:
    if section.key == SWEEP:
        return [_SWEEP, *_sweep(section)]
    if any(row.amount for row in section.rows):
        return [_GROWTH, *(_growth(row) for row in section.rows)]
    own = section.own or section.rows[0]
    columns = [column for column in _COLUMNS if _is_known(column, section)]
    return [
        tuple(column.heading for column in columns),
        *(tuple(column.cell(section, row, own) for column in columns) for row in section.rows),
        tuple(column.least(section, own) for column in columns),
        *(_own_least(columns, row) for row in section.rows if row.has_own_least),
    ]


def _own_least(columns: Sequence[_Column], row: Row) -> Cells:
    """Return the least requests of a tool that was told more than the others."""
    cells = {"": f"least, {row.peer}", "source": f"{row.least_source:,}", "target": f"{row.least_target:,}"}
    return tuple(cells.get(column.heading, "") for column in columns)


def _is_known(column: _Column, section: Section) -> bool:
    """Tell whether any tool has something to say in a column."""
    own = section.own or section.rows[0]
    return not column.heading or any(column.cell(section, row, own) for row in section.rows)


def _sweep(section: Section) -> list[Cells]:
    """Return a row for each size of windows, beside the best of the fixed ones."""
    best = min(median(row.wall) for row in _fixed(section))
    return [
        (
            row.peer,
            f"{median(row.wall):.2f}",
            _range(row.wall),
            f"{median(row.wall) / best:.2f}",
            f"{median(row.cpu):.2f}",
            f"{median(row.served):.2f}" if row.served else "",
            f"{row.memory / _MEGA:.0f}",
        )
        for row in section.rows
    ]


def verdict(section: Section) -> str:
    """Return how near the windows that find their size come to the best fixed one, of a sweep."""
    best = min(_fixed(section), key=lambda row: median(row.wall))
    adaptive = next((row for row in section.rows if row.peer == ADAPTIVE), best)
    ratio = median(adaptive.wall) / median(best.wall)
    return f"{adaptive.peer} takes {ratio:.2f} of the time of the best fixed size, {best.peer} at once"


def _fixed(section: Section) -> list[Row]:
    return [row for row in section.rows if row.peer != ADAPTIVE] or list(section.rows)


def _growth(row: Row) -> Cells:
    wall = median(row.wall)
    return (
        row.peer,
        f"{wall:.2f}",
        _range(row.wall),
        f"{1000 * wall / row.amount:.3f}",
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
