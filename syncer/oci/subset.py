"""A platform subset of an index.

This is the one place where Syncer writes a manifest of its own: an index that names platforms
the target does not have is refused by most registries, so the entries that are left out must go
from the bytes, and the digest changes. The result depends on nothing but the source's bytes and
the platforms asked for, so the next run computes the same digest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from syncer.errors import MalformedManifest, NotFound
from syncer.oci.manifest import Manifest, parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from syncer.oci.descriptor import Descriptor
    from syncer.oci.digest import Digest
    from syncer.oci.platform import Platform

#: BuildKit's link from an attestation entry to the manifest it attests.
ATTESTED = "vnd.docker.reference.digest"


def choose(index: Manifest, platforms: Sequence[Platform]) -> tuple[Descriptor, ...]:
    """Return the entries of ``index`` for ``platforms``, with the attestations of those entries.

    An entry without a platform (a nested index, an artifact) stays: nothing says it is not wanted.

    Raises:
        NotFound: when one of the platforms has no entry.
    """
    if missing := [
        str(p) for p in platforms if not any(c.platform and c.platform.satisfies(p) for c in index.manifests)
    ]:
        offered = sorted({str(c.platform) for c in index.manifests if c.platform and not c.platform.is_unknown})
        raise NotFound(
            f"the index has no manifest for {', '.join(missing)}; it has {', '.join(offered) or 'no platforms'}",
            hint="Choose among these, with 'platforms' of the entry or --platform; or exclude the tag.",
        )
    chosen: set[Digest] = {
        child.digest
        for child in index.manifests
        if child.platform is None or any(child.platform.satisfies(platform) for platform in platforms)
    }
    return tuple(
        child for child in index.manifests if child.digest in chosen or child.annotations.get(ATTESTED) in chosen
    )


def subset(index: Manifest, platforms: Sequence[Platform]) -> Manifest:
    """Return ``index`` reduced to ``platforms``; the same object when nothing has to go.

    Raises:
        NotFound: when one of the platforms has no entry.
        MalformedManifest: when it is nested too deep to be written again, or has a number that cannot be.
    """
    kept = choose(index, platforms)
    if len(kept) == len(index.manifests):
        return index
    digests = {child.digest for child in kept}
    document = parse_object(index.raw, is_rewritten=True)
    document["manifests"] = [item for item in document["manifests"] if item["digest"] in digests]
    try:
        raw = json.dumps(document, separators=(",", ":")).encode()
    except RecursionError:
        raise MalformedManifest(f"the index {index.digest} is nested too deep to be reduced") from None
    return Manifest.parse(raw, index.media_type)
