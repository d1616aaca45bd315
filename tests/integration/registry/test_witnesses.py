"""The client against registries that others wrote, and others' tools on what it wrote."""

from __future__ import annotations

import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync

from syncer.content import BlobOutcome, verified
from syncer.errors import DigestMismatch, NotFound, ServerFailure, Side, Unauthorized, Unsupported
from syncer.oci import Digest
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials.values import Basic
from syncer.registry.traffic.retry import RetryPolicy
from tests.support import images
from tests.support.docker_registry import docker_registry, find_skopeo
from tests.support.observing import Recorder
from tests.support.scripted import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from syncer.oci import Descriptor
    from syncer.registry import RegistryRepository
    from syncer.registry.credentials.values import Credential
    from tests.support.docker_registry import Witness
    from tests.support.images import Sample

pytestmark = pytest.mark.witness

#: "witness" for the user "u".
HTPASSWD = "u:$2b$05$JDqf1Hw3EG/8Nj.N9Z0dGOk8qyDPuMN1wOeWMJM0fYyitkgJ5Ca0a\n"


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """Run docker-registry."""
    with docker_registry(tmp_path / "registry") as running:
        yield running


@asynccontextmanager
async def client_of(
    witness: Witness, credential: Credential | None = None, policy: RetryPolicy | None = None
) -> AsyncIterator[RegistryClient]:
    """Give a client of the witness."""
    settings = RegistrySettings(host=witness.host, plain_http=True)
    async with RegistryClient(settings, Keys(credential), Recorder(), policy=policy) as client:
        yield client


def opener(data: bytes, descriptor: Descriptor) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]:
    """Give ``data``, verified to be ``descriptor``'s."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 65536):
                yield data[at : at + 65536]

        yield verified(chunks(), descriptor)

    return opened


async def push(repository: RegistryRepository, sample: Sample, tag: str) -> None:
    """Push everything of ``sample``, its root under ``tag``."""
    for descriptor in sample.descriptors():
        session = await repository.begin_blob(descriptor)
        if not isinstance(session, BlobOutcome):
            await session.send(opener(sample.blobs[descriptor.digest], descriptor))
    for manifest in sample.children:
        await repository.push_manifest(manifest)
    await repository.push_manifest(sample.manifest, tag)


async def test_new_image_costs_what_the_budget_says(witness: Witness) -> None:
    """A new image of B blobs is 2 B + 1 requests; again, with all blobs present, B + 1; in sync, one HEAD."""
    sample = images.image(layers=3, size=300_000)
    async with client_of(witness) as client:
        repository = client.repository("team/app", Side.TARGET)
        await push(repository, sample, "1")
        first = witness.requests()
        await push(repository, sample, "2")
        second = witness.requests()[len(first) :]
        assert sample.manifest.descriptor == await repository.resolve("1")
        third = witness.requests()[len(first) + len(second) :]
    assert [access.method for access in first] == ["POST", "PUT"] * 4 + ["PUT"]
    assert [access.status for access in first] == [202, 201] * 4 + [201]
    assert [access.method for access in second] == ["POST"] * 4 + ["PUT"]
    assert [access.status for access in second] == [201] * 5
    assert [(access.method, access.status) for access in third] == [("HEAD", 200)]


async def test_round_trip(witness: Witness) -> None:
    """What was pushed is listed, resolved and read back byte for byte."""
    sample = images.index(size=100_000)
    async with client_of(witness) as client:
        repository = client.repository("team/app", Side.TARGET)
        await push(repository, sample, "1")
        assert [tag async for tag in repository.tags()] == ["1"]
        assert [name async for name in client.catalog().repositories("team/")] == ["team/app"]
        assert sample.manifest.raw == (await repository.fetch_manifest("1")).raw
        for descriptor in sample.descriptors():
            async with repository.fetch_blob(descriptor) as chunks:
                data = b"".join([chunk async for chunk in verified(chunks, descriptor)])
            assert sample.blobs[descriptor.digest] == data


async def test_mount(witness: Witness) -> None:
    """A blob of another repository is mounted in one request."""
    sample = images.image()
    async with client_of(witness) as client:
        await push(client.repository("one", Side.TARGET), sample, "1")
        before = len(witness.requests())
        other = client.repository("two", Side.TARGET)
        for descriptor in sample.descriptors():
            assert BlobOutcome.MOUNTED is await other.begin_blob(descriptor, mount_from="one")
        await other.push_manifest(sample.manifest, "1")
    assert len(witness.requests()) - before == 3 + 1


async def test_referrers_without_the_api(witness: Witness) -> None:
    """A registry of 2022 has no referrers API: the list is kept under the tag."""
    sample = images.image()
    proof = images.artifact(subject=sample.manifest, artifact_type="application/sbom")
    async with client_of(witness) as client:
        repository = client.repository("a", Side.TARGET)
        await push(repository, sample, "1")
        await push(repository, proof, "proof")
        (found,) = await repository.referrers(sample.digest, "application/sbom")
    assert proof.digest == found.digest


async def test_missing_blobs_are_named(witness: Witness) -> None:
    """A manifest whose blobs are not there is refused with all their digests."""
    sample = images.image()
    async with client_of(witness) as client:
        with pytest.raises(NotFound) as caught:
            await client.repository("a", Side.TARGET).push_manifest(sample.manifest, "1")
    assert set(sample.blobs) == set(caught.value.missing)


async def test_deletion(witness: Witness) -> None:
    """A manifest is deleted by digest; this registry does not delete tags, and says so."""
    sample = images.image()
    async with client_of(witness) as client:
        repository = client.repository("a", Side.TARGET)
        await push(repository, sample, "1")
        with pytest.raises(Unsupported):
            await repository.delete_tag("1")
        await repository.delete_manifest(sample.digest)
        with pytest.raises(NotFound):
            await repository.resolve("1")


async def test_corrupt_source_commits_nothing(witness: Witness) -> None:
    """A blob that does not verify is not there afterwards, in any form that can be fetched."""
    data = images.random_bytes(500_000)
    descriptor = images.blob(data)
    async with client_of(witness) as client:
        repository = client.repository("a", Side.TARGET)
        session = await repository.begin_blob(descriptor)
        assert not isinstance(session, BlobOutcome)
        with pytest.raises(DigestMismatch):
            await session.send(opener(data[:-1] + b"x", descriptor))
        with pytest.raises(NotFound):
            async with repository.fetch_blob(descriptor):
                pass
    assert await run_sync(lambda: list(witness.storage.glob("data/**/blobs/sha256/*"))) == []


async def test_cancelled_upload_is_given_up(witness: Witness) -> None:
    """An upload that is cancelled in the middle ends there, and its session is asked to be deleted."""
    data = images.random_bytes(500_000)
    sending = anyio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield data[:300_000]
            sending.set()
            await anyio.sleep_forever()

        yield chunks()

    async with client_of(witness) as client:
        session = await client.repository("a", Side.TARGET).begin_blob(images.blob(data))
        assert not isinstance(session, BlobOutcome)
        async with anyio.create_task_group() as group:
            group.start_soon(session.send, slow)
            await sending.wait()
            group.cancel_scope.cancel()
    # This version refuses the DELETE: the state in the Location is older than the bytes that arrived.
    assert "DELETE" in [access.method for access in witness.requests()]
    assert await run_sync(lambda: list(witness.storage.glob("data/**/blobs/sha256/*"))) == []


async def test_a_manifest_of_which_a_full_disk_left_an_empty_file(witness: Witness) -> None:
    """It is acknowledged ever after and never given back, which a HEAD tells; nothing a client does mends it."""
    sample = images.image()
    data = witness.storage / f"data/docker/registry/v2/blobs/sha256/{sample.digest.encoded[:2]}/{sample.digest.encoded}"
    async with client_of(witness, policy=RetryPolicy(tries=1)) as client:
        repository = client.repository("a", Side.TARGET)
        await push(repository, sample, "1")
        await anyio.Path(data / "data").write_bytes(b"")
        await repository.push_manifest(sample.manifest, "1")
        with pytest.raises(ServerFailure):
            await repository.resolve(sample.digest)


async def test_password(tmp_path: Path) -> None:
    """Basic credentials are shown once asked for; without them the error says where to log in."""
    with docker_registry(tmp_path / "registry", htpasswd=HTPASSWD) as witness:
        async with client_of(witness) as client:
            with pytest.raises(Unauthorized) as caught:
                await client.repository("a", Side.TARGET).resolve("1")
        assert f"syncer login {witness.host}" in caught.value.hint
        async with client_of(witness, Basic(username="u", password="witness")) as client:
            sample = images.image()
            await push(client.repository("a", Side.TARGET), sample, "1")
            assert sample.digest == (await client.repository("a").resolve("1")).digest


async def test_skopeo_reads_what_was_written(witness: Witness, tmp_path: Path) -> None:
    """An image that was pushed here is copied out by skopeo, which verifies every digest."""
    skopeo = find_skopeo()
    sample = images.real_image()
    async with client_of(witness) as client:
        await push(client.repository("team/app", Side.TARGET), sample, "1")
    source, copy = f"docker://{witness.host}/team/app:1", tmp_path / "copy"
    command = [skopeo, "copy", "--src-tls-verify=false", source, f"dir:{copy}"]
    done = await run_sync(lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=30))
    assert done.returncode == 0, done.stderr
    raw = await run_sync((copy / "manifest.json").read_bytes)
    assert sample.digest == Digest.of(raw)
