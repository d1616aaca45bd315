"""A plain HTTP client of the registry: what is asked is what goes on the wire."""

from __future__ import annotations

import io
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from syncer.layout.tree import LayoutTree
from syncer.oci import Digest
from syncer.server import RegistryServer, RequestRecord, ServerSettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from multidict import CIMultiDictProxy

    from syncer.oci import Manifest
    from tests.support.images import Sample

OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The error codes of the body."""
        return [error["code"] for error in self.document["errors"]]

    @property
    def location(self) -> str:
        """Where to go on."""
        return self.headers["Location"]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A client of one server, and what the server recorded."""

    server: RegistryServer
    session: aiohttp.ClientSession
    tree: LayoutTree
    records: list[RequestRecord]

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request; ``Content_Range="0-1"`` is a header, and a path is taken as it is written."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            body = io.BytesIO(body)
        url = URL(path if "://" in path else f"{self.server.url}{path}", encoded=True)
        async with self.session.request(method, url, data=body, headers=fields, allow_redirects=False) as response:
            return Answer(status=response.status, headers=response.headers, body=await response.read())

    async def open_upload(self, repository: str, query: str = "") -> str:
        """Open a session and return its location."""
        answer = await self.ask("POST", f"/v2/{repository}/blobs/uploads/{query}")
        assert answer.status == 202, answer.body
        return answer.location

    async def push_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> Digest:
        """Push a blob with POST and PUT."""
        digest = Digest.of(data, algorithm)
        location = await self.open_upload(repository)
        answer = await self.ask("PUT", f"{location}?digest={digest}", data, **OCTETS)
        assert answer.status == 201, answer.body
        return digest

    async def put_manifest(self, repository: str, manifest: Manifest, reference: str = "") -> Answer:
        """Push one manifest, by its digest when there is no ``reference``."""
        path = f"/v2/{repository}/manifests/{reference or manifest.digest}"
        return await self.ask("PUT", path, manifest.raw, Content_Type=manifest.media_type)

    async def push(self, repository: str, sample: Sample, tag: str = "") -> None:
        """Push blobs, children, and the root, with ``tag`` when there is one."""
        for data in sample.blobs.values():
            await self.push_blob(repository, data)
        for child in sample.children:
            assert (await self.put_manifest(repository, child)).status == 201
        assert (await self.put_manifest(repository, sample.manifest, tag)).status == 201


@asynccontextmanager
async def serving(
    root: Path, *, clock: Callable[[], float] = time.time, trust: ssl.SSLContext | bool = True, **settings: Any
) -> AsyncIterator[Peer]:
    """Serve a tree at ``root`` with ``settings`` and talk to it."""
    records: list[RequestRecord] = []
    settings = {"durable": False, "on_request": records.append, **settings}
    tree = LayoutTree(root, durable=False)
    try:
        async with (
            RegistryServer(tree, ServerSettings(**settings), clock=clock) as server,
            aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(ssl=trust, limit=0),
                skip_auto_headers=("User-Agent", "Content-Type"),
            ) as session,
        ):
            yield Peer(server=server, session=session, tree=tree, records=records)
    finally:
        await tree.close()
