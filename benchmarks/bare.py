"""A yardstick: the least requests, so many at once, and nothing else: ``python -m benchmarks.bare 16 SOURCE TARGET``.

``SOURCE`` and ``TARGET`` are repositories, as ``http://127.0.0.1:5000/v2/bench/app``. What is not there is
copied by its tags, and what is there is compared. It hashes what it reads, and that is all it checks: no state,
no retries, no windows, no report, no credentials, no index, no referrers, no body that does not fit in memory.
What a tool takes more than this is the price of what it promises. It is no peer: nobody should use it.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import uvloop
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_NOT_FOUND = 404


class Wrong(RuntimeError):
    """Something is not what it should be."""


class Copy:
    """A repository on its way: one session for all, and each blob sent once."""

    def __init__(self, session: aiohttp.ClientSession, source: str, target: str) -> None:
        self._session = session
        self._source = source
        self._target = target
        self._blobs: dict[str, asyncio.Task[None]] = {}

    async def all_tags(self, width: int) -> None:
        """Copy or compare every tag, ``width`` of them at once."""
        tags, there = await asyncio.gather(self._tags(self._source), self._tags(self._target))
        left, known = iter(tags), frozenset(there)
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(self._some(left, known))

    async def _some(self, left: Iterator[str], there: frozenset[str]) -> None:
        for tag in left:
            if tag not in there or not await self._is_same(tag):
                await self._image(tag)

    async def _tags(self, repository: str) -> list[str]:
        async with self._session.get(f"{repository}/tags/list") as response:
            if response.status == _NOT_FOUND:
                return []
            response.raise_for_status()
            document: dict[str, Any] = await response.json(content_type=None)
            return document["tags"] or []

    async def _is_same(self, tag: str) -> bool:
        ours, theirs = await asyncio.gather(*(self._digest(side, tag) for side in (self._source, self._target)))
        return ours == theirs

    async def _digest(self, repository: str, tag: str) -> str:
        async with self._session.head(f"{repository}/manifests/{tag}", headers={"Accept": _MANIFEST}) as response:
            response.raise_for_status()
            return response.headers["Docker-Content-Digest"]

    async def _image(self, tag: str) -> None:
        async with self._session.get(f"{self._source}/manifests/{tag}", headers={"Accept": _MANIFEST}) as response:
            response.raise_for_status()
            content = await response.read()
            _check(response.headers["Docker-Content-Digest"], content)
            told = response.content_type
        manifest = await response.json(content_type=None)
        wanted = [blob["digest"] for blob in (manifest["config"], *manifest["layers"])]
        for digest in wanted:
            if digest not in self._blobs:
                self._blobs[digest] = asyncio.create_task(self._blob(digest))
        await asyncio.gather(*(self._blobs[digest] for digest in wanted))
        place = f"{self._target}/manifests/{tag}"
        async with self._session.put(place, data=content, headers={"Content-Type": told}) as response:
            response.raise_for_status()

    async def _blob(self, digest: str) -> None:
        content, location = await asyncio.gather(self._read(digest), self._begin())
        place = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        async with self._session.put(URL(place, encoded=True), data=content) as response:
            response.raise_for_status()

    async def _read(self, digest: str) -> bytes:
        async with self._session.get(f"{self._source}/blobs/{digest}") as response:
            response.raise_for_status()
            content = await response.read()
        _check(digest, content)
        return content

    async def _begin(self) -> str:
        async with self._session.post(f"{self._target}/blobs/uploads/") as response:
            response.raise_for_status()
            return str(response.url.join(URL(response.headers["Location"], encoded=True)))


async def run(width: int, source: str, target: str) -> None:
    """Copy the repository ``source`` to ``target``, with ``width`` requests to each side at once.

    Raises:
        Wrong: when bytes have another digest.
        aiohttp.ClientError: when anything else fails.
    """
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=width)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        await Copy(session, source, target).all_tags(width)


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy."""
    width, source, target = sys.argv[1:] if arguments is None else arguments
    uvloop.run(run(int(width), source, target))


def _check(digest: str, content: bytes) -> None:
    if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
        raise Wrong(f"not {digest}")


if __name__ == "__main__":
    main()
