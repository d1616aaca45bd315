"""``syncer run`` from a registry into a tree of layouts, killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kills.registries import blobs_read
from tests.kills.running import Run
from tests.support.layouts.opened import told_of_tree

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.server import RequestRecord
    from tests.kills.corpus import Stored
    from tests.kills.crashes import Crash
    from tests.kills.registries import Remembering


class Fill(Run):
    """The job; bytes are those that are read again, and requests those to the source."""

    name = "run, registry to layout"
    target = "usb"

    async def _look(self, root: Path, stored: Stored) -> list[str]:
        """Each layout is whole, and each tag has what refers to its image."""
        found = await told_of_tree(root)
        for repository, tags in self._corpus.needed().items():
            there = stored.content[repository] | set(stored.tags[repository])
            for tag, needed in tags.items():
                if stored.tags[repository].get(tag) == self._corpus.tags()[repository][tag] and not needed <= there:
                    found.append(f"{repository}:{tag} lacks {sorted(needed - there)}")
        return found

    async def _measure(
        self, crash: Crash, asked: list[Remembering], before: list[int], stored: Stored, root: Path
    ) -> list[str]:
        del root
        ((source,), (since,)) = asked, before
        earlier, later = blobs_read(source.records[:since]), blobs_read(source.records[since:])
        crash.repeated = sum(
            count for (name, digest), count in later.items() if digest in stored.content[f"mirror/{name}"]
        )
        crash.resent = sum(min(count, earlier[blob]) for blob, count in later.items())
        return []

    def _only_looks(self, record: RequestRecord) -> bool:
        return record.method == "HEAD" or record.path.endswith("/tags/list")

    def _listing(self, tags: int) -> int:
        # The tags are listed, and what the tree has is looked at.
        return 1 + tags

    def _copying(self, *, manifests: int, blobs: int, missing: int) -> int:
        del blobs
        # Each manifest is read and asked for referrers; each blob that is not there is read.
        return 2 * manifests + missing
