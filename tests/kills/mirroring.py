"""``syncer run`` between two registries, killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kills.corpus import Stored
from tests.kills.registries import incomplete
from tests.kills.running import Run

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.server import RequestRecord
    from tests.kills.crashes import Crash
    from tests.kills.registries import Remembering


class Mirror(Run):
    """The job; bytes are those that are sent again."""

    name = "run, registry to registry"
    target = "target"

    async def _measure(
        self, crash: Crash, asked: list[Remembering], before: list[int], stored: Stored, root: Path
    ) -> list[str]:
        _, target = asked
        received = target.uploads(before[-1])
        crash.repeated = sum(count for (name, digest), count in received.items() if digest in stored.content[name])
        arrived = (await Stored.of(root)).anywhere
        needed = sum(size for digest, size in self._corpus.blobs().items() if digest in arrived)
        crash.resent = target.uploads().total() - needed
        return incomplete(target.records, self._corpus.needed())

    def _only_looks(self, record: RequestRecord) -> bool:
        return record.method in ("GET", "HEAD")

    def _listing(self, tags: int) -> int:
        # Both sides list their tags, and what both have is looked at on each.
        return 2 + 2 * tags

    def _copying(self, *, manifests: int, blobs: int, missing: int) -> int:
        # Each manifest is read, asked for referrers, and written, the tag's own once more under its digest; each blob
        # is read and asked for, and sent where it is not there.
        return 3 * manifests + 1 + 2 * blobs + missing
