"""What the engine asks of a place where content lives.

Two small contracts, :class:`Source` and :class:`Target`, are all that a copy needs. What only
some places can do is a contract of its own, checked where it is used, never a flag:
:class:`ReferrerLister`, :class:`Deleter`, :class:`Catalog`, :class:`Throttled`.

An adapter is one repository of one registry, layout tree or archive.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar, runtime_checkable

from syncer.errors import DigestMismatch, SizeMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Self

    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest
    from syncer.oci.manifest import Manifest


A = TypeVar("A")
_ABILITIES: dict[tuple[type, object], bool] = {}


class BlobOutcome(StrEnum):
    """How a blob came to be in the target repository."""

    PRESENT = "present"
    MOUNTED = "mounted"
    STREAMED = "streamed"


@runtime_checkable
class Repository(Protocol):
    """One repository, by name."""

    @property
    def registry(self) -> str:
        """The place that holds the repository; equal for two repositories that can share blobs."""
        ...

    @property
    def repository(self) -> str:
        """The name within the registry."""
        ...


@runtime_checkable
class Source(Repository, Protocol):
    """A repository to read from."""

    async def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for, at the price of one HEAD.

        The digest is the registry's claim: good to tell "unchanged", no proof of integrity.

        Raises:
            NotFound: when there is no such tag or digest.
        """
        ...

    async def fetch_manifest(self, reference: str) -> Manifest:
        """Return the manifest a tag or digest stands for, hashed, and checked when it is a digest.

        Raises:
            NotFound: when there is no such manifest.
            DigestMismatch: when the bytes are not those of the digest asked for.
        """
        ...

    def fetch_blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob for reading from its first byte; a lost connection is resumed inside.

        The bytes are not verified here, see :func:`verified`. Entering raises NotFound when there is
        no such blob.
        """
        ...

    def tags(self) -> AsyncIterator[str]:
        """Yield every tag, in the order the place lists them, page by page.

        Raises:
            NotFound: when there is no such repository.
        """
        ...


class BlobSession(Protocol):
    """An upload that was opened and not yet fed."""

    async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        """Read the blob from ``opener`` and commit it.

        ``opener`` gives verified bytes: it raises before its last chunk when they are not what the
        digest says, and the session must then commit nothing. It may be called more than once.

        Raises:
            RegistryError, LayoutError: when the target fails; what was sent is given up.
        """
        ...

    async def abort(self) -> None:
        """Give the upload up; failures are ignored.

        A cancellation hastens it, and does not keep it from being done: it needs no shield.
        """
        ...


@runtime_checkable
class Target(Repository, Protocol):
    """A repository to write to."""

    async def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for, as :meth:`Source.resolve`."""
        ...

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> BlobSession | BlobOutcome:
        """Make the blob present, or open an upload for it, in one exchange.

        Args:
            descriptor: the blob.
            mount_from: a repository of the same registry that is known to have the blob; without
                one the target repository itself is asked, which is an existence check for free
                where the registry supports it.

        Returns:
            PRESENT or MOUNTED when the repository has the blob now, else an open session.
        """
        ...

    async def push_manifest(self, manifest: Manifest, tag: str = "") -> None:
        """Write the manifest's exact bytes under its digest, and under ``tag`` when given.

        A manifest with a subject becomes one of the subject's referrers, by whatever means the
        place has.

        Raises:
            NotFound: when content it links to is missing (the registry's MANIFEST_BLOB_UNKNOWN).
            ImmutableTag: when the tag is held by another digest and may not move.
        """
        ...


@runtime_checkable
class ReferrerLister(Protocol):
    """A source that can tell what refers to a manifest."""

    async def referrers(
        self, digest: Digest, artifact_type: str = "", *, known_tags: Collection[str] | None = None
    ) -> list[Descriptor]:
        """Return the descriptors of the manifests whose subject is ``digest``.

        Uses the referrers API, else the tag schema (distribution-spec "Listing Referrers").

        Args:
            digest: the subject.
            artifact_type: only referrers of this type; empty for all.
            known_tags: every ``sha256-…`` tag of the repository, when the caller has listed its tags;
                spares the request for a tag of the tag schema that is not there.
        """
        ...


@runtime_checkable
class ReferrerKeeper(Protocol):
    """A target that may have to keep lists of referrers by itself."""

    def order_referrers(self, subject: Digest, order: Sequence[Digest]) -> None:
        """Take note of the order in which the source lists what refers to ``subject``, before any of it is pushed.

        Referrers arrive in any order. A list that holds nothing else is kept in the source's, so that it is the
        same list, with the same digest, there and here.
        """
        ...


@runtime_checkable
class Filed(Protocol):
    """A source whose blobs are files of this machine."""

    async def blob_path(self, digest: Digest) -> Path:
        """Return the file that holds the blob, or would hold it; nothing is checked.

        Raises:
            NotFound: when there is no such repository.
        """
        ...


@runtime_checkable
class Linker(Protocol):
    """A target that can share a file with another place instead of writing its bytes once more."""

    async def link_blob(self, descriptor: Descriptor, file: Path) -> bool:
        """Check the bytes of ``file``, and make it the blob of this repository as well.

        Returns:
            False when it cannot be shared, or is not the blob: then it is read and written as any other.

        Raises:
            StorageFull, LayoutError: when the target cannot be written.
        """
        ...


@runtime_checkable
class Examiner(Protocol):
    """A target that can look closer at what it has than to say that it has it."""

    async def examine_blob(self, descriptor: Descriptor) -> bool:
        """Tell whether a blob that is said to be here is: by its bytes where they are near, else by its size.

        What has its name and is another counts as absent from then on.

        Raises:
            ProtocolViolation: when it cannot count as absent: a registry takes any upload for what it has.
            RegistryError, LayoutError: when it cannot be looked at.
        """
        ...


@runtime_checkable
class TagDescriber(Protocol):
    """A source whose list of tags may come with what they stand for."""

    def described_tags(self) -> AsyncIterator[tuple[str, Digest | None]]:
        """Yield every tag as :meth:`Source.tags` does, with its digest where the list has it, else None.

        The digest is the registry's claim, as that of :meth:`Source.resolve`, and spares asking for it.

        Raises:
            NotFound: when there is no such repository.
        """
        ...


@runtime_checkable
class Deleter(Protocol):
    """A target that can delete."""

    async def delete_tag(self, tag: str) -> None:
        """Remove the tag and leave the manifest.

        Raises:
            NotFound: when there is no such tag.
            Unsupported: when the place cannot delete a tag on its own.
        """
        ...

    async def delete_manifest(self, digest: Digest) -> None:
        """Remove the manifest, and with it every tag that points to it.

        Raises:
            NotFound: when there is no such manifest.
            Unsupported: when the place does not delete.
        """
        ...


@runtime_checkable
class Catalog(Protocol):
    """A registry or a tree that can list its repositories."""

    def repositories(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the names of repositories that start with ``prefix``, page by page.

        Raises:
            Unsupported, Denied: when the registry does not list them.
        """
        ...


@runtime_checkable
class Throttled(Protocol):
    """A place that bounds how many blobs move from or to it at once."""

    def data_slot(self, size: int = 0, partner: str = "", of: int = 1) -> AbstractAsyncContextManager[None]:
        """Wait for, and hold, the right to move one blob of ``size`` bytes to or from the registry ``partner``.

        No partner uses up all slots where it is one ``of`` several, or others have come.

        Who needs slots of two places takes them in the order of :attr:`Repository.registry`.
        """
        ...


def is_able(place: object, ability: Callable[..., A]) -> TypeGuard[A]:
    """Tell whether ``place`` has an ``ability``, which is one of the protocols above.

    That is what ``isinstance`` tells, too; but it looks at every member each time, which takes longer than much of
    what is done with a blob. All of one class have the same abilities.
    """
    key = (type(place), ability)
    able = _ABILITIES.get(key)
    if able is None:
        able = _ABILITIES[key] = isinstance(place, ability)  # type: ignore[arg-type]  # it is a class
    return able


class verified:  # noqa: N801 - stands where a generator would
    """Pass ``chunks`` on, one behind, so that the last is held back until the whole has been checked.

    Hashing runs in the loop's thread: hashlib lets go of the interpreter lock over 2 KiB, but at
    the chunk sizes in use a hand-over to another thread costs more than it gives.
    """

    __slots__ = ("_chunks", "_descriptor", "_hasher", "_held", "_is_over", "_seen")

    def __init__(self, chunks: AsyncIterator[bytes], descriptor: Descriptor) -> None:
        """Check that ``chunks`` are what ``descriptor`` says."""
        self._chunks = chunks
        self._descriptor = descriptor
        self._hasher = descriptor.digest.hasher()
        self._seen = 0
        self._held = b""
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the chunk before the one that came last.

        Raises:
            SizeMismatch: as soon as there are more bytes than the descriptor's size, or fewer at the end.
            DigestMismatch: at the end, when the bytes do not hash to the descriptor's digest.
        """
        size = self._descriptor.size
        while not self._is_over:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                chunk = b""
                self._is_over = True
                self._check()
            self._seen += len(chunk)
            if self._seen > size:
                self._is_over = True
                raise SizeMismatch(f"blob {self._descriptor.digest} is longer than the {size} bytes announced")
            self._hasher.update(chunk)
            held, self._held = self._held, chunk
            if held:
                return held
        raise StopAsyncIteration

    def _check(self) -> None:
        digest, size = self._descriptor.digest, self._descriptor.size
        if self._seen != size:
            raise SizeMismatch(f"blob {digest} ended after {self._seen} of {size} bytes")
        if self._hasher.hexdigest() != digest.encoded:
            raise DigestMismatch(
                f"blob {digest} arrived as {digest.algorithm}:{self._hasher.hexdigest()}",
                hint="The source is corrupt, or something between changed the bytes; nothing was tagged.",
            )
