"""One repository of a registry: a Source and a Target of the engine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio.to_thread

from syncer.errors import (
    ConnectionFailed,
    ContentError,
    DigestMismatch,
    ImmutableTag,
    InvalidDigest,
    NotFound,
    QuotaExceeded,
    ServerFailure,
    Side,
    StatusError,
    TransportError,
    Unsupported,
    UnsupportedMediaType,
)
from syncer.events import RequestKind
from syncer.oci import media_types
from syncer.oci.descriptor import MAX_SIZE, Descriptor
from syncer.oci.digest import Digest, is_digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE, Manifest
from syncer.oci.reference import check_tag
from syncer.registry import referrers, tags
from syncer.registry.auth.scopes import Scope
from syncer.registry.call import Call
from syncer.registry.capabilities import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from contextlib import AbstractAsyncContextManager

    from syncer.content import BlobOutcome, BlobSession
    from syncer.registry.call import Reply
    from syncer.registry.client import RegistryClient

#: One object each for all repositories, of which there may be many.
_READ, _READ_AND_WRITE = frozenset({"pull"}), frozenset({"pull", "push"})
_ACCEPT = {"Accept": media_types.ACCEPT_MANIFESTS}
#: A manifest of this size is parsed in a thread, to keep the loop going.
_PARSED_ON_LOOP = 256 * 1024
#: What a registry answers to a HEAD it does not do.
_HEAD_REFUSED = frozenset({400, 405, 406, 501})
#: What a registry answers to a DELETE it does not do.
_DELETE_REFUSED = frozenset({400, 405, 501})


class RegistryRepository:
    """A repository, reached over HTTP (implements Source, Target and what else content.py has for one)."""

    def __init__(self, client: RegistryClient, name: str, side: Side | None = None) -> None:
        self._client = client
        self._name = name
        self.side = side
        # On the target every request asks for the right to push, so that one token does for all of them.
        actions = _READ_AND_WRITE if side is Side.TARGET else _READ
        self.scopes: tuple[Scope, ...] = (Scope("repository", name, actions),)

    @property
    def client(self) -> RegistryClient:
        """The client of the registry."""
        return self._client

    @property
    def registry(self) -> str:
        """The registry's host."""
        return self._client.host

    @property
    def repository(self) -> str:
        """The name within the registry."""
        return self._name

    def __str__(self) -> str:
        return f"{self.registry}/{self._name}"

    def asked(self, reference: str) -> str:
        """Return ``registry/repository:tag`` or ``…@digest``, for messages."""
        return f"{self}{'@' if ':' in reference else ':'}{reference}"

    async def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for: one HEAD, and a GET only where HEAD tells too little.

        Raises:
            NotFound: when there is no such tag or digest.
            InvalidReference: when it is neither.
            RegistryError: when the registry cannot say.
        """
        _check(reference)
        capabilities = self._client.capabilities
        is_unheaded = False
        if capabilities.offers(Capability.MANIFEST_HEAD) is not False:
            try:
                reply = await self._client.exchange(self._manifest_call(RequestKind.MANIFEST_HEAD, "HEAD", reference))
            except StatusError as error:
                if error.status not in _HEAD_REFUSED:
                    raise
                is_unheaded = True
            else:
                described = _described(reply, reference)
                if described is not None:
                    return described
                is_unheaded = _stated(reply) is None
        is_answered = False
        try:
            found = await self.fetch_manifest(reference)
            is_answered = True
        except NotFound:
            is_answered = True
            raise
        finally:
            if is_unheaded and is_answered:
                # Only the GET shows that it was HEAD, and not this manifest, that the registry could not answer.
                capabilities.learn(Capability.MANIFEST_HEAD, offered=False)
        return found.descriptor

    async def fetch_manifest(self, reference: str) -> Manifest:
        """Return the manifest, hashed; bytes that are not those of the digest are asked for once more.

        Raises:
            NotFound: when there is no such manifest.
            DigestMismatch: when the bytes are not those of the digest asked for, or of the one that the registry
                says a tag stands for.
            SizeExceedsLimit: when it is over 4 MiB.
            MalformedManifest, UnsupportedMediaType: see :meth:`Manifest.parse`.
        """
        _check(reference)
        digest = Digest(reference) if ":" in reference else None
        call = self._manifest_call(RequestKind.MANIFEST_GET, "GET", reference)
        for is_last in (False, True):
            reply = await self._client.exchange(call)
            try:
                manifest = await _parse(reply, digest)
            except ContentError as error:
                is_known = isinstance(error, UnsupportedMediaType)
                if digest is None and not is_known and (named := _other_digest(reply)) is not None:
                    # What cannot be read may be what it is not.
                    return await self._settled(reference, named, Digest.of(reply.body))
                error.side = self.side
                error.message = f"{self.asked(reference)}: {error.message}"
                if is_last or not isinstance(error, DigestMismatch):
                    raise
            else:
                if digest is None and (named := _other_digest(reply, manifest.digest)) is not None:
                    return await self._settled(reference, named, manifest.digest)
                return manifest
        raise AssertionError  # the loop returns or raises

    async def _settled(self, tag: str, named: Digest, actual: Digest) -> Manifest:
        """Return the manifest of a tag that arrived as ``actual`` and was said to be ``named``.

        Either the bytes were changed on the way, or the registry names another digest than its own (ggcr has
        met such): under the digest that is right it gives the bytes that belong to it.
        """
        for digest in (named, actual):
            try:
                return await self.fetch_manifest(digest)
            except (ContentError, StatusError) as error:
                if error.retryable:
                    raise
        raise DigestMismatch(
            f"{self.asked(tag)} arrived as {actual}, where {self.registry} says {named}; it gives neither by digest",
            hint="The source is corrupt, or something between changes what it sends; nothing was tagged.",
            side=self.side,
        )

    def fetch_blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob for reading; see :class:`BlobDownload`, and :class:`RangedDownload` for large ones."""
        from syncer.registry.download import BlobDownload  # noqa: PLC0415 - what is in sync is not moved

        call = Call(
            kind=RequestKind.BLOB_GET,
            method="GET",
            url=self._client.url(f"/v2/{self._name}/blobs/{descriptor.digest}"),
            asked=self.asked(descriptor.digest),
            scopes=self.scopes,
            side=self.side,
            is_data=True,
            blob_size=descriptor.size,
        )
        downloads = self._client.downloads
        if downloads.parallel > 1 and descriptor.size >= downloads.large:
            from syncer.registry.ranged import RangedDownload  # noqa: PLC0415 - only where it is asked for

            return RangedDownload(self._client, call, descriptor, downloads.parallel)
        return BlobDownload(self._client, call, descriptor)

    async def tags(self) -> AsyncIterator[str]:
        """Yield every tag, page by page, each once; entries that are no tags (nulls, digests) are left out.

        Raises:
            NotFound: when there is no such repository.
            ProtocolViolation: when a page is no list of tags, or the pages lead away or in a circle.
        """
        async for tag, _ in tags.described(self):
            yield tag

    def described_tags(self) -> AsyncIterator[tuple[str, Digest | None]]:
        """Yield every tag with its digest where the list has it; see :func:`tags.described`."""
        return tags.described(self)

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> BlobSession | BlobOutcome:
        """Make the blob present or open an upload, in one POST; see :func:`upload.begin`."""
        from syncer.registry import upload  # noqa: PLC0415 - as above: the acts of an upload are ten modules

        return await upload.begin(self, descriptor, mount_from)

    async def examine_blob(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob is there, whole; see :func:`upload.examine`."""
        from syncer.registry import upload  # noqa: PLC0415 - as above

        return await upload.examine(self, descriptor)

    async def push_manifest(self, manifest: Manifest, tag: str = "") -> None:
        """Write the manifest; see :func:`manifests.push`."""
        from syncer.registry import manifests  # noqa: PLC0415 - as above

        await manifests.push(self, manifest, tag)

    async def referrers(
        self, digest: Digest, artifact_type: str = "", *, known_tags: Collection[str] | None = None
    ) -> list[Descriptor]:
        """Return what refers to ``digest``; see :func:`referrers.find`."""
        return await referrers.find(self, digest, artifact_type, known_tags)

    def order_referrers(self, subject: Digest, order: Sequence[Digest]) -> None:
        """Note the order of a list of referrers, should there be one to be kept under a tag."""
        self._client.fallback_tags.order(self, subject, order)

    async def delete_tag(self, tag: str) -> None:
        """Remove the tag and leave the manifest.

        Raises:
            NotFound: when there is no such tag.
            Unsupported: when the registry deletes by digest only, or not at all.
        """
        await self.delete(check_tag(tag))

    async def delete_manifest(self, digest: Digest) -> None:
        """Remove the manifest, and with it its tags and its place on the list of what refers to its subject.

        Raises:
            NotFound: when there is no such manifest.
            Unsupported: when the registry does not delete.
        """
        await referrers.delete(self, Digest(digest))

    def data_slot(self, size: int = 0, partner: str = "", of: int = 1) -> AbstractAsyncContextManager[None]:
        """Wait for, and hold, the right to move one blob of ``size`` bytes between this registry and ``partner``."""
        return self._client.limits.of_blob(size).permit(partner, of)

    async def delete(self, reference: str) -> None:
        """Send the DELETE of a tag or digest, and nothing else; see :meth:`delete_tag` and :meth:`delete_manifest`."""
        call = Call(
            kind=RequestKind.DELETE,
            method="DELETE",
            url=self._client.url(f"/v2/{self._name}/manifests/{reference}"),
            asked=self.asked(reference),
            # Quay gives no token at all to who names an action that it does not know.
            scopes=(Scope.repository(self._name, self._client.capabilities.traits.delete_scope),),
            expected=frozenset({200, 202, 204}),
            side=self.side,
        )
        try:
            await self._delete(call)
        except (ImmutableTag, QuotaExceeded):
            # These come as 400 too, and say why.
            raise
        except StatusError as error:
            if error.status not in _DELETE_REFUSED:
                raise
            hint = "Deletion is switched off there."
            if ":" not in reference:
                hint = (
                    "Deletion is switched off there, or works by digest only: that removes the manifest, and with it "
                    "every tag that points to it."
                )
            raise Unsupported(
                f"nothing was deleted: {error.message}",
                status=error.status,
                codes=error.codes,
                registry=error.registry,
                method=error.method,
                url=error.url,
                side=self.side,
                hint=hint,
            ) from error

    async def _delete(self, call: Call) -> None:
        try:
            await self._client.exchange(replace(call, tries=1))
        except (TransportError, ServerFailure) as error:
            if isinstance(error, ConnectionFailed) and error.is_absent:
                raise
            # It may have been carried out, and only the answer be lost: then it is gone by now, as it should be.
            with suppress(NotFound):
                await self._client.exchange(call)

    def _manifest_call(self, kind: RequestKind, method: str, reference: str) -> Call:
        return Call(
            kind=kind,
            method=method,
            url=self._client.url(f"/v2/{self._name}/manifests/{reference}"),
            asked=self.asked(reference),
            scopes=self.scopes,
            headers=_ACCEPT,
            side=self.side,
            limit=MAX_MANIFEST_SIZE,
        )


def _check(reference: str) -> None:
    if ":" in reference:
        Digest(reference)
    else:
        check_tag(reference)


def _stated(reply: Reply) -> tuple[Digest, int] | None:
    """Return the digest and the length that the headers of a HEAD give, or None when one is missing."""
    length = reply.headers.get("Content-Length", "")
    if not length.isdigit() or not length.isascii() or length == "0":
        return None
    try:
        return Digest(reply.headers.get("Docker-Content-Digest", "")), int(length[:20])
    except InvalidDigest:
        return None


def _other_digest(reply: Reply, actual: Digest | None = None) -> Digest | None:
    """Return the digest that ``reply`` names, where it is not that of its bytes; None where none is to be compared."""
    text = reply.headers.get("Docker-Content-Digest", "")
    if not is_digest(text):
        return None
    named = Digest(text)
    if actual is not None and actual.algorithm == named.algorithm:
        return None if actual == named else named
    return None if named.matches(reply.body) else named


def _described(reply: Reply, reference: str) -> Descriptor | None:
    """Return the descriptor that the headers of a HEAD give, or None when they do not say enough."""
    stated = _stated(reply)
    if stated is None or stated[1] >= MAX_SIZE:
        return None
    digest, size = stated
    if ":" in reference and digest != reference:
        # Another digest than the one asked for is no answer to it; the bytes will tell.
        return None
    return Descriptor(media_type=media_types.bare(_content_type(reply)), digest=digest, size=size)


def _content_type(reply: Reply) -> str:
    # What is no ASCII is no media type (RFC 6838), and could not be sent on in a header.
    stated = reply.headers.get("Content-Type", "")
    return stated if stated.isascii() else ""


async def _parse(reply: Reply, digest: Digest | None) -> Manifest:
    media_type = _content_type(reply)
    if len(reply.body) > _PARSED_ON_LOOP:
        return await anyio.to_thread.run_sync(lambda: Manifest.parse(reply.body, media_type, digest=digest))
    return Manifest.parse(reply.body, media_type, digest=digest)
