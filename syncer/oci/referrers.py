"""How content refers to other content: subjects, the tag schema, and cosign's tags.

Three schemes are in use, and an image's signatures may be in any of them: the referrers API
(distribution-spec 1.1), its fallback, an index under the tag ``sha256-<hex>`` ("Referrers Tag
Schema"), and cosign's older sidecar tags ``sha256-<hex>.sig``, ``.att`` and ``.sbom``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from syncer.errors import InvalidDigest
from syncer.oci import media_types
from syncer.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncer.oci.descriptor import Descriptor

COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
_COMPANION = re.compile(r"(sha256|sha512)-([0-9a-f]{64,128})(\.[A-Za-z0-9_.-]+)?")


def fallback_tag(digest: Digest) -> str:
    """Return the tag under which referrers of ``digest`` are listed without a referrers API.

    distribution-spec "Referrers Tag Schema": the algorithm cut to 32 characters, a dash, the
    hash cut to 64.
    """
    return f"{digest.algorithm[:32]}-{digest.encoded[:64]}"


def cosign_tags(digest: Digest) -> tuple[str, ...]:
    """Return the tags where cosign before 3.0 keeps signature, attestations and SBOM of ``digest``."""
    return tuple(f"{digest.algorithm}-{digest.encoded}{suffix}" for suffix in COSIGN_SUFFIXES)


def subject_of_tag(tag: str) -> Digest | None:
    """Return the digest a companion tag ``sha256-<hex>[.suffix]`` speaks of, or None for another tag.

    A tag of the tag schema for a sha512 digest holds only half of the hash; such a tag is not
    resolved here, but :func:`is_companion` knows it.
    """
    match = _COMPANION.fullmatch(tag)
    if match is None:
        return None
    try:
        return Digest(f"{match[1]}:{match[2]}")
    except InvalidDigest:
        return None


def is_companion(tag: str) -> bool:
    """Tell whether the tag belongs to another manifest rather than to people."""
    return _COMPANION.fullmatch(tag) is not None


def is_fallback(tag: str) -> bool:
    """Tell whether the tag is one of the referrers tag schema."""
    match = _COMPANION.fullmatch(tag)
    return match is not None and match[3] is None


def referrers_index(descriptors: Iterable[Descriptor]) -> bytes:
    """Return an image index that lists ``descriptors``, as the referrers API and the tag schema want it."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [descriptor.to_json() for descriptor in descriptors],
    }
    return json.dumps(document, separators=(",", ":")).encode()
