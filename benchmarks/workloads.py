"""The workloads: what is copied, over what, by whom, and the least that it can take.

W1 first sync; W2 the same again, nothing changed; W3 one large layer, plain and over TLS; W4 promotion
within one registry; W5 W1 and W2 at 50 ms round trip; W6 large images over a gigabit at 50 ms; W8 one
large layer where each connection has a bound of its own. How Syncer grows with the number of tags is W7,
in :mod:`benchmarks.growth`.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import content
from benchmarks.certificates import certificate as make_certificate
from benchmarks.measure import Measurement, measured
from benchmarks.peers import Bare, CurlPipe, Job, KnowingSkopeoCopies, Pair, SkopeoCopies, SkopeoSync, SyncerRun
from benchmarks.servers import docker_registry, linked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.certificates import Certificate
    from benchmarks.content import Repository
    from benchmarks.peers import Peer
    from benchmarks.servers import Server, Traffic

SHARED_LAYERS = 5
SHARED_BYTES = 300_000
UNIQUE_BYTES = 20_000
#: A round trip of 50 ms, and a gigabit a second.
DELAY = 0.025
GIGABIT = 125_000_000.0
#: What is copied to see what a tool takes only for starting.
_TINY_BYTES = 1000
#: Processes of skopeo and requests of the bare script: on loopback, and at a long round trip.
_FEW = 16
_MANY = 64
#: Connections for one blob, where each has a bound of its own.
_PARALLEL = 4
#: What Syncer is called that is told that nobody else writes to the target.
SOLE = "syncer run, sole_writer"
#: Pipes of curl on a wide link.
_PIPES = 16
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made by mkdtemp


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The least that a part of a workload takes: requests to the source and to the target, and seconds.

    The requests are those of a client that is told the repositories (for W4: a pattern), knows nothing
    else beforehand, and looks before it writes. To the source: a list of tags for each repository, a
    HEAD for each tag that turns out to be unchanged or a GET for each manifest that is needed, a GET for
    each different blob. To the target: one look at each repository (a list of its tags, or a HEAD where
    there is only one), a HEAD for each tag that is there already, POST and PUT for each different blob or
    one POST that mounts it, and a PUT for each tag. docker-registry 2.8 takes no blob in one request.

    ``seconds`` is what the bytes of the blobs take on the link, 0 where there is none with a bound.
    """

    source: int
    target: int
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that is measured; ``moves`` tells whether blobs have to be sent for it.

    Those that are told more than the others, by name, have an ``own`` least, and are measured in no other part.
    """

    title: str
    bound: Bound
    moves: bool = True
    own: Mapping[str, Bound] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A workload, and the parts it is measured in: jobs on the same target, one after the other.

    A peer in ``once`` is measured in the first round only: it takes so long that its spread does not matter.
    With a ``tiny`` pair, each tool copies that first, to see what it takes only for starting. The ``rate`` is that
    of the links to both registries, or with ``is_each`` that of every connection to the source.
    """

    key: str
    parts: Sequence[Part]
    pairs: Sequence[Pair]
    peers: Sequence[Peer]
    once: Sequence[Peer] = ()
    entries: Sequence[str] = ()
    tiny: Pair | None = None
    is_within: bool = False
    is_secure: bool = False
    delay: float = 0.0
    rate: float = 0.0
    is_each: bool = False

    @property
    def size(self) -> int:
        """Bytes of the blobs, each once."""
        return _size(pair.source for pair in self.pairs)


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
            if workload.tiny is not None:
                content.fill(source, [workload.tiny.source])
            yield cls(folder=folder, workload=workload, source=source, certificate=own)

    def measure(self, peer: Peer, number: int) -> Iterator[Measurement]:
        """Yield the measurements of one tool in one round, on a new target.

        Raises:
            RuntimeError: when the tool fails, or the target does not hold what it should.
        """
        workload = self.workload
        with ExitStack() as stack:
            # Within one registry, every tool has a new copy of it.
            seed = self.folder / "source" if workload.is_within else None
            target = stack.enter_context(docker_registry(self.folder / "target", self.certificate, seed=seed))
            source = target if workload.is_within else self.source
            ends = [
                stack.enter_context(linked(server, delay=workload.delay, rate=rate, is_each=workload.is_each))
                if workload.delay
                else server
                for server, rate in ((source, workload.rate), (target, 0.0 if workload.is_each else workload.rate))
            ]
            job = Job(
                source=ends[0],
                target=ends[1],
                pairs=workload.pairs,
                entries=workload.entries,
                folder=stack.enter_context(self._home()),
            )
            folder = job.folder
            started = self._start(peer, job)
            if isinstance(peer, KnowingSkopeoCopies):
                measured(peer.preparation(job), folder)
            command = peer.command(job)
            is_told_more = any(peer.name in part.own for part in workload.parts)
            for part in workload.parts:
                if is_told_more and peer.name not in part.own:
                    # What comes before.
                    measured(command, folder)
                    continue
                marks = source.mark(), target.mark()
                usage = measured(command, folder)
                asked, told = source.traffic(marks[0]), target.traffic(marks[1])
                yield Measurement(
                    workload=part.title,
                    peer=peer.name,
                    round=number,
                    usage=usage,
                    source=asked,
                    target=told,
                    served=served(asked, told, is_within=workload.is_within),
                    started=started,
                    facts=_facts(part, peer),
                )
                # curl brings blobs, and no image; the registry has checked them.
                if not isinstance(peer, CurlPipe):
                    self._check(peer, target)

    @contextmanager
    def _home(self) -> Iterator[Path]:
        """Make a home folder that goes with the block."""
        folder = Path(tempfile.mkdtemp(prefix="home-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def _start(self, peer: Peer, job: Job) -> float:
        """Return the CPU seconds that a tool takes to copy the tiny pair; 0 where there is none."""
        if self.workload.tiny is None:
            return 0.0
        with self._home() as folder:
            tiny = replace(job, pairs=(self.workload.tiny,), entries=(), folder=folder)
            return measured(peer.command(tiny), folder).cpu

    def _check(self, peer: Peer, target: Server) -> None:
        expected = [content.Repository(name=pair.target, images=pair.source.images) for pair in self.workload.pairs]
        if wrong := content.count_wrong(target, expected):
            raise RuntimeError(f"{peer.name} left {wrong} tags that are not what they should be")


def in_memory() -> Path | None:
    """Return a folder in memory, where the system has one."""
    return IN_MEMORY if IN_MEMORY.is_dir() else None


def served(source: Traffic, target: Traffic, *, is_within: bool) -> float:
    """Return the CPU seconds of the registries; within one registry, one process is both sides."""
    return target.cpu if is_within else source.cpu + target.cpu


def _facts(part: Part, peer: Peer) -> dict[str, float]:
    """Return the least of a tool that has its own."""
    own = part.own.get(peer.name)
    return {} if own is None else {"least_source": own.source, "least_target": own.target}


def in_turns(workload: Workload, rounds: int) -> Iterator[Measurement]:
    """Let the tools take turns, and yield what each took; in each round another one begins.

    Raises:
        RuntimeError: when a tool fails, or the target does not hold what it should.
    """
    with (
        tempfile.TemporaryDirectory(prefix="syncer-bench-", dir=in_memory()) as name,
        Stage.set_up(workload, Path(name)) as stage,
    ):
        for number in range(rounds):
            first = number % len(workload.peers)
            turns = (*workload.peers[first:], *workload.peers[:first], *([] if number else workload.once))
            for peer in turns:
                yield from stage.measure(peer, number)


def first_and_again(tags: int, *, delay: float = 0.0) -> Workload:
    """Return W1 and W2, or both as W5 with a ``delay``: many tags that share most of their layers."""
    shared = [content.layer(f"shared {number}", SHARED_BYTES) for number in range(SHARED_LAYERS)]
    images = tuple(
        content.image(f"v{number:05}", [*shared, content.layer(f"unique {number}", UNIQUE_BYTES)])
        for number in range(tags)
    )
    repository = content.Repository(name="bench/app", images=images)
    sole = SyncerRun(SOLE, defaults="sole_writer: true")
    far = f" at {2000 * delay:.0f} ms" if delay else ""
    prefix = "W5, " if delay else ""
    return Workload(
        key="W5" if delay else "W1",
        parts=(
            Part(title=f"{prefix}W1: first sync of {tags} tags{far}", bound=_first_bound(repository)),
            Part(
                title=f"{prefix}W2: nothing new in {tags} tags{far}",
                bound=Bound(source=1 + tags, target=1 + tags),
                moves=False,
                # What is recorded of a tag that the target lists is believed.
                own={SOLE: Bound(source=1 + tags, target=1)},
            ),
        ),
        pairs=(Pair(source=repository, target=repository.name),),
        # Where round trips are long, more processes may be better than the customary number, and one is slow.
        peers=(
            (SyncerRun(), sole, SkopeoCopies(_FEW), SkopeoCopies(_MANY), Bare(_MANY))
            if delay
            else (SyncerRun(), sole, SkopeoSync(), SkopeoCopies(_FEW), Bare(_FEW))
        ),
        once=(SkopeoSync(),) if delay else (),
        delay=delay,
    )


def large_layer(size: int, *, is_secure: bool) -> Workload:
    """Return W3: one image with one large layer, beside a pipe of two programs that only carry it."""
    repository = content.Repository(name="bench/large", images=(content.image("v1", [content.layer("large", size)]),))
    tiny = content.Repository(name="bench/tiny", images=(content.image("v1", [content.layer("tiny", _TINY_BYTES)]),))
    title = f"W3: one layer of {size / 1024**3:g} GiB, {'TLS' if is_secure else 'plain'}"
    return Workload(
        key="W3",
        parts=(Part(title=title, bound=_first_bound(repository)),),
        pairs=(Pair(source=repository, target=repository.name),),
        peers=(SyncerRun(), SkopeoCopies(1), CurlPipe()),
        tiny=Pair(source=tiny, target=tiny.name),
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
    # One registry is both sides. Its catalog tells the repositories; each is listed, its target is looked at,
    # and its manifest is read; then the mounts and the manifest.
    least = 1 + repositories * (1 + 1 + 1 + blobs + 1)
    return Workload(
        key="W4",
        parts=(
            Part(
                title=f"W4: promotion of {repositories} repositories within one registry",
                bound=Bound(source=least, target=least),
                moves=False,
            ),
        ),
        pairs=pairs,
        peers=(SyncerRun(), SkopeoSync(), SkopeoCopies(), KnowingSkopeoCopies()),
        entries=("from: source/dev/*, to: 'target/prod/{name}'",),
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
        parts=(
            Part(
                title=f"W6: {count} images of 10 layers of 1 to {largest // 1_000_000} MB, 1 Gbit/s at 50 ms",
                bound=replace(_first_bound(repository), seconds=_size([repository]) / GIGABIT),
            ),
        ),
        pairs=(Pair(source=repository, target=repository.name),),
        peers=(SyncerRun(), SkopeoCopies(), CurlPipe(_PIPES)),
        delay=DELAY,
        rate=GIGABIT,
    )


def bounded_connections(size: int, *, rate: float) -> Workload:
    """Return W8: one large layer from a source that gives each connection ``rate`` bytes per second, at 50 ms."""
    repository = content.Repository(name="bench/large", images=(content.image("v1", [content.layer("large", size)]),))
    return Workload(
        key="W8",
        parts=(
            Part(
                title=f"W8: one layer of {size >> 20} MiB, {rate / 1_000_000:.0f} MB/s for each connection, at 50 ms",
                bound=_first_bound(repository),
            ),
        ),
        pairs=(Pair(source=repository, target=repository.name),),
        peers=(
            SyncerRun(),
            SyncerRun(f"syncer run, {_PARALLEL} connections", source=f"download: {{parallel: {_PARALLEL}}}"),
            SkopeoCopies(1),
        ),
        delay=DELAY,
        rate=rate,
        is_each=True,
    )


def _first_bound(repository: Repository) -> Bound:
    """Return the least for a repository whose target is empty; its manifests are all different."""
    tags, blobs = len(repository.images), len(repository.blobs)
    return Bound(source=1 + tags + blobs, target=1 + 2 * blobs + tags)


def _size(repositories: Iterable[Repository]) -> int:
    blobs = {digest: blob for repository in repositories for digest, blob in repository.blobs.items()}
    return sum(blob.descriptor.size for blob in blobs.values())
