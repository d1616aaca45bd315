"""Write docs/performance.md: ``python -m benchmarks publish FILE…``.

The files are what measuring, sweeping and profiling wrote into benchmarks/results/. What they come to is kept in
benchmarks/results/published.json, and the page's tables and charts are made of that and nothing else. What was
published before stays where no file has the same workload. The prose between the tables is edited in the page
itself. Without a file, the page is made again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import table
from benchmarks.chart import Series, chart
from benchmarks.growth import GROWTHS
from benchmarks.summary import Row, Section, Summary, from_text, summarize, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[1]
SUMMARY = Path("benchmarks/results/published.json")
PAGE = Path("docs/performance.md")
CHARTS = Path("docs/performance")
_BLOCK = re.compile(r"(<!-- measured: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NOTHING = "Not measured yet."
_SHOWN = 15
_FLOOR = "How much faster than skopeo any client could have been here, its own work done for free:"

#: What is drawn of a growth: a file's name, a title, the unit, and a row's number.
_DRAWN: tuple[tuple[str, str, str, Callable[[Row], float]], ...] = (
    ("seconds", "Seconds", "seconds", lambda row: median(row.wall)),
    ("requests", "Requests", "requests, both sides", lambda row: table.total(row.source) + table.total(row.target)),
    ("memory", "Peak memory", "MB", lambda row: row.memory / 1_000_000),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish files; return 0, or 2 when one cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks publish",
        description="Write docs/performance.md. A later file replaces what an earlier one, or the page, has of the"
        " same workload.",
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="results of runs, sweeps and profiles")
    parser.add_argument("--whole", action="store_true", help="leave out files of trials, at another scale than 1")
    parser.add_argument("--anew", action="store_true", help="forget what was published before")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        documents = [json.loads(file.read_text()) for file in options.files]
        wanted = [one for one in documents if not options.whole or one.get("scale", 1.0) == 1.0]
        before = Summary() if options.anew else from_text((options.root / SUMMARY).read_text())
        summary = summarize(wanted, before)
        written = files_of(summary, (options.root / PAGE).read_text())
    except (OSError, ValueError, KeyError) as error:
        print(f"cannot publish: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for path, content in written.items():
        (options.root / path).parent.mkdir(parents=True, exist_ok=True)
        (options.root / path).write_text(content)
        print(f"written: {path}")
    for chart_file in (options.root / CHARTS).glob("*.svg"):
        if chart_file.relative_to(options.root) not in written:
            chart_file.unlink()
            print(f"removed: {chart_file.relative_to(options.root)}")
    return 0


def files_of(summary: Summary, page: str) -> dict[Path, str]:
    """Return what is written for a summary: itself, the charts, and ``page`` with its blocks filled again.

    Raises:
        ValueError: when the page has no place for a workload, or a place for something unknown.
    """
    keys = {section.key for section in summary.sections}
    places = {match["name"] for match in _BLOCK.finditer(page)}
    if missing := keys - places:
        raise ValueError(f"{PAGE} has no place for {', '.join(sorted(missing))}: <!-- measured: NAME -->")
    filled = _BLOCK.sub(lambda match: f"{match[1]}{_block(match['name'], summary)}\n{match[3]}", page)
    return {SUMMARY: to_text(summary), **dict(_charts(summary)), PAGE: filled}


def _block(name: str, summary: Summary) -> str:
    if name == "runs":
        return "\n".join(map(_run, summary.runs)) or _NOTHING
    if name == "glance":
        return _glance(summary)
    if name == "profiles":
        return "\n\n".join(map(_profile, summary.profiles)) or _NOTHING
    if name == table.SWEEP:
        charts = [f"![{title}]({CHARTS.name}/{file}.svg)" for file, title, _ in _sweeps(summary)]
        return "\n\n".join([*map(_sweep, _of(summary, name)), *charts]) or _NOTHING
    if not re.fullmatch(r"W[0-9]", name):
        raise ValueError(f"{PAGE} has a place for something unknown: {name}")
    sections = _of(summary, name)
    if not sections:
        return _NOTHING
    parts = [_section(section) for section in sections]
    parts += [f"![{title}]({CHARTS.name}/{file})" for file, (title, *_) in _growths(name, sections).items()]
    return "\n\n".join(parts)


def _of(summary: Summary, key: str) -> list[Section]:
    return [section for section in summary.sections if section.key == key]


def _run(run: Mapping[str, Any]) -> str:
    machine, versions = run["machine"], run["versions"]
    storage = "in memory" if machine["in_memory"] else "on disk"
    trial = "" if run["scale"] == 1 else f" **At scale {run['scale']:g}: a trial of the machinery, not a result.**"
    return (
        f"- Run {run['when']}: rounds: {run['rounds']}; {machine['cpus']} CPUs ({machine['processor']}), load"
        f" {machine['load'][0]:.1f} at the beginning; storage {storage}; {machine['system']};"
        f" Python {machine['python']}; {'; '.join(versions.values())}.{trial}"
    )


def _section(section: Section) -> str:
    asked = "\n".join(f"- {line}" for line in table.kinds(section))
    sides = "" if section.is_within else ", source | target"
    return (
        f"**{section.title}** (run {section.when})\n\n{table.markdown(section)}\n\n"
        f"<details><summary>Requests by kind{sides}</summary>\n\n{asked}\n\n</details>"
    )


def _glance(summary: Summary) -> str:
    if not any(section.own and section.best_peer for section in summary.sections):
        return _NOTHING
    reach = table.reach(summary)
    return "\n\n".join([table.glance(summary), *([f"{_FLOOR}\n\n{reach}"] if reach else [])])


def _sweep(section: Section) -> str:
    return f"**{section.title}** (run {section.when}): {table.verdict(section)}.\n\n{table.markdown(section)}"


def _profile(profile: Mapping[str, Any]) -> str:
    tables = []
    for heading in ("where", "function"):
        rows = [f"| `{name}` | {100 * share:.1f} % |" for name, share in profile[heading][:_SHOWN]]
        tables.append("\n".join([f"| {heading} | share of CPU |", "| --- | --: |", *rows]))
    return "\n\n".join([f"**{profile['title']}** ({profile['profiler']}, run {profile['when']})", *tables])


def _charts(summary: Summary) -> Iterator[tuple[Path, str]]:
    for file, title, sections in _sweeps(summary):
        swept = [
            Series(
                name=section.title.rpartition(" tags ")[2],
                points=[(float(row.peer), median(row.wall)) for row in section.rows if row.peer.isdigit()],
                level=next((median(row.wall) for row in section.rows if row.peer == table.ADAPTIVE), 0.0),
            )
            for section in sections
        ]
        yield CHARTS / f"{file}.svg", chart(title, "requests at once", "seconds", swept, is_growth=False)
    for growth in GROWTHS:
        for file, drawn in _growths(growth.key, _of(summary, growth.key)).items():
            yield CHARTS / file, chart(*drawn)


def _growths(key: str, sections: Sequence[Section]) -> dict[str, tuple[str, str, str, list[Series]]]:
    """Return the charts of a growth by file: title, axes and lines; none of what did not grow, or was not measured."""
    growth = next((one for one in GROWTHS if one.key == key), None)
    measured = [section for section in sections if section.rows]
    if growth is None or not measured:
        return {}
    return {
        f"{growth.noun}-{file}.svg": (
            f"{title} by number of {growth.noun}",
            growth.noun,
            unit,
            [
                Series(
                    name=section.title.removeprefix(f"{key}: "),
                    points=[(row.amount, number(row)) for row in section.rows],
                )
                for section in measured
            ],
        )
        for file, title, unit, number in _DRAWN
    }


def _sweeps(summary: Summary) -> Iterator[tuple[str, str, list[Section]]]:
    """Yield for W1 and for W2 a chart's file, its title, and the sweeps that it shows, near and far."""
    swept = _of(summary, table.SWEEP)
    for workload in dict.fromkeys(section.title.partition(":")[0] for section in swept):
        sections = [section for section in swept if section.title.startswith(f"{workload}:")]
        title, tags, _ = sections[0].title.rpartition(" tags ")
        yield f"windows-{workload.lower()}", f"{title}{tags}by the size of windows", sections


if __name__ == "__main__":
    sys.exit(main())
