"""What can be told of manifests from their bytes alone: which blobs are manifests, and who refers to whom."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from syncer.errors import ContentError, DigestMismatch, InvalidReference, NotFound, SizeExceedsLimit
from syncer.oci import media_types
from syncer.oci.digest import Digest
from syncer.oci.manifest import MAX_MANIFEST_SIZE, Manifest, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from syncer.layout.index import LayoutIndex


def stated_media_type(raw: bytes) -> str:
    """Return the media type that the bytes state themselves; empty when they state none."""
    if not raw.startswith(b"{"):
        return ""
    try:
        stated = parse_object(raw).get("mediaType")
    except ContentError:
        return ""
    return stated if isinstance(stated, str) else ""


def recognise(raw: bytes, digest: Digest) -> Manifest | None:
    """Return the manifest that the bytes say they are; None for any other blob.

    An image's config has a member ``config`` too, so bytes that do not state a media type must have
    the whole shape of a manifest.

    Raises:
        DigestMismatch: when they look like a manifest and do not hash to ``digest``.
    """
    if not raw.startswith(b"{") or len(raw) > MAX_MANIFEST_SIZE:
        return None
    try:
        if not _says_manifest(parse_object(raw)):
            return None
        return Manifest.parse(raw, digest=digest)
    except DigestMismatch:
        raise
    except (ContentError, InvalidReference):
        return None


def _says_manifest(document: dict[str, Any]) -> bool:
    stated = document.get("mediaType")
    if stated is not None:
        return isinstance(stated, str) and media_types.is_manifest(stated)
    if document.get("schemaVersion") != 2:  # noqa: PLR2004 - the only version there is
        return False
    config = document.get("config")
    is_image = isinstance(config, dict) and "digest" in config and isinstance(document.get("layers"), list)
    return is_image or isinstance(document.get("manifests"), list)


def find_manifest(index: LayoutIndex, reference: str, read: Callable[[Digest], bytes], *, where: object) -> Manifest:
    """Return the manifest a tag or digest stands for: an entry of the index, or a blob that is a manifest.

    Args:
        index: the entries.
        reference: tag or digest; empty for the only image there is.
        read: returns a blob's bytes, within the bound of a manifest.
        where: what to call the place.

    Raises:
        NotFound: when there is no such tag or manifest.
        DigestMismatch, MalformedManifest: when its bytes are damaged.
    """
    if not reference:
        return _only_image(index, read, where)
    found = index.find(reference)
    if found is not None:
        return Manifest.parse(read(found.digest), found.media_type, digest=found.digest)
    if ":" in reference:
        # Not listed, but it may be a child of an index, which other tools list nowhere else.
        digest = Digest(reference)
        with suppress(NotFound, SizeExceedsLimit):
            manifest = recognise(read(digest), digest)
            if manifest is not None:
                return manifest
    hint = "Check the digest." if ":" in reference else "'syncer list-tags' lists the tags it has."
    raise NotFound(f"there is no {reference} in {where}", hint=hint)


def _only_image(index: LayoutIndex, read: Callable[[Digest], bytes], where: object) -> Manifest:
    """Return the image that ``oci:path`` names; signatures and the like beside it do not count."""
    digests = index.digests()
    own = [digest for digest in digests if not index.is_companion(digest)]
    images: list[Manifest] = []
    for digest in own or digests:
        manifest = find_manifest(index, digest, read, where=where)
        if manifest.subject is None or manifest.subject.digest not in digests:
            images.append(manifest)
        if len(images) > 1:
            raise NotFound(f"{where} has several images", hint="Name a tag or a digest.")
    if not images:
        raise NotFound(f"{where} has no image")
    return images[0]


def walk(roots: Iterable[Digest], read: Callable[[Digest], bytes]) -> Iterator[Manifest]:
    """Yield every manifest that can be reached from ``roots``, each once.

    ``read`` raises a ContentError for what is not here or cannot be read; that is passed over.
    """
    pending = list(roots)
    seen = set(pending)
    while pending:
        digest = pending.pop()
        try:
            manifest = recognise(read(digest), digest)
        except ContentError:
            continue
        if manifest is None:
            continue
        yield manifest
        for child in manifest.manifests:
            if child.digest not in seen:
                seen.add(child.digest)
                pending.append(child.digest)


def links(manifest: Manifest) -> list[Digest]:
    """Return the digests of what must be in place before the manifest: blobs and child manifests."""
    return [*(blob.digest for blob in manifest.blobs()), *(child.digest for child in manifest.manifests)]


def require_links(manifest: Manifest, present: Collection[Digest], *, where: object) -> None:
    """Check that everything the manifest links to is ``present``.

    Raises:
        NotFound: when something is missing, naming each of it.
    """
    missing = dict.fromkeys(digest for digest in links(manifest) if digest not in present)
    if missing:
        raise NotFound(
            f"manifest {manifest.digest} links to content that is not in {where}: {', '.join(missing)}",
            hint="Write the blobs and child manifests first.",
        )
