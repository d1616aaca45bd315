"""W7: how Syncer grows with the number of tags, between two of its own registries."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import content
from benchmarks.measure import Measurement, measured
from benchmarks.peers import Job, Pair, SyncerRun
from benchmarks.servers import Traffic, embedded_registry
from benchmarks.workloads import Bound

if TYPE_CHECKING:
    from collections.abc import Iterator

_TINY_BYTES = 1000
#: Tags in the longest page of the embedded registry.
_PAGE = 10_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is measured for every number of tags; ``tag_digests``: the lists tell what tags stand for."""

    title: str
    tag_digests: bool
    is_first: bool = False

    def bound(self, tags: int) -> Bound:
        """Return the least that the step takes for a number of tags."""
        pages = -(-tags // _PAGE)
        if self.is_first:
            # Two blobs, a layer and a configuration, are shared by all; the target is listed once, and is empty.
            return Bound(source=pages + tags + 2, target=1 + 2 * 2 + tags)
        heads = 0 if self.tag_digests else tags
        return Bound(source=pages + heads, target=pages + heads)


STEPS = (
    Step(title="W7: first sync", tag_digests=False, is_first=True),
    Step(title="W7: nothing new", tag_digests=False),
    Step(title="W7: nothing new, digests listed", tag_digests=True),
)


def measure(tags: int, number: int, folder: Path) -> Iterator[Measurement]:
    """Yield what each step takes with ``tags`` tags; each tag has a manifest of its own.

    Requests are those of Syncer's report: the embedded registry has no log of them.
    """
    base = [content.layer("base", _TINY_BYTES)]
    images = tuple(content.image(f"v{at:06}", base, number=str(at)) for at in range(tags))
    repository = content.Repository(name="bench/many", images=images)
    own = Path(tempfile.mkdtemp(dir=folder))
    # The registries keep their addresses from step to step, so that what Syncer's state knows counts.
    listen = dict.fromkeys(("source", "target"), "127.0.0.1:0")
    for step in STEPS:
        with ExitStack() as stack:
            source, target = (
                stack.enter_context(embedded_registry(folder / side, listen=at, tag_digests=step.tag_digests))
                for side, at in listen.items()
            )
            listen = {"source": source.host, "target": target.host}
            if step.is_first:
                content.fill(source, [repository])
            pair = Pair(source=repository, target=repository.name)
            job = Job(source=source, target=target, pairs=[pair], folder=own)
            usage = measured(SyncerRun().command(job), own)
            report = json.loads((own / "report.json").read_text())
            counts = report["requests"]["registries"]
            if wrong := content.count_wrong(target, [repository]) if step.is_first else 0:
                raise RuntimeError(f"syncer run left {wrong} of {tags} tags that are not what they should be")
            bound = step.bound(tags)
            yield Measurement(
                workload=step.title,
                peer=f"{tags:,} tags",
                round=number,
                usage=usage,
                source=Traffic(requests=Counter(counts.get(source.host, {}))),
                target=Traffic(requests=Counter(counts.get(target.host, {}))),
                facts={"tags": tags, "least_source": bound.source, "least_target": bound.target},
            )
