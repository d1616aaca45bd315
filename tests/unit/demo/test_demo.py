"""The demo's images: real, small, the same every time, and made to be mounted."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from syncer.content import BlobOutcome, Target, verified
from syncer.demo import DemoRepository, demo_content, fill
from syncer.demo.artifacts import SBOM_TYPE, SIGNATURE_TYPE
from syncer.demo.layers import File, build_layer, library
from syncer.errors import NotFound
from syncer.oci import Descriptor, Digest, Manifest
from syncer.oci.manifest import parse_object
from syncer.oci.referrers import cosign_tags

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager


@pytest.fixture(scope="module")
def content() -> list[DemoRepository]:
    """Build the content once for this module."""
    return demo_content()


@pytest.fixture
def base(content: list[DemoRepository]) -> DemoRepository:
    """Return ``library/base``."""
    return content[0]


@pytest.fixture
def api(content: list[DemoRepository]) -> DemoRepository:
    """Return ``team/api``."""
    return content[1]


def manifest_of(repository: DemoRepository, digest: Digest) -> Manifest:
    """Return the manifest with this digest."""
    return next(manifest for manifest in repository.manifests if manifest.digest == digest)


def images(repository: DemoRepository) -> list[Manifest]:
    """Return the images that the indexes of a repository list."""
    return [
        manifest_of(repository, child.digest)
        for manifest in repository.manifests
        if manifest.is_index
        for child in manifest.manifests
    ]


def test_repositories_and_tags(content: list[DemoRepository], base: DemoRepository) -> None:
    """There are three repositories, and ``latest`` is another name of the newest release."""
    tags = {repository.name: [tag for tag in repository.tags if ".sig" not in tag] for repository in content}
    assert tags == {
        "library/base": ["1.0", "1.1", "2.0", "latest", "2.1-rc1"],
        "team/api": ["v1", "v2", "nightly"],
        "team/web": ["v1", "v2", "debug"],
    }
    assert base.tags["latest"] == base.tags["2.0"]
    assert len(set(base.tags.values())) == 5


def test_same_every_time(content: list[DemoRepository]) -> None:
    """Building again gives the same digests."""
    assert [repository.tags for repository in demo_content()] == [repository.tags for repository in content]


def test_size(content: list[DemoRepository]) -> None:
    """All of it together is between 10 and 30 MB."""
    sizes = {digest: blob.descriptor.size for repository in content for digest, blob in repository.blobs.items()}
    assert 10_000_000 < sum(sizes.values()) < 30_000_000


def test_complete_and_in_order(content: list[DemoRepository]) -> None:
    """Whatever a manifest links to is a blob of the repository, or a manifest that is pushed before it."""
    for repository in content:
        pushed: set[Digest] = set()
        for manifest in repository.manifests:
            for descriptor in manifest.blobs():
                blob = repository.blobs[descriptor.digest]
                assert descriptor.digest.matches(blob.data)
                assert (descriptor.size, descriptor.media_type) == (len(blob.data), blob.descriptor.media_type)
            before = {child.digest for child in manifest.manifests} | {
                link.digest for link in (manifest.subject,) if link is not None
            }
            assert before <= pushed
            pushed.add(manifest.digest)
        assert set(repository.tags.values()) <= pushed


def test_platforms(content: list[DemoRepository]) -> None:
    """Every image is there for two platforms, and its config says the same as its index."""
    for repository in content:
        for index in (manifest for manifest in repository.manifests if manifest.is_index):
            assert [str(child.platform) for child in index.manifests] == ["linux/amd64", "linux/arm64/v8"]
            for child in index.manifests:
                image = manifest_of(repository, child.digest)
                assert image.config is not None
                assert child.platform is not None
                config = parse_object(repository.blobs[image.config.digest].data)
                assert config["architecture"] == child.platform.architecture
                assert config.get("variant", "") == child.platform.variant


def test_layers_are_real(content: list[DemoRepository]) -> None:
    """Every layer unpacks, is the archive that the config's diff_ids name, and has no time and no owner."""
    checked: set[Digest] = set()
    for repository in content:
        for image in images(repository):
            assert image.config is not None
            config = json.loads(repository.blobs[image.config.digest].data)
            assert len(config["rootfs"]["diff_ids"]) == len(image.layers)
            assert sum("empty_layer" not in entry for entry in config["history"]) == len(image.layers)
            for layer, diff_id in zip(image.layers, config["rootfs"]["diff_ids"], strict=True):
                if layer.digest in checked:
                    continue
                checked.add(layer.digest)
                archive = gzip.decompress(repository.blobs[layer.digest].data)
                assert Digest(diff_id).matches(archive)
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    assert {(entry.mtime, entry.uid, entry.gid) for entry in tar} == {(0, 0, 0)}


def test_base_layers_are_shared(content: list[DemoRepository]) -> None:
    """The layers of the base images are also those of what is built on them, so that a sync mounts them."""
    base, api, web = content
    for other in (api, web):
        shared = sum(blob.descriptor.size for digest, blob in base.blobs.items() if digest in other.blobs)
        assert shared > base.size / 2


def test_referrers(api: DemoRepository) -> None:
    """The second version of the API has a signature and an SBOM that refer to its index."""
    referrers = {manifest.artifact_type: manifest for manifest in api.manifests if manifest.subject is not None}
    assert set(referrers) == {SIGNATURE_TYPE, SBOM_TYPE}
    for manifest in referrers.values():
        assert manifest.subject is not None
        assert manifest.subject.digest == api.tags["v2"]
    payload = json.loads(api.blobs[referrers[SIGNATURE_TYPE].layers[0].digest].data)
    assert payload["critical"]["image"]["docker-manifest-digest"] == api.tags["v2"]


def test_sbom_is_true(api: DemoRepository) -> None:
    """The SBOM lists exactly the files of the image, with their hashes, and a right verification code."""
    sbom = next(manifest for manifest in api.manifests if manifest.artifact_type == SBOM_TYPE)
    document = json.loads(api.blobs[sbom.layers[0].digest].data)
    assert document["spdxVersion"] == "SPDX-2.3"
    found: dict[str, str] = {}
    for layer in manifest_of(api, manifest_of(api, api.tags["v2"]).manifests[0].digest).layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(api.blobs[layer.digest].data))) as tar:
            for entry in tar:
                if file := tar.extractfile(entry):
                    found[f"./{entry.name}"] = hashlib.sha256(file.read()).hexdigest()
    listed = {entry["fileName"]: entry["checksums"][1]["checksumValue"] for entry in document["files"]}
    assert listed == found
    sums = sorted(entry["checksums"][0]["checksumValue"] for entry in document["files"])
    code = hashlib.sha1("".join(sums).encode(), usedforsecurity=False).hexdigest()
    assert document["packages"][0]["packageVerificationCode"] == {"packageVerificationCodeValue": code}


def test_cosign_tag(base: DemoRepository) -> None:
    """The newest base image is signed in the older way, by a tag that is made of its digest."""
    tag = cosign_tags(base.tags["2.0"])[0]
    signature = manifest_of(base, base.tags[tag])
    payload = json.loads(base.blobs[signature.layers[0].digest].data)
    assert payload["critical"]["image"]["docker-manifest-digest"] == base.tags["2.0"]
    assert signature.layers[0].annotations["dev.cosignproject.cosign/signature"]


def test_layer_order_does_not_matter() -> None:
    """The files of a layer are sorted, so the order they were found in leaves no trace."""
    files = [File(path="b/c", data=b"1"), File(path="a", data=b"2"), File(path="b/a", data=b"3")]
    layer = build_layer("x", files)
    assert layer.descriptor == build_layer("x", reversed(files)).descriptor
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.data))) as tar:
        assert tar.getnames() == ["a", "b", "b/a", "b/c"]


def test_missing_package() -> None:
    """A package that this Python does not have leaves no files, and no error."""
    assert library("no_such_package") == []


class Memory:
    """A target in memory that refuses what would be incomplete."""

    registry = "memory"

    def __init__(self, repository: str, others: dict[str, Memory]) -> None:
        self.repository = repository
        self.others = others
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[str, Manifest] = {}
        self.mounted: set[Digest] = set()
        others[repository] = self

    async def resolve(self, reference: str) -> Descriptor:
        """Return what is there."""
        if reference not in self.manifests:
            raise NotFound(reference)
        return self.manifests[reference].descriptor

    async def begin_blob(self, descriptor: Descriptor, *, mount_from: str = "") -> BlobOutcome | MemorySession:
        """Mount, or open a session."""
        if mount_from and mount_from != self.repository:
            self.blobs[descriptor.digest] = self.others[mount_from].blobs[descriptor.digest]
            self.mounted.add(descriptor.digest)
            return BlobOutcome.MOUNTED
        return MemorySession(self, descriptor)

    async def push_manifest(self, manifest: Manifest, tag: str = "") -> None:
        """Keep a manifest whose links are here."""
        missing = {blob.digest for blob in manifest.blobs()} - set(self.blobs)
        missing |= {child.digest for child in manifest.manifests} - {it.digest for it in self.manifests.values()}
        if missing:
            raise NotFound(f"{missing}")
        self.manifests[manifest.digest] = manifest
        if tag:
            self.manifests[tag] = manifest


class MemorySession:
    """An upload to memory."""

    def __init__(self, target: Memory, descriptor: Descriptor) -> None:
        self._target = target
        self._descriptor = descriptor

    async def send(self, opener: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        """Keep the bytes."""
        descriptor = self._descriptor
        async with opener() as chunks, opener() as again:
            data = b"".join([chunk async for chunk in verified(chunks, descriptor)])
            assert data == b"".join([chunk async for chunk in again])
        self._target.blobs[descriptor.digest] = data

    async def abort(self) -> None:
        """Forget it."""


async def test_fill(content: list[DemoRepository]) -> None:
    """Filling targets pushes everything in an order they accept, and mounts what an earlier repository has."""
    targets: dict[str, Memory] = {}

    def target_for(name: str) -> Target:
        return Memory(name, targets)

    await fill(target_for, content)
    for repository in content:
        target = targets[repository.name]
        assert set(target.blobs) == set(repository.blobs)
        assert {tag: target.manifests[tag].digest for tag in repository.tags} == repository.tags
    assert not targets["library/base"].mounted
    assert targets["team/api"].mounted == set(content[0].blobs) & set(content[1].blobs)


async def test_fill_builds(content: list[DemoRepository]) -> None:
    """Without content to push, it is built off the loop."""
    targets: dict[str, Memory] = {}
    await fill(lambda name: Memory(name, targets))
    assert len(targets["team/web"].blobs) == len(content[2].blobs)
