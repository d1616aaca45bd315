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
#: How the names of yardsticks begin and end: what they do is less than a tool has to.
_BARE, _CURL = "bare ", "curl"
GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one tool took for one workload: seconds of each round, bytes, and requests by kind.

    ``memory`` is the most of all rounds; ``sent`` and ``taken`` are bytes that the source sent and the
    target took. ``served`` are the CPU seconds that the registries spent, and ``started`` those of the tool
    for something tiny, round by round. Where rows differ in what was to be done, ``amount`` is how many there
    were, and the least number of requests is the row's own; so it is where a tool was told more than the others.
    """

    peer: str
    wall: Sequence[float]
    cpu: Sequence[float]
    memory: int
    served: Sequence[float] = ()
    started: Sequence[float] = ()
    source: Mapping[str, float] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    sent: int = 0
    taken: int = 0
    amount: int = 0
    least_source: int = 0
    least_target: int = 0

    @property
    def is_yardstick(self) -> bool:
        """Tell whether it is no peer: curl carries blobs and does nothing else; the bare script keeps no promise."""
        return self.peer.endswith(_CURL) or self.peer.startswith(_BARE)

    @property
    def has_own_least(self) -> bool:
        """Tell whether it was told more than the others, and has to ask less."""
        return bool(self.least_source or self.least_target)

    @property
    def is_whole(self) -> bool:
        """Tell whether it brings whole images."""
        return not self.peer.endswith(_CURL)

    def floor(self, cpus: int) -> float:
        """Return how many seconds the registries alone need on ``cpus`` for what the tool asked; 0 when unknown."""
        return median(self.served) / cpus if self.served and cpus else 0.0

    def marginal(self, size: int) -> float:
        """Return the tool's CPU seconds for a GiB, without those for something tiny; 0 when unknown."""
        if not (self.started and size):
            return 0.0
        more = [all_of_it - tiny for all_of_it, tiny in zip(self.cpu, self.started, strict=True)]
        return median(more) * GIB / size


@dataclass(frozen=True, kw_only=True)
class Section:
    """One workload: the least for it, and what each tool took; ``when`` names the run that measured it.

    ``cpus`` is how many there were for the tool and the registries together, 0 when unknown.
    """

    key: str
    title: str
    when: str
    least_source: int = 0
    least_target: int = 0
    least_seconds: float = 0.0
    moves: bool = True
    is_within: bool = False
    size: int = 0
    cpus: int = 0
    rows: Sequence[Row] = ()

    @property
    def own(self) -> Row | None:
        """Syncer's row, where it is one of several tools."""
        return next((row for row in self.rows if row.peer == REFERENCE), None)

    @property
    def peers(self) -> list[Row]:
        """The other tools; Syncer with other settings is none."""
        return [
            row for row in self.rows if not row.peer.startswith(REFERENCE) and not row.is_yardstick and not row.amount
        ]

    @property
    def best_peer(self) -> Row | None:
        """The fastest of the others, by its median."""
        return min(self.peers, key=lambda row: median(row.wall), default=None)

    @property
    def floor(self) -> float:
        """What no client goes below where it shares the CPUs with the registries, in seconds; 0 when unknown.

        It is what the registries need for the requests of whichever tool let them work the least, or what
        the bytes take on the link where that is more.
        """
        rows = [row for row in self.rows if row.is_whole and row.served and not row.has_own_least]
        floors = [row.floor(self.cpus) for row in rows]
        return max(min(floors), self.least_seconds) if floors else 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is published: the runs, by when they began, with their facts; the workloads; the profiles."""

    runs: Sequence[Mapping[str, Any]] = ()
    sections: Sequence[Section] = ()
    profiles: Sequence[Mapping[str, Any]] = ()


def summarize(documents: Iterable[Mapping[str, Any]], before: Summary | None = None) -> Summary:
    """Return the summary of what runs wrote; where two measured the same workload, the later document counts.

    What was published ``before`` stays where no document has something newer.
    """
    before = before or Summary()
    sections: dict[str, list[Section]] = {}
    for section in before.sections:
        sections.setdefault(section.key, []).append(section)
    runs: dict[str, Mapping[str, Any]] = {run["when"]: run for run in before.runs}
    profiles = before.profiles
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
    return Section(**part, when=document["when"], cpus=document["machine"].get("cpus", 0), rows=rows)


def _row(peer: str, rounds: Sequence[Mapping[str, Any]]) -> Row:
    return Row(
        peer=peer,
        wall=[round(one["wall"], 3) for one in rounds],
        cpu=[round(one["cpu"], 3) for one in rounds],
        memory=max(one["memory"] for one in rounds),
        served=_known("served", rounds),
        started=_known("started", rounds),
        source=_kinds([one["source"]["requests"] for one in rounds]),
        target=_kinds([one["target"]["requests"] for one in rounds]),
        sent=int(median(one["source"]["sent"] for one in rounds)),
        taken=int(median(one["target"]["taken"] for one in rounds)),
        **{name: int(value) for name, value in rounds[0]["facts"].items()},
    )


def _known(name: str, rounds: Sequence[Mapping[str, Any]]) -> Sequence[float]:
    """Return a figure of each round, or none where it was not measured."""
    found = [round(one.get(name, 0.0), 3) for one in rounds]
    return found if any(found) else ()


def _kinds(counts: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return the median number of each kind of request, the most frequent first."""
    medians = {kind: median(one.get(kind, 0) for one in counts) for kind in {kind for one in counts for kind in one}}
    return {kind: medians[kind] for kind in sorted(medians, key=lambda kind: (-medians[kind], kind)) if medians[kind]}


def _without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is the default anyway."""
    rows = [{name: value for name, value in row.items() if value not in (0, {}, ())} for row in document["rows"]]
    defaults = asdict(Section(key="", title="", when=""))
    return {**{name: value for name, value in document.items() if value != defaults[name]}, "rows": rows}
