"""W7: how Syncer grows with the number of tags, between two of its own registries."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import content
from benchmarks.measure import Measurement, measured
from benchmarks.peers import Job, Pair, SyncerRun
from benchmarks.servers import Traffic, embedded_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

_TINY_BYTES = 1000


def measure(tags: int, folder: Path) -> Iterator[Measurement]:
    """Yield the first sync of ``tags`` tags, and a second with nothing new; each tag has a manifest of its own."""
    base = [content.layer("base", _TINY_BYTES)]
    images = tuple(content.image(f"v{number:06}", base, number=str(number)) for number in range(tags))
    repository = content.Repository(name="bench/many", images=images)
    with embedded_registry(folder / "source") as source, embedded_registry(folder / "target") as target:
        content.fill(source, [repository])
        own = Path(tempfile.mkdtemp(dir=folder))
        job = Job(source=source, target=target, pairs=[Pair(source=repository, target=repository.name)], folder=own)
        command = SyncerRun().command(job)
        for part in ("first sync", "nothing new"):
            usage = measured(command, own)
            report = json.loads((own / "report.json").read_text())
            requests = {
                registry: Traffic(requests=Counter(counts), sent=0)
                for registry, counts in report["requests"]["registries"].items()
            }
            nothing = Traffic(requests=Counter(), sent=0)
            yield Measurement(
                workload=f"W7: {part}",
                peer=f"{tags:,} tags",
                round=0,
                usage=usage,
                source=requests.get(source.host, nothing),
                target=requests.get(target.host, nothing),
                facts={"tags": tags},
            )
