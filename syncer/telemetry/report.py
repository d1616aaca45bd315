"""What a run did, as one frozen value, and its JSON.

The JSON is an interface: its ``schema`` member names the version, and within one version members are
only added. Sizes are bytes, durations seconds, times ISO 8601 in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncer.content import BlobOutcome
from syncer.events import RunStatus, TagOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SCHEMA = "syncer.report/1"


@dataclass(kw_only=True, slots=True)
class Volume:
    """A number of things, and the bytes in them."""

    count: int = 0
    size: int = 0

    def add(self, size: int, count: int = 1) -> None:
        """Count ``count`` more things of ``size`` bytes together."""
        self.count += count
        self.size += size

    def to_json(self) -> dict[str, int]:
        """Return the volume's JSON object."""
        return {"count": self.count, "bytes": self.size}


@dataclass(kw_only=True, slots=True)
class Totals:
    """What became of tags, blobs and manifests: of one repository, or of all."""

    listed: int = 0
    selected: int = 0
    tags: dict[TagOutcome, int] = field(default_factory=lambda: dict.fromkeys(TagOutcome, 0))
    #: How many of the tags in sync are so by the state's word: the target was not asked for them.
    recorded: int = 0
    blobs: dict[BlobOutcome, Volume] = field(default_factory=lambda: {outcome: Volume() for outcome in BlobOutcome})
    manifests: Volume = field(default_factory=Volume)
    referrers: int = 0

    @property
    def finished(self) -> int:
        """How many tags were done with, whatever became of them."""
        return sum(self.tags.values())

    @property
    def streamed(self) -> int:
        """The bytes of blobs that were sent."""
        return self.blobs[BlobOutcome.STREAMED].size

    @property
    def saved(self) -> int:
        """The bytes of blobs that were not sent, since they were present or could be mounted."""
        return self.blobs[BlobOutcome.PRESENT].size + self.blobs[BlobOutcome.MOUNTED].size

    def add(self, other: Totals) -> None:
        """Add the counts of ``other``."""
        self.listed += other.listed
        self.selected += other.selected
        self.recorded += other.recorded
        self.referrers += other.referrers
        self.manifests.add(other.manifests.size, other.manifests.count)
        for tag_outcome, count in other.tags.items():
            self.tags[tag_outcome] += count
        for blob_outcome, volume in other.blobs.items():
            self.blobs[blob_outcome].add(volume.size, volume.count)

    def to_json(self) -> dict[str, Any]:
        """Return the counts' JSON object."""
        return {
            "listed": self.listed,
            "selected": self.selected,
            "tags": {outcome.value: count for outcome, count in self.tags.items()},
            "recorded": self.recorded,
            "blobs": {outcome.value: volume.to_json() for outcome, volume in self.blobs.items()},
            "manifests": self.manifests.to_json(),
            "referrers": self.referrers,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Something that failed: a tag, a repository (``tag`` is empty) or an entry (so is ``target``)."""

    entry: str
    source: str = ""
    target: str = ""
    tag: str = ""
    error: str = ""
    message: str = ""
    hint: str = ""
    side: str = ""
    retryable: bool = False

    @property
    def place(self) -> str:
        """What failed, as a person would name it."""
        if not self.target:
            return f"entry {self.entry}"
        return f"{self.target}:{self.tag}" if self.tag else self.target

    def to_json(self) -> dict[str, Any]:
        """Return the failure's JSON object."""
        return {
            "entry": self.entry,
            "source": self.source,
            "target": self.target,
            "tag": self.tag,
            "error": self.error,
            "message": self.message,
            "hint": self.hint,
            "side": self.side,
            "retryable": self.retryable,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Deferral:
    """What one registry's allowance left for another run.

    ``tags`` counts tags, and ``others`` whole repositories and entries that could not be looked at.
    ``until`` is when the registry allows more, where it has said so.
    """

    registry: str
    tags: int = 0
    others: int = 0
    until: datetime | None = None
    message: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the deferral's JSON object."""
        return {
            "registry": self.registry,
            "tags": self.tags,
            "others": self.others,
            "until": self.until.isoformat(timespec="seconds") if self.until is not None else None,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedTag:
    """A tag that was written in the target, and the digest it stands for now."""

    source: str
    target: str
    tag: str
    digest: str
    reason: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the tag's JSON object."""
        return {
            "source": self.source,
            "target": self.target,
            "tag": self.tag,
            "digest": self.digest,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryReport:
    """What was done from one source repository to one target repository."""

    entry: str
    source: str
    target: str
    totals: Totals
    seconds: float = 0.0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the repository's JSON object."""
        return {
            "entry": self.entry,
            "source": self.source,
            "target": self.target,
            **self.totals.to_json(),
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportNotice:
    """Something a person should know, and how often it was said."""

    where: str
    text: str
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a run did.

    ``finished`` is None and ``status`` RUNNING while it goes on. ``requests`` and ``retries`` count by
    registry, and the requests by kind too. ``copied`` lists the tags that were written, up to a bound:
    ``copied_unlisted`` counts those beyond it, and ``notices_unlisted`` likewise. ``deferrals`` are no
    failures: a registry's allowance was used up, and another run goes on. ``cut_entries`` and
    ``cut_repositories`` were not looked at to the end when the run was stopped, or not at all.
    """

    run: str = ""
    spec: str = ""
    status: RunStatus = RunStatus.RUNNING
    started: datetime
    finished: datetime | None = None
    seconds: float = 0.0
    entries: int = 0
    totals: Totals = field(default_factory=Totals)
    requests: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    retries: Mapping[str, int] = field(default_factory=dict)
    repositories: tuple[RepositoryReport, ...] = ()
    copied: tuple[CopiedTag, ...] = ()
    copied_unlisted: int = 0
    failures: tuple[Failure, ...] = ()
    deferrals: tuple[Deferral, ...] = ()
    notices: tuple[ReportNotice, ...] = ()
    notices_unlisted: int = 0
    cut_entries: int = 0
    cut_repositories: int = 0

    @property
    def rate(self) -> float:
        """Bytes of blobs sent per second of the whole run."""
        return self.totals.streamed / self.seconds if self.seconds > 0 else 0.0

    @property
    def request_count(self) -> int:
        """How many requests were made to all registries."""
        return sum(sum(kinds.values()) for kinds in self.requests.values())

    @property
    def unfinished(self) -> int:
        """How many tags were selected and never done with: a run that was stopped leaves some."""
        return max(self.totals.selected - self.totals.finished, 0)

    def to_json(self) -> dict[str, Any]:
        """Return the report's JSON object."""
        return {name: list(value) if isinstance(value, Iterator) else value for name, value in self._members()}

    def to_text(self) -> Iterator[str]:
        """Yield the text of the JSON, each thing of a list on a line: no copy of all of it is in memory at once."""
        before = "{"
        for name, value in self._members():
            yield f"{before}\n  {json.dumps(name)}: "
            if isinstance(value, Iterator):
                opening = "["
                for thing in value:
                    yield f"{opening}\n    {json.dumps(thing, ensure_ascii=False)}"
                    opening = ","
                yield "[]" if opening == "[" else "\n  ]"
            else:
                yield json.dumps(value, ensure_ascii=False)
            before = ","
        yield "\n}\n"

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Yield the members of the JSON object; the things of long lists as they are asked for."""
        yield "schema", SCHEMA
        yield "run", self.run
        yield "spec", self.spec
        yield "status", self.status.value
        yield "started", self.started.isoformat()
        yield "finished", self.finished.isoformat() if self.finished is not None else None
        yield "seconds", round(self.seconds, 3)
        yield "entries", self.entries
        yield "totals", self.totals.to_json()
        yield (
            "requests",
            {
                "total": self.request_count,
                "registries": {registry: dict(kinds) for registry, kinds in self.requests.items()},
            },
        )
        yield "retries", {"total": sum(self.retries.values()), "registries": dict(self.retries)}
        yield "repositories", (repository.to_json() for repository in self.repositories)
        yield "copied", (tag.to_json() for tag in self.copied)
        yield "copied_unlisted", self.copied_unlisted
        yield "failures", (failure.to_json() for failure in self.failures)
        yield "deferrals", (deferral.to_json() for deferral in self.deferrals)
        yield (
            "notices",
            ({"where": notice.where, "text": notice.text, "count": notice.count} for notice in self.notices),
        )
        yield "notices_unlisted", self.notices_unlisted
        yield "cut", {"entries": self.cut_entries, "repositories": self.cut_repositories}
