"""What measurements come to: for each workload, its least and what each tool took, round by round.

A summary is what is published. It keeps the seconds of every round, so that a reader can take other
figures than our medians from it, and the median number of each kind of request.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA = "syncer.benchmark/1"
#: The tool that others are compared with.
REFERENCE = "syncer run"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one tool took for one workload: seconds of each round, bytes, and requests by kind.

    ``memory`` is the most of all rounds; ``sent`` and ``taken`` are bytes that the source sent and the
    target took. Where rows differ in what was to be done, ``tags`` is how many there were, and the least
    number of requests is the row's own.
    """

    peer: str
    wall: Sequence[float]
    cpu: Sequence[float]
    memory: int
    source: Mapping[str, float] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    sent: int = 0
    taken: int = 0
    tags: int = 0
    least_source: int = 0
    least_target: int = 0

    @property
    def is_bound(self) -> bool:
        """Tell whether it is no peer: curl carries blobs and does nothing else."""
        return self.peer.endswith("curl")


@dataclass(frozen=True, kw_only=True)
class Section:
    """One workload: the least for it, and what each tool took; ``when`` names the run that measured it."""

    key: str
    title: str
    when: str
    least_source: int = 0
    least_target: int = 0
    least_seconds: float = 0.0
    moves: bool = True
    is_within: bool = False
    size: int = 0
    rows: Sequence[Row] = ()

    @property
    def own(self) -> Row | None:
        """Syncer's row, where it is one of several tools."""
        return next((row for row in self.rows if row.peer == REFERENCE), None)

    @property
    def best_peer(self) -> Row | None:
        """The fastest of the others, by its median."""
        peers = [row for row in self.rows if row.peer != REFERENCE and not row.is_bound and not row.tags]
        return min(peers, key=lambda row: median(row.wall), default=None)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is published: the runs, by when they began, with their facts; the workloads; the profiles."""

    runs: Sequence[Mapping[str, Any]] = ()
    sections: Sequence[Section] = ()
    profiles: Sequence[Mapping[str, Any]] = ()


def summarize(documents: Iterable[Mapping[str, Any]]) -> Summary:
    """Return the summary of what runs wrote; where two measured the same workload, the later document counts."""
    sections: dict[str, list[Section]] = {}
    runs: dict[str, Mapping[str, Any]] = {}
    profiles: Sequence[Mapping[str, Any]] = ()
    for document in documents:
        profiles = document.get("profiles", profiles)
        if "measurements" not in document:
            continue
        found: dict[str, list[Section]] = {}
        for part in document["parts"]:
            found.setdefault(part["key"], []).append(_section(part, document))
        # A workload is taken whole: its parts are compared with each other.
        sections |= found
        runs[document["when"]] = {name: document[name] for name in ("when", "rounds", "scale", "machine", "versions")}
    kept = [section for key in sorted(sections) for section in sections[key]]
    used = {section.when for section in kept}
    return Summary(runs=[runs[when] for when in sorted(used)], sections=kept, profiles=profiles)


def to_text(summary: Summary) -> str:
    """Return the JSON of a summary, a line for each thing."""
    lists = {
        "runs": summary.runs,
        "sections": [_without_nothing(asdict(section)) for section in summary.sections],
        "profiles": summary.profiles,
    }
    parts = [f'"schema": "{SCHEMA}"']
    for name, things in lists.items():
        listed = ",\n".join(json.dumps(thing) for thing in things)
        parts.append(f'"{name}": [\n{listed}\n]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def from_text(text: str) -> Summary:
    """Return the summary that :func:`to_text` wrote."""
    document = json.loads(text)
    if document["schema"] != SCHEMA:
        raise ValueError(f"not a summary of benchmarks: {document['schema']}")
    sections = [
        Section(**{**section, "rows": [Row(**row) for row in section["rows"]]}) for section in document["sections"]
    ]
    return Summary(runs=document["runs"], sections=sections, profiles=document["profiles"])


def _section(part: Mapping[str, Any], document: Mapping[str, Any]) -> Section:
    by_peer: dict[str, list[Mapping[str, Any]]] = {}
    for one in document["measurements"]:
        if one["workload"] == part["title"]:
            by_peer.setdefault(one["peer"], []).append(one)
    rows = [_row(peer, rounds) for peer, rounds in by_peer.items()]
    return Section(**part, when=document["when"], rows=rows)


def _row(peer: str, rounds: Sequence[Mapping[str, Any]]) -> Row:
    return Row(
        peer=peer,
        wall=[round(one["wall"], 3) for one in rounds],
        cpu=[round(one["cpu"], 3) for one in rounds],
        memory=max(one["memory"] for one in rounds),
        source=_kinds([one["source"]["requests"] for one in rounds]),
        target=_kinds([one["target"]["requests"] for one in rounds]),
        sent=int(median(one["source"]["sent"] for one in rounds)),
        taken=int(median(one["target"]["taken"] for one in rounds)),
        **{name: int(value) for name, value in rounds[0]["facts"].items()},
    )


def _kinds(counts: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return the median number of each kind of request, the most frequent first."""
    medians = {kind: median(one.get(kind, 0) for one in counts) for kind in {kind for one in counts for kind in one}}
    return {kind: medians[kind] for kind in sorted(medians, key=lambda kind: (-medians[kind], kind)) if medians[kind]}


def _without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is the default anyway."""
    rows = [{name: value for name, value in row.items() if value not in (0, {})} for row in document["rows"]]
    defaults = asdict(Section(key="", title="", when=""))
    return {**{name: value for name, value in document.items() if value != defaults[name]}, "rows": rows}
