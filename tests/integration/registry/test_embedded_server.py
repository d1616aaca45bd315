"""The client against the embedded registry, whose request log counts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from anyio.to_thread import run_sync

from syncer.content import BlobOutcome, verified
from syncer.errors import Denied, NotFound, Side, Unauthorized
from syncer.layout.tree import LayoutTree
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials.values import Basic
from syncer.server import Action, AuthMode, Grant, RegistryServer, RequestRecord, ServerSettings
from syncer.server.passwords import encode_password
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from syncer.registry import RegistryRepository
    from syncer.registry.credentials.values import Credential
    from tests.support.images import Sample


@asynccontextmanager
async def embedded(root: Path, settings: ServerSettings) -> AsyncIterator[RegistryServer]:
    """Serve a fresh tree."""
    tree = LayoutTree(root, durable=False)
    try:
        async with RegistryServer(tree, settings) as server:
            yield server
    finally:
        await tree.close()


@asynccontextmanager
async def client_of(server: RegistryServer, credential: Credential | None = None) -> AsyncIterator[RegistryClient]:
    """Give a client of the server."""
    settings = RegistrySettings(host=server.address, plain_http=True)
    async with RegistryClient(settings, Keys(credential), Recorder()) as client:
        yield client


async def push(repository: RegistryRepository, sample: Sample, tag: str) -> None:
    """Push everything of ``sample``, its root under ``tag``."""
    for descriptor in sample.descriptors():

        @asynccontextmanager
        async def opened(data: bytes = sample.blobs[descriptor.digest]) -> AsyncIterator[AsyncIterator[bytes]]:
            async def chunks() -> AsyncIterator[bytes]:
                yield data

            yield chunks()

        session = await repository.begin_blob(descriptor)
        if not isinstance(session, BlobOutcome):
            await session.send(opened)
    for manifest in sample.children:
        await repository.push_manifest(manifest)
    await repository.push_manifest(sample.manifest, tag)


async def test_budget_and_round_trip(tmp_path: Path) -> None:
    """A new image is 2 B + 1 requests, again it is B + 1, and what was written reads back."""
    log: list[RequestRecord] = []
    sample = images.image(layers=3, size=200_000)
    async with (
        embedded(tmp_path, ServerSettings(durable=False, on_request=log.append)) as server,
        client_of(server) as client,
    ):
        repository = client.repository("team/app", Side.TARGET)
        await push(repository, sample, "1")
        await server.settled()
        assert [record.method for record in log] == ["POST", "PUT"] * 4 + ["PUT"]
        await push(repository, sample, "2")
        await server.settled()
        assert [record.method for record in log[9:]] == ["POST"] * 4 + ["PUT"]
        for descriptor in sample.descriptors():
            async with repository.fetch_blob(descriptor) as chunks:
                assert descriptor.size == sum([len(chunk) async for chunk in verified(chunks, descriptor)])
        assert [tag async for tag in repository.tags()] == ["1", "2"]
        assert [name async for name in client.catalog().repositories()] == ["team/app"]


async def test_referrers_api(tmp_path: Path) -> None:
    """The referrers API is used where there is one, and no tag is made."""
    sample = images.image()
    proof = images.artifact(subject=sample.manifest, artifact_type="application/sbom")
    async with embedded(tmp_path, ServerSettings(durable=False)) as server, client_of(server) as client:
        repository = client.repository("a", Side.TARGET)
        await push(repository, sample, "1")
        await push(repository, proof, "proof")
        assert [proof.digest] == [found.digest for found in await repository.referrers(sample.digest)]
        assert [tag async for tag in repository.tags()] == ["1", "proof"]


async def test_deletion_of_a_tag(tmp_path: Path) -> None:
    """A tag is deleted, and its manifest stays."""
    sample = images.image()
    async with embedded(tmp_path, ServerSettings(durable=False)) as server, client_of(server) as client:
        repository = client.repository("a", Side.TARGET)
        await push(repository, sample, "1")
        await repository.delete_tag("1")
        with pytest.raises(NotFound):
            await repository.resolve("1")
        assert sample.digest == (await repository.resolve(sample.digest)).digest


async def test_tokens_and_rights(tmp_path: Path) -> None:
    """With token log-in: one token for a push, a pull-only user is denied, a wrong password refused."""
    passwords = tmp_path / "htpasswd"
    lines = await run_sync(lambda: [f"{user}:{encode_password('canary')}" for user in ("writer", "reader")])
    await run_sync(passwords.write_text, "\n".join(lines))
    log: list[RequestRecord] = []
    settings = ServerSettings(
        durable=False,
        auth=AuthMode.TOKEN,
        htpasswd=passwords,
        grants=(Grant(user="writer"), Grant(user="reader", actions=frozenset({Action.PULL}))),
        on_request=log.append,
    )
    sample = images.image()
    async with embedded(tmp_path / "root", settings) as server:
        async with client_of(server, Basic(username="writer", password="canary")) as client:
            await push(client.repository("a", Side.TARGET), sample, "1")
            await server.settled()
            assert sum(record.status == 401 for record in log) == 1
            assert sum("token" in record.path for record in log) == 1
        async with client_of(server, Basic(username="reader", password="canary")) as client:
            assert sample.digest == (await client.repository("a").resolve("1")).digest
            with pytest.raises((Denied, Unauthorized)) as caught:
                await client.repository("a", Side.TARGET).push_manifest(sample.manifest, "2")
            assert "canary" not in f"{caught.value!r}{caught.value.hint}"
        async with client_of(server, Basic(username="reader", password="wrong")) as client:
            with pytest.raises(Unauthorized, match="refused"):
                await client.repository("a").resolve("1")
