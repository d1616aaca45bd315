"""The workloads: what is copied, over what, by whom, and the least that it can take.

W1 first sync; W2 the same again, nothing changed; W3 one large layer, plain and over TLS; W4 promotion
within one registry; W5 W1 and W2 at 50 ms round trip; W6 large images over a gigabit at 50 ms. How
Syncer grows with the number of tags is W7, in :mod:`benchmarks.growth`.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import content
from benchmarks.certificates import certificate as make_certificate
from benchmarks.measure import Measurement, measured
from benchmarks.peers import CurlPipe, Job, Pair, SkopeoCopies, SkopeoSync, SyncerRun
from benchmarks.servers import docker_registry, linked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.certificates import Certificate
    from benchmarks.peers import Peer
    from benchmarks.servers import Server

SHARED_LAYERS = 5
SHARED_BYTES = 300_000
UNIQUE_BYTES = 20_000
#: A round trip of 50 ms, and a gigabit a second.
DELAY = 0.025
GIGABIT = 125_000_000.0


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A workload, and the parts it is measured in: jobs on the same target, one after the other.

    ``least`` is what the protocol asks for at least, in requests to the source and to the target, for
    each part; None where it is not counted.
    """

    key: str
    parts: Sequence[str]
    pairs: Sequence[Pair]
    peers: Sequence[Peer]
    least: Sequence[tuple[int, int]] = ()
    entries: Sequence[str] = ()
    is_within: bool = False
    is_secure: bool = False
    delay: float = 0.0
    rate: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of the blobs, each once."""
        blobs = {digest: blob for pair in self.pairs for digest, blob in pair.source.blobs.items()}
        return sum(blob.descriptor.size for blob in blobs.values())


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a workload is measured: a folder in memory, and the source that is filled once."""

    folder: Path
    workload: Workload
    source: Server
    certificate: Certificate | None

    @classmethod
    @contextmanager
    def set_up(cls, workload: Workload, folder: Path) -> Iterator[Stage]:
        """Start the source and fill it."""
        own = make_certificate(folder / "tls") if workload.is_secure else None
        with docker_registry(folder / "source", own) as source:
            content.fill(source, [pair.source for pair in workload.pairs])
            yield cls(folder=folder, workload=workload, source=source, certificate=own)

    def measure(self, peer: Peer, number: int) -> Iterator[Measurement]:
        """Yield the measurements of one tool in one round, on a new target.

        Raises:
            RuntimeError: when the tool fails, or the target does not hold what it should.
        """
        workload = self.workload
        with ExitStack() as stack:
            target = self.source
            if not workload.is_within:
                target = stack.enter_context(docker_registry(self.folder / "target", self.certificate))
            ends = [
                stack.enter_context(linked(server, delay=workload.delay, rate=workload.rate))
                if workload.delay
                else server
                for server in (self.source, target)
            ]
            folder = Path(tempfile.mkdtemp(prefix=f"{peer.name.split()[0]}-", dir=self.folder))
            # Within one registry every tool has a place of its own in every round.
            root = f"{folder.name.lower().replace('_', '')}/" if workload.is_within else ""
            pairs = [Pair(source=pair.source, target=f"{root}{pair.target}") for pair in workload.pairs]
            entries = [entry.replace("ROOT/", root) for entry in workload.entries]
            job = Job(source=ends[0], target=ends[1], pairs=pairs, entries=entries, folder=folder)
            command = peer.command(job)
            for part in workload.parts:
                marks = self.source.mark(), target.mark()
                usage = measured(command, folder)
                yield Measurement(
                    workload=part,
                    peer=peer.name,
                    round=number,
                    usage=usage,
                    source=self.source.traffic(marks[0]),
                    target=target.traffic(marks[1]),
                    facts={"bytes_per_second": workload.size / usage.wall},
                )
                if isinstance(peer, CurlPipe):
                    # It brings one blob, and no image.
                    continue
                expected = [content.Repository(name=pair.target, images=pair.source.images) for pair in pairs]
                if wrong := content.count_wrong(target, expected):
                    raise RuntimeError(f"{peer.name} left {wrong} tags that are not what they should be")


def first_and_again(tags: int, *, delay: float = 0.0) -> Workload:
    """Return W1 and W2, or both as W5 with a ``delay``: many tags that share most of their layers."""
    shared = [content.layer(f"shared {number}", SHARED_BYTES) for number in range(SHARED_LAYERS)]
    images = tuple(
        content.image(f"v{number:05}", [*shared, content.layer(f"unique {number}", UNIQUE_BYTES)])
        for number in range(tags)
    )
    repository = content.Repository(name="bench/app", images=images)
    blobs = len(repository.blobs)
    far = f" at {2000 * delay:.0f} ms" if delay else ""
    return Workload(
        key="W5" if delay else "W1",
        parts=(f"{'W5, W1' if delay else 'W1'}: first sync{far}", f"{'W5, W2' if delay else 'W2'}: nothing new{far}"),
        pairs=(Pair(source=repository, target=repository.name),),
        peers=(SyncerRun(), SkopeoSync(), SkopeoCopies()),
        # The list of tags and the manifests; blobs once, each a POST and a PUT.
        least=((1 + tags + blobs, 1 + 2 * blobs + tags), (1 + tags, 1 + tags)),
        delay=delay,
    )


def large_layer(size: int, *, is_secure: bool) -> Workload:
    """Return W3: one image with one large layer, beside a pipe of two programs that only carry it."""
    repository = content.Repository(name="bench/large", images=(content.image("v1", [content.layer("large", size)]),))
    return Workload(
        key="W3",
        parts=(f"W3: one layer of {size / 1024**3:g} GiB, {'TLS' if is_secure else 'plain'}",),
        pairs=(Pair(source=repository, target=repository.name),),
        peers=(SyncerRun(), SkopeoCopies(), CurlPipe()),
        least=((3, 5),),
        is_secure=is_secure,
    )


def promotion(repositories: int) -> Workload:
    """Return W4: repositories that share base layers go to other names in the same registry."""
    base = [content.layer(f"base {number}", SHARED_BYTES) for number in range(SHARED_LAYERS)]
    pairs = []
    for number in range(repositories):
        image = content.image("v1", [*base, content.layer(f"app {number}", UNIQUE_BYTES)])
        name = f"app{number:04}"
        pairs.append(Pair(source=content.Repository(name=f"dev/{name}", images=(image,)), target=f"prod/{name}"))
    blobs = len(pairs[0].source.blobs)
    return Workload(
        key="W4",
        parts=(f"W4: promotion of {repositories} repositories within one registry",),
        pairs=pairs,
        peers=(SyncerRun(), SkopeoSync(), SkopeoCopies()),
        # One registry is both sides; the catalog finds the repositories, and each is listed or asked once.
        least=((1 + repositories * (1 + 1 + 1 + blobs + 1),) * 2,),
        entries=("from: source/dev/*, to: 'target/ROOT/prod/{name}'",),
        is_within=True,
    )


def large_images(count: int, largest: int) -> Workload:
    """Return W6: large images over a gigabit a second at 50 ms."""
    sizes = random.Random(6)  # noqa: S311 - the same sizes every time
    images = tuple(
        content.image(
            f"v{number}",
            [content.layer(f"layer {number}.{at}", sizes.randint(1_000_000, largest)) for at in range(10)],
        )
        for number in range(count)
    )
    repository = content.Repository(name="bench/images", images=images)
    return Workload(
        key="W6",
        parts=(f"W6: {count} images of 10 layers of 1 to {largest // 1_000_000} MB, 1 Gbit/s at 50 ms",),
        pairs=(Pair(source=repository, target=repository.name),),
        peers=(SyncerRun(), SkopeoCopies()),
        delay=DELAY,
        rate=GIGABIT,
    )
