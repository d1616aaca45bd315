"""Making a blob present in a target repository, with as few requests and bytes as can be.

Present, mount, stream, in this order; each digest is streamed once per target registry, however
many images and repositories want it (ARCHITECTURE, the engine's rules 1, 3 and 4).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from anyio import Event

from syncer.content import BlobOutcome, Examiner, Filed, Linker, Throttled, is_able, verified
from syncer.engine.fanout import Flights, open_group
from syncer.engine.readings import Readings
from syncer.errors import DigestMismatch, Side, SizeMismatch, SyncerError
from syncer.events import BlobFinished, BlobProgress, BlobStarted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from syncer.content import BlobSession, Repository, Source, Target
    from syncer.engine.holdings import Holdings
    from syncer.events import Observer
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest


K = TypeVar("K")
V = TypeVar("V")
#: Blobs that a run remembers to have confirmed, or to have found dead; forgetting one costs a request.
CAPACITY = 100_000


class BlobMover:
    """Moves blobs into the repositories of one target registry."""

    def __init__(self, holdings: Holdings, observer: Observer, readings: Readings | None = None) -> None:
        """Move blobs into what ``holdings`` is of; ``readings`` are shared with the movers of other registries."""
        self.holdings = holdings
        self._observer = observer
        self._readings = readings or Readings()
        self._in_registry: Flights[Digest] = Flights()
        self._in_repository: Flights[tuple[str, str, Digest]] = Flights()
        #: Places of blobs that the registry itself has confirmed in this run.
        self._confirmed: OrderedDict[tuple[str, Digest], None] = OrderedDict()
        #: Blobs that a source has definitely not got, or not whole.
        self._dead: OrderedDict[tuple[str, Digest], SyncerError] = OrderedDict()
        self._has_mounted = False
        #: Repositories that are not expected to hold what nobody knows them to hold; and those that did all the same.
        self._bare: set[str] = set()
        self._surprising: set[str] = set()

    def expect_bare(self, repository: str) -> None:
        """Expect that the repository lacks what it is not known to hold: blobs are read before it has said so."""
        if repository not in self._surprising:
            self._bare.add(repository)

    async def ensure(self, blob: Descriptor, source: Source, target: Target, *, doubted: bool = False) -> None:
        """Return when the target repository holds ``blob``.

        Args:
            blob: what is wanted.
            source: where its bytes are.
            target: where they are wanted.
            doubted: believe only what the registry has confirmed in this run.

        Raises:
            DigestMismatch, SizeMismatch: when the source's bytes are not the blob's.
            SyncerError: whatever else the source or the target raised; ``side`` says which.
        """
        place = (target.repository, blob.digest)
        origin = _name(source)
        flight = (origin, target.repository, blob.digest)
        while True:
            if place in self._confirmed or (not doubted and self.holdings.holds(*place)):
                return
            if dead := self._dead.get((origin, blob.digest)):
                raise dead
            if flight in self._in_repository:
                # What failed for the leader, from the same source to the same target, fails for all who wait.
                if failure := await self._in_repository.wait(flight):
                    raise failure
                continue
            if self._mount_source(blob, source, target) or blob.digest not in self._in_registry:
                break
            # Somebody brings it to a sibling repository; once it is there, it is mounted from there.
            await self._in_registry.wait(blob.digest)
        with self._in_repository.lead(flight):
            try:
                await self._make_present(blob, source, target, doubted=doubted)
            except SyncerError as error:
                if error.side is Side.SOURCE and not error.retryable and not error.is_deferral:
                    _remember(self._dead, (origin, blob.digest), error)
                raise
        _remember(self._confirmed, place, None)

    async def doubt(self, repository: str, digests: Collection[Digest]) -> None:
        """Take note that the registry says it lacks the digests, whatever was known."""
        for digest in digests:
            self._confirmed.pop((repository, digest), None)
        await self.holdings.drop(repository, digests)

    async def _make_present(self, blob: Descriptor, source: Source, target: Target, *, doubted: bool) -> None:
        name, origin = _name(target), _name(source)
        self._observer.notify(BlobStarted(source=origin, target=name, digest=blob.digest, size=blob.size))
        mount_from = self._mount_source(blob, source, target)
        if mount_from:
            outcome = await self._mount_or_stream(blob, source, target, mount_from, doubted=doubted)
        else:
            with self._in_registry.lead(blob.digest):
                async with self._slots(source, target, blob):
                    # A place on this machine says at once what it has: reading ahead of its answer would save nothing.
                    if target.repository in self._bare and not doubted and not is_able(target, Linker):
                        outcome = await self._begin_and_read(blob, source, target)
                    else:
                        begun = await _begin(target, blob, "", doubted=doubted)
                        outcome = await self._finish(begun, blob, source, target)
                await self.holdings.add(target.repository, [blob.digest])
        self._observer.notify(BlobFinished(target=name, digest=blob.digest, size=blob.size, outcome=outcome))

    async def _mount_or_stream(
        self, blob: Descriptor, source: Source, target: Target, mount_from: str, *, doubted: bool
    ) -> BlobOutcome:
        begun = await _begin(target, blob, mount_from, doubted=doubted)
        if isinstance(begun, BlobOutcome):
            outcome = begun
            self._has_mounted = self._has_mounted or outcome is BlobOutcome.MOUNTED
        else:
            try:
                # A registry that mounts, and would not mount this, has lost it there.
                # One that never mounts says nothing.
                if self._has_mounted and mount_from != source.repository:
                    await self.holdings.drop(mount_from, [blob.digest])
                async with self._slots(source, target, blob):
                    outcome = await self._finish(begun, blob, source, target)
            except BaseException:
                await _give_up(begun)
                raise
        await self.holdings.add(target.repository, [blob.digest])
        return outcome

    async def _begin_and_read(self, blob: Descriptor, source: Source, target: Target) -> BlobOutcome:
        """Open the upload and the blob at the same time; a repository that has it after all is not trusted again."""
        answer: list[BlobSession | BlobOutcome] = []
        answered = Event()

        async def begin() -> None:
            answer.append(await _begin(target, blob, ""))
            answered.set()

        try:
            async with open_group() as group, AsyncExitStack() as stack:
                group.start_soon(begin)
                chunks: AsyncIterator[bytes] | None = None
                try:
                    with blamed_on(Side.SOURCE):
                        chunks = await stack.enter_async_context(self._readings.open(blob, source, _name(target)))
                except SizeMismatch:
                    # As wrong as bytes are that came: it may be one replica of several.
                    pass
                except SyncerError:
                    await answered.wait()
                    raise
                await answered.wait()
                if answer[0] is BlobOutcome.PRESENT:
                    self._surprising.add(target.repository)
                    self._bare.discard(target.repository)
                return await self._finish(answer[0], blob, source, target, opened=chunks, was_wrong=chunks is None)
        except BaseException:
            # Only now is it certain that nothing more is opened: what was, is given up, not left behind.
            for begun in answer:
                await _give_up(begun)
            raise
        raise AssertionError  # the block returns or raises

    async def _finish(
        self,
        begun: BlobSession | BlobOutcome,
        blob: Descriptor,
        source: Source,
        target: Target,
        *,
        opened: AsyncIterator[bytes] | None = None,
        was_wrong: bool = False,
    ) -> BlobOutcome:
        """Send the blob; its first reading is of ``opened``, when it was opened already.

        ``was_wrong`` when the source has announced another blob once.
        """
        if isinstance(begun, BlobOutcome):
            return begun
        if await _is_shared(blob, source, target):
            await begun.abort()
            return BlobOutcome.MOUNTED
        meter = _Meter(blob, _name(target), self._observer)

        @asynccontextmanager
        async def opener() -> AsyncIterator[AsyncIterator[bytes]]:
            nonlocal opened
            meter.restart()
            chunks, opened = opened, None
            if chunks is not None:
                yield meter.metered(chunks)
                return
            async with AsyncExitStack() as stack:
                # Only opening is blamed on the source: what is raised inside the block is the target's.
                with blamed_on(Side.SOURCE):
                    chunks = await stack.enter_async_context(self._readings.open(blob, source, _name(target)))
                yield meter.metered(chunks)

        for is_last in (True,) if was_wrong else (False, True):
            try:
                with blamed_on(Side.TARGET):
                    await begun.send(opener)
            except (DigestMismatch, SizeMismatch) as error:
                if error.side is not Side.SOURCE:
                    raise
                # A bit may have been lost on the way, or in one replica of several: only the same twice is a verdict.
                if is_last:
                    raise type(error)(
                        f"{_name(source)} is corrupt: {error.message}, twice",
                        hint=error.hint,
                        side=Side.SOURCE,
                    ) from error
            else:
                return BlobOutcome.STREAMED
            begun = await _begin(target, blob, "")
            if isinstance(begun, BlobOutcome):
                return begun
        raise AssertionError  # the loop returns or raises

    def _slots(self, source: Source, target: Target, blob: Descriptor) -> AbstractAsyncContextManager[None]:
        return data_slots(source, target, size=blob.size, targets=self._readings.targets(source))

    def _mount_source(self, blob: Descriptor, source: Source, target: Target) -> str:
        if known := self.holdings.mount_source(target.repository, blob.digest):
            return known
        same = source.registry == target.registry and source.repository != target.repository
        return source.repository if same else ""


def _remember(memory: OrderedDict[K, V], key: K, value: V) -> None:
    """Keep ``value``, and forget the oldest beyond the capacity."""
    memory[key] = value
    if len(memory) > CAPACITY:
        memory.popitem(last=False)


async def _begin(
    target: Target, blob: Descriptor, mount_from: str, *, doubted: bool = False
) -> BlobSession | BlobOutcome:
    with blamed_on(Side.TARGET):
        begun = await target.begin_blob(blob, mount_from=mount_from)
        if doubted and isinstance(begun, BlobOutcome) and not await _is_sound(target, blob):
            begun = await target.begin_blob(blob)
    return begun


async def _is_sound(place: Repository, blob: Descriptor) -> bool:
    return await place.examine_blob(blob) if is_able(place, Examiner) else True


def _name(place: Repository) -> str:
    return f"{place.registry}/{place.repository}"


async def _is_shared(blob: Descriptor, source: Source, target: Target) -> bool:
    """Let the target share the file of the source, where both have files; True when it holds the blob now."""
    if not (is_able(source, Filed) and is_able(target, Linker)):
        return False
    with blamed_on(Side.SOURCE):
        file = await source.blob_path(blob.digest)
    with blamed_on(Side.TARGET):
        return await target.link_blob(blob, file)


async def _give_up(begun: BlobSession | BlobOutcome) -> None:
    if not isinstance(begun, BlobOutcome):
        await begun.abort()


class blamed_on:  # noqa: N801 - a context manager used as a statement
    """Mark errors raised in the block as belonging to one side of the copy, unless they say so."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, SyncerError) and error.side is None:
            error.side = self._side


@asynccontextmanager
async def data_slots(source: Repository, target: Repository, *, size: int = 0, targets: int = 1) -> AsyncIterator[None]:
    """Hold a slot for a blob of ``size`` bytes of each side that has them; the source has so many ``targets``.

    Slots are taken in the order of the registries' names, so that two transfers in opposite
    directions cannot each hold what the other waits for; a copy within one registry takes one.
    """
    slots: dict[str, AbstractAsyncContextManager[None]] = {}
    for place, partner, of in ((source, target, targets), (target, source, 1)):
        name = place.registry
        if is_able(place, Throttled):
            slots[name] = place.data_slot(size, partner.registry, of)
    async with AsyncExitStack() as stack:
        for name in sorted(slots):
            await stack.enter_async_context(slots[name])
        yield


class _Meter:
    """Checks the bytes of one blob and tells the observer how many have passed, taking them back on a new start."""

    def __init__(self, blob: Descriptor, target: str, observer: Observer) -> None:
        self._blob = blob
        self._target = target
        self._observer = observer
        self._passed = 0

    def restart(self) -> None:
        if self._passed:
            self.passed(-self._passed)

    def metered(self, chunks: AsyncIterator[bytes]) -> _Metered:
        return _Metered(self, verified(chunks, self._blob))

    def passed(self, count: int) -> None:
        self._passed += count
        self._observer.notify(BlobProgress(target=self._target, digest=self._blob.digest, count=count))


class _Metered:
    """The checked bytes of one reading; what is wrong with them is the source's fault."""

    __slots__ = ("_chunks", "_meter")

    def __init__(self, meter: _Meter, chunks: verified) -> None:
        self._meter = meter
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with blamed_on(Side.SOURCE):
            chunk = await anext(self._chunks)
        self._meter.passed(len(chunk))
        return chunk
