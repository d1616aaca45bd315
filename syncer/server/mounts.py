"""Where blobs were seen lately, so that a mount without ``from`` can find them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncer.oci.digest import Digest

_DIGESTS = 16_384
_REPOSITORIES = 8


class BlobOrigins:
    """The last few repositories that each of the last many digests came to; a hint, never a proof."""

    def __init__(self) -> None:
        self._origins: OrderedDict[Digest, tuple[str, ...]] = OrderedDict()

    def note(self, digest: Digest, repository: str) -> None:
        """Remember that ``repository`` has the blob."""
        others = tuple(name for name in self._origins.pop(digest, ()) if name != repository)
        self._origins[digest] = (repository, *others[: _REPOSITORIES - 1])
        if len(self._origins) > _DIGESTS:
            self._origins.popitem(last=False)

    def candidates(self, digest: Digest) -> tuple[str, ...]:
        """Return repositories that had the blob, the latest first."""
        return self._origins.get(digest, ())
