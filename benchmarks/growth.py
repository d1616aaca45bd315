"""W7 and W9: how Syncer grows with the number of tags, and of repositories, between two of its own registries."""

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
    from collections.abc import Callable, Iterator, Sequence

_TINY_BYTES = 1000
#: Tags in the longest page of the embedded registry, and names of repositories.
_PAGE = 10_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is measured for every number; ``tag_digests``: the lists tell what tags stand for."""

    title: str
    bound: Callable[[int], Bound]
    tag_digests: bool = False
    is_first: bool = False


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A workload of growing size.

    ``noun`` is what there are more and more of, ``sizes`` how many; ``make`` makes so many, and ``entry``
    is the spec's only entry.
    """

    key: str
    noun: str
    sizes: tuple[int, ...]
    make: Callable[[int], Sequence[content.Repository]]
    entry: str
    steps: tuple[Step, ...]


def _pages(number: int) -> int:
    return -(-number // _PAGE)


def _tags(number: int) -> list[content.Repository]:
    """Return one repository of so many tags; each has a manifest of its own."""
    base = [content.layer("base", _TINY_BYTES)]
    images = tuple(content.image(f"v{at:06}", base, number=str(at)) for at in range(number))
    return [content.Repository(name="bench/many", images=images)]


def _repositories(number: int) -> list[content.Repository]:
    """Return so many repositories of one tag, in folders of a hundred; each has a manifest of its own."""
    base = [content.layer("base", _TINY_BYTES)]
    return [
        content.Repository(
            name=f"bench/team{at // 100:03}/app{at % 100:02}", images=(content.image("v1", base, number=str(at)),)
        )
        for at in range(number)
    ]


#: Two blobs, a layer and a configuration, are shared by all; the target is listed once, and is empty.
_FIRST_TAGS = Step(
    title="W7: first sync",
    is_first=True,
    bound=lambda tags: Bound(source=_pages(tags) + tags + 2, target=1 + 2 * 2 + tags),
)
#: A repository is listed in the source, and its only tag is looked for in the target; both blobs are mounted.
_FIRST_REPOSITORIES = Step(
    title="W9: first sync",
    is_first=True,
    bound=lambda number: Bound(source=_pages(number) + 2 * number + 2, target=2 * 2 + 2 * (number - 1) + 2 * number),
)
GROWTHS = (
    Growth(
        key="W7",
        noun="tags",
        sizes=(1_000, 10_000, 100_000),
        make=_tags,
        entry="from: source/bench/many, to: target/bench/many",
        steps=(
            _FIRST_TAGS,
            Step(
                title="W7: nothing new",
                bound=lambda tags: Bound(source=_pages(tags) + tags, target=_pages(tags) + tags),
            ),
            Step(
                title="W7: nothing new, digests listed",
                tag_digests=True,
                bound=lambda tags: Bound(source=_pages(tags), target=_pages(tags)),
            ),
        ),
    ),
    Growth(
        key="W9",
        noun="repositories",
        sizes=(200, 2_000, 20_000),
        make=_repositories,
        entry="from: source/bench/**, to: 'target/{path}'",
        steps=(
            _FIRST_REPOSITORIES,
            Step(
                title="W9: nothing new",
                bound=lambda number: Bound(source=_pages(number) + 2 * number, target=number),
            ),
        ),
    ),
)


def measure(growth: Growth, size: int, number: int, folder: Path) -> Iterator[Measurement]:
    """Yield what each step of ``growth`` takes at a size, in round ``number``.

    Requests are those of Syncer's report: the embedded registry has no log of them.

    Raises:
        RuntimeError: when the target is not what it should be after the first step.
    """
    repositories = growth.make(size)
    own = Path(tempfile.mkdtemp(dir=folder))
    # The registries keep their addresses from step to step, so that what Syncer's state knows counts.
    listen = dict.fromkeys(("source", "target"), "127.0.0.1:0")
    for step in growth.steps:
        with ExitStack() as stack:
            source, target = (
                stack.enter_context(embedded_registry(folder / side, listen=at, tag_digests=step.tag_digests))
                for side, at in listen.items()
            )
            listen = {"source": source.host, "target": target.host}
            if step.is_first:
                content.fill(source, repositories)
            pairs = [Pair(source=repository, target=repository.name) for repository in repositories]
            job = Job(source=source, target=target, pairs=pairs, folder=own, entries=[growth.entry])
            usage = measured(SyncerRun().command(job), own)
            report = json.loads((own / "report.json").read_text())
            counts = report["requests"]["registries"]
            if wrong := content.count_wrong(target, repositories) if step.is_first else 0:
                raise RuntimeError(f"syncer run left {wrong} tags that are not what they should be")
            bound = step.bound(size)
            yield Measurement(
                workload=step.title,
                peer=f"{size:,} {growth.noun}",
                round=number,
                usage=usage,
                source=Traffic(requests=Counter(counts.get(source.host, {}))),
                target=Traffic(requests=Counter(counts.get(target.host, {}))),
                facts={"amount": size, "least_source": bound.source, "least_target": bound.target},
            )
