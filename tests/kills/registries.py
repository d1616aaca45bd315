"""The registries on the other side of a client that is killed: they outlive it, and remember what they were asked."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from syncer.layout.tree import LayoutTree
from syncer.server import RegistryServer, RequestRecord, ServerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

_UPLOAD = re.compile(r"/v2/(?P<repository>.+)/blobs/uploads/(?P<session>[^/]*)")
_BLOB = re.compile(r"/v2/(?P<repository>.+)/blobs/(?P<digest>[^/]+:[^/]+)")
_MANIFEST = re.compile(r"/v2/(?P<repository>.+)/manifests/(?P<reference>[^/]+)")
_REFUSED = range(400, 499)


@dataclass
class Remembering:
    """A running registry and everything it was asked, in the order in which it was done."""

    server: RegistryServer
    records: list[RequestRecord] = field(default_factory=list)

    @property
    def host(self) -> str:
        """``host:port``."""
        return self.server.address

    async def settled(self) -> None:
        """Return when nothing that was asked is still being done."""
        await self.server.settled()

    def uploads(self, since: int = 0) -> Counter[tuple[str, str]]:
        """Return the bytes that came in by repository and digest, which sessions that were never committed lack."""
        digests: dict[str, str] = {}
        received: Counter[tuple[str, str]] = Counter()
        for record in self.records[since:]:
            match = _UPLOAD.fullmatch(record.path)
            if match is None or record.method not in ("POST", "PATCH", "PUT"):
                continue
            if digest := parse_qs(record.query).get("digest"):
                digests[match["session"]] = digest[0]
            received[match["repository"], match["session"]] += record.bytes_in
        named: Counter[tuple[str, str]] = Counter()
        for (repository, session), count in received.items():
            named[repository, digests.get(session, "")] += count
        return named


@asynccontextmanager
async def remembering(root: Path) -> AsyncIterator[Remembering]:
    """Run an embedded registry over ``root`` until the end of the block."""
    tree = LayoutTree(root, durable=False)
    records: list[RequestRecord] = []
    settings = ServerSettings(durable=False, on_request=records.append)
    try:
        async with RegistryServer(tree, settings) as server:
            yield Remembering(server, records)
    finally:
        await tree.close()


def blobs_read(records: Sequence[RequestRecord]) -> Counter[tuple[str, str]]:
    """Return the bytes that were read of each blob, by repository and digest, of ``records`` of a registry."""
    read: Counter[tuple[str, str]] = Counter()
    for record in records:
        if match := _BLOB.fullmatch(record.path):
            read[match["repository"], match["digest"]] += record.bytes_out
    return read


def incomplete(records: list[RequestRecord], needed: Mapping[str, Mapping[str, frozenset[str]]]) -> list[str]:
    """Say which tags were written before all that belongs to them was there.

    Args:
        records: what a registry was asked, from its beginning.
        needed: by repository and tag, the digests and the tags that must be there before it.
    """
    present: dict[str, set[str]] = {}
    found: list[str] = []
    for record in records:
        if upload := _UPLOAD.fullmatch(record.path):
            query = parse_qs(record.query)
            if record.status == 201:
                arrived = query.get("digest" if record.method == "PUT" else "mount", [])
                present.setdefault(upload["repository"], set()).update(arrived)
        elif record.method == "PUT" and (manifest := _MANIFEST.fullmatch(record.path)):
            here = present.setdefault(manifest["repository"], set())
            reference = manifest["reference"]
            if record.status in _REFUSED:
                found.append(f"{reference} was refused: {record.status}")
            # One whose client was gone may have been written all the same: it must have been complete, too.
            missing = needed.get(manifest["repository"], {}).get(reference, frozenset()) - here
            if missing:
                found.append(f"{manifest['repository']}:{reference} was written before {sorted(missing)}")
            here.add(reference)
    return found
