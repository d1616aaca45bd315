"""A repository that is read at several places: mirrors first, the registry itself last.

Content is the same wherever it comes from, since every byte is checked against its digest; so
manifests, blobs and tags are taken from the first mirror that has them. What there *is* (lists of
tags, referrers) is the registry's own to say: a mirror may hold a part of it only, and its silence
proves nothing. Mirrors are asked for lists only where the registry itself cannot be.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, TypeVar

from syncer.content import ReferrerLister, TagDescriber
from syncer.errors import (
    ContentError,
    Denied,
    DigestMismatch,
    Interrupted,
    InvalidReference,
    NotFound,
    PolicyViolation,
    Side,
    SizeMismatch,
    SyncerError,
    Unauthorized,
    Unsupported,
)
from syncer.events import Notice
from syncer.registry.traffic.windows import SharedWindow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from syncer.content import Source
    from syncer.events import Observer
    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest
    from syncer.oci.manifest import Manifest
    from syncer.registry.registries_conf import Route, Stop

    Opener = Callable[[Stop], Awaitable[Source]]

T = TypeVar("T")
#: Seconds for which a place that failed is passed over.
REST = 300.0
#: Blobs that are read at once through the mirrors of one registry.
_BLOBS = 16
#: Errors that another place cannot cure.
_FINAL = (InvalidReference, Interrupted)
#: Errors that are about one repository, and say nothing of the rest of a place.
_LOCAL = (Denied, Unauthorized, Unsupported)


class MirrorHealth:
    """Which places failed lately, and who has been told of what; one for all repositories of a run."""

    def __init__(self, observer: Observer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._clock = clock
        self._until: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()
        self._windows: dict[str, SharedWindow] = {}

    def is_resting(self, stop: Stop) -> bool:
        """Tell whether ``stop``, or its whole registry, failed in the last :data:`REST` seconds."""
        now = self._clock()
        return any(self._until.get(place, 0.0) > now for place in (stop.registry, str(stop)))

    def failed(self, stop: Stop, name: str, error: SyncerError) -> None:
        """Let ``stop`` rest, which was asked on behalf of ``name``; its whole registry where that is what failed."""
        if isinstance(error, NotFound) or self.is_resting(stop):
            return
        place = str(stop) if isinstance(error, _LOCAL) else stop.registry
        self._until[place] = self._clock() + REST
        text = f"passed over for {REST / 60:g} minutes when {name} is read: {error.message}"
        self._observer.notify(Notice(where=place, text=text))

    def tell(self, where: str, text: str) -> None:
        """Tell the observer, once."""
        if (where, text) not in self._told:
            self._told.add((where, text))
            self._observer.notify(Notice(where=where, text=text))

    def window(self, registry: str) -> SharedWindow:
        """Return the slots of blobs that are read in the place of ``registry``.

        They are not those of the places themselves: a copy between a registry and its own mirror would
        hold one of them while it waits for another.
        """
        return self._windows.setdefault(registry, SharedWindow(_BLOBS, clock=self._clock, is_fixed=True))


class MirroredRepository:
    """A repository of ``registry``, read along a route (implements Source, ReferrerLister, TagDescriber, Throttled)."""

    def __init__(self, registry: str, repository: str, *, route: Route, opener: Opener, health: MirrorHealth) -> None:
        """Keep what is needed; nothing is opened before something is asked for.

        Args:
            registry: the host that the image is named by.
            repository: its name there.
            route: where it is read.
            opener: opens one place of the route.
            health: shared by all repositories of a run.
        """
        self._registry = registry
        self._repository = repository
        self._route = route
        self._opener = opener
        self._health = health

    @property
    def registry(self) -> str:
        """The registry that the image is named by, wherever it is read."""
        return self._registry

    @property
    def repository(self) -> str:
        """The name within that registry."""
        return self._repository

    def __str__(self) -> str:
        return f"{self._registry}/{self._repository}"

    async def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for, at the first place that knows.

        Raises:
            NotFound: when no place has it.
            SyncerError: what the registry itself answered.
        """
        return await self._first(self._content_stops(reference), lambda place: place.resolve(reference))

    async def fetch_manifest(self, reference: str) -> Manifest:
        """Return the manifest, hashed, from the first place that has it.

        Where a mirror may be asked for digests only, the tag is resolved first, so that the manifest
        itself can come from there.

        Raises:
            NotFound: when no place has it.
            SyncerError: what the registry itself answered.
        """
        if ":" not in reference and self._has_digest_mirrors():
            reference = (await self.resolve(reference)).digest
        return await self._first(self._content_stops(reference), lambda place: place.fetch_manifest(reference))

    def fetch_blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob for reading at the first place that has it; another goes on where one fails."""
        return _BlobRead(self, descriptor)

    async def tags(self) -> AsyncIterator[str]:
        """Yield every tag that the registry lists, or a mirror where the registry cannot be asked.

        Raises:
            NotFound: when there is no such repository.
            SyncerError: what the registry itself answered.
        """
        async with aclosing(self._listed()) as listed:
            async for tag, _ in listed:
                yield tag

    async def described_tags(self) -> AsyncIterator[tuple[str, Digest | None]]:
        """Yield every tag as :meth:`tags` does, with its digest where the list has it."""
        async with aclosing(self._listed()) as listed:
            async for tag, digest in listed:
                yield tag, digest

    async def referrers(
        self, digest: Digest, artifact_type: str = "", *, known_tags: Collection[str] | None = None
    ) -> list[Descriptor]:
        """Return what refers to ``digest``, as the registry itself says, or a mirror where it cannot be asked."""

        async def ask(place: Source) -> list[Descriptor]:
            if not isinstance(place, ReferrerLister):
                return []
            return await place.referrers(digest, artifact_type, known_tags=known_tags)

        return await self._first(self._list_stops(digest), ask, noun="referrers")

    def data_slot(self, size: int = 0, partner: str = "", of: int = 1) -> AbstractAsyncContextManager[None]:
        """Wait for, and hold, the right to read one blob for ``partner``, of whatever ``size``."""
        del size
        return self._health.window(self._registry).permit(partner, of)

    # ------------------------------------------------------------------ where to ask

    def _content_stops(self, reference: str) -> list[Stop]:
        """Return the places to ask for a tag or digest: mirrors that may and can be asked, then the registry."""
        self._check_blocked()
        route = self._route
        mirrors = [stop for stop in route.mirrors if stop.pull.allows(reference)]
        if mirrors:
            self._say_where(f"read through {', '.join(dict.fromkeys(stop.registry for stop in mirrors))}")
        elif route.primary.registry != self._registry:
            self._say_where(f"read from {route.primary.registry}")
        return [*(stop for stop in mirrors if not self._health.is_resting(stop)), route.primary]

    def _list_stops(self, reference: str) -> list[Stop]:
        """Return the places to ask for what there is: the registry, and mirrors for when it cannot say."""
        self._check_blocked()
        primary = self._route.primary
        mirrors = [
            stop for stop in self._route.mirrors if stop.pull.allows(reference) and not self._health.is_resting(stop)
        ]
        return [*mirrors, primary] if mirrors and self._health.is_resting(primary) else [primary, *mirrors]

    def _has_digest_mirrors(self) -> bool:
        """Tell whether a digest opens a mirror that a tag does not."""
        return any(not stop.pull.allows("") and not self._health.is_resting(stop) for stop in self._route.mirrors)

    def _check_blocked(self) -> None:
        rule = self._route.rule
        if rule.blocked:
            raise PolicyViolation(
                f"{self} is blocked by {rule.file}",
                hint="Remove 'blocked' there, or read no such file: --registries-conf off, or 'registries_conf: off' "
                "in the spec.",
                side=Side.SOURCE,
            )

    def _say_where(self, text: str) -> None:
        rule = self._route.rule
        self._health.tell(rule.prefix, f"{text}, as {rule.file} says")

    # ------------------------------------------------------------------ asking

    async def _first(self, stops: Sequence[Stop], ask: Callable[[Source], Awaitable[T]], *, noun: str = "") -> T:
        """Return the answer of the first place that gives one; ``noun`` is what of a list is asked for."""
        failures: list[tuple[Stop, SyncerError]] = []
        for stop in stops:
            try:
                answer = await ask(await self.open(stop))
            except SyncerError as error:
                self.note(stop, error, failures)
                if noun and self._is_answer(stop, error):
                    break
                continue
            if noun:
                self._say_whose(noun, stop)
            return answer
        raise self.verdict(failures)

    async def _listed(self) -> AsyncGenerator[tuple[str, Digest | None]]:
        failures: list[tuple[Stop, SyncerError]] = []
        # A mirror for digests only is no source of tags.
        for stop in self._list_stops(""):
            has_begun = False
            try:
                async with aclosing(_described(await self.open(stop))) as described:
                    async for item in described:
                        has_begun = True
                        yield item
            except SyncerError as error:
                if has_begun:
                    # Half a list and another's other half are no list.
                    raise
                self.note(stop, error, failures)
                if self._is_answer(stop, error):
                    break
                continue
            self._say_whose("tags", stop)
            return
        raise self.verdict(failures)

    def blob_stops(self, descriptor: Descriptor) -> list[Stop]:
        """Return the places to read a blob from, in their order."""
        return self._content_stops(descriptor.digest)

    async def open(self, stop: Stop) -> Source:
        """Open one place of the route."""
        return await self._opener(stop)

    def note(self, stop: Stop, error: SyncerError, failures: list[tuple[Stop, SyncerError]]) -> None:
        """Remember that ``stop`` failed with ``error``; raise what no other place can cure."""
        if isinstance(error, _FINAL):
            raise error
        failures.append((stop, error))
        # Where there is nobody else to ask, there is no sense in passing it over; and a registry with a blob that
        # is not whole can still say what it has.
        is_able = stop is self._route.primary and (not self._route.mirrors or isinstance(error, ContentError))
        if not is_able:
            self._health.failed(stop, str(self), error)

    def _is_answer(self, stop: Stop, error: SyncerError) -> bool:
        """Tell whether the registry itself has said that there is nothing: a mirror may have kept what is gone."""
        return stop is self._route.primary and isinstance(error, NotFound)

    def _say_whose(self, noun: str, stop: Stop) -> None:
        """Tell, once, that a list is not the registry's own."""
        primary = self._route.primary
        if stop is not primary:
            text = f"its {noun} are taken from {stop.registry}, which may not know all: it could not be asked itself"
            self._health.tell(primary.registry, text)

    def verdict(self, failures: list[tuple[Stop, SyncerError]]) -> SyncerError:
        """Return the error of the registry itself, which mentions what became of the mirrors."""
        primary = self._route.primary
        error = next((error for stop, error in reversed(failures) if stop is primary), failures[-1][1])
        others = {stop.registry: found.message for stop, found in failures if stop is not primary}
        if others and not isinstance(error, NotFound):
            tried = "; ".join(f"{registry}: {message}" for registry, message in others.items())
            text = f"Mirrors were asked too ({self._route.rule.file}): {tried}"
            # One error may be raised for all who wait for the same registry.
            if text not in error.hint:
                error.hint = f"{error.hint} {text}".strip()
        return error


class _BlobRead:
    """The bytes of one blob; where a place fails, the next one goes on from there."""

    def __init__(self, repository: MirroredRepository, descriptor: Descriptor) -> None:
        self._repository = repository
        self._descriptor = descriptor
        self._stops = repository.blob_stops(descriptor)
        self._failures: list[tuple[Stop, SyncerError]] = []
        self._stack = AsyncExitStack()
        self._chunks: AsyncIterator[bytes] | None = None
        self._offset = 0
        self._skip = 0

    async def __aenter__(self) -> Self:
        await self._advance()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Found out by whoever checks the bytes: another attempt shall begin elsewhere.
        if isinstance(error, DigestMismatch | SizeMismatch) and self._chunks is not None:
            self._repository.note(self._stops[0], error, self._failures)
        self._chunks = None
        await self._stack.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while self._chunks is not None:
            try:
                chunk = await anext(self._chunks, b"")
                if not chunk:
                    self._check_end()
                    break
            except SyncerError as error:
                self._chunks = None
                await self._stack.aclose()
                self._leave(error)
                await self._advance()
                continue
            passed = min(self._skip, len(chunk))
            self._skip -= passed
            chunk = chunk[passed:]
            if chunk:
                self._offset += len(chunk)
                return chunk
        raise StopAsyncIteration

    def _check_end(self) -> None:
        if self._offset < self._descriptor.size:
            raise SizeMismatch(
                f"{self._stops[0]}@{self._descriptor.digest} ended after {self._offset} of "
                f"{self._descriptor.size} bytes",
                hint="The place is corrupt, or something between cut the answer short.",
                side=Side.SOURCE,
            )

    def _leave(self, error: SyncerError) -> None:
        """Go to the next place, as the one in use failed with ``error``; raise where there is none."""
        self._repository.note(self._stops[0], error, self._failures)
        del self._stops[0]
        if not self._stops:
            raise self._repository.verdict(self._failures)

    async def _advance(self) -> None:
        """Open the blob at the first place that gives it, to go on at the offset."""
        while self._chunks is None:
            try:
                place = await self._repository.open(self._stops[0])
                self._chunks = aiter(await self._stack.enter_async_context(place.fetch_blob(self._descriptor)))
            except SyncerError as error:
                self._leave(error)
        self._skip = self._offset


async def _described(place: Source) -> AsyncGenerator[tuple[str, Digest | None]]:
    if isinstance(place, TagDescriber):
        async for tag, digest in place.described_tags():
            yield tag, digest
    else:
        async for tag in place.tags():
            yield tag, None
