"""What every Source and every Target promises, whatever is behind it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer import content
from syncer.content import BlobOutcome
from syncer.errors import ContentError, DigestMismatch, NotFound, SizeMismatch, SyncerError
from syncer.oci import Descriptor, Digest
from syncer.oci import media_types as mt
from tests.conformance.places import Place, Trait
from tests.support import images
from tests.support.transfer import check, chunks_of, opener_of, push, push_blob, read_blob

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from syncer.content import BlobSession, Target

pytestmark = pytest.mark.untraced

SAMPLES = {
    "image": images.image(),
    "image without mediaType": images.image(state_media_type=False, seed="bare"),
    "image without layers": images.image(layers=0, seed="empty"),
    "index": images.index(attestations=True),
    "nested index": images.nested_index(depth=3),
    "docker image": images.docker_image(),
    "docker list": images.docker_list(),
    "artifact": images.artifact(),
}


def reference_of(place: Place, tag: str) -> str:
    """Return how the image that was written as ``tag`` is read from ``place``."""
    return tag if Trait.TAGS in place.traits else ""


def need(place: Place, trait: Trait) -> None:
    """Leave the test where a place cannot do what it is about."""
    if trait not in place.traits:
        pytest.skip(f"this place has no {trait}")


async def session_of(target: Target, descriptor: Descriptor) -> BlobSession:
    """Return an open session for a blob that is not there."""
    begun = await target.begin_blob(descriptor)
    assert not isinstance(begun, BlobOutcome)
    return begun


async def test_protocols(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """An adapter has the methods of the contracts it is used for."""
    async with place_manager as place:
        async with place.writing() as target:
            assert isinstance(target, content.Target)
            await push(target, SAMPLES["image"], "v1")
        async with place.reading() as source:
            assert isinstance(source, content.Source)
            assert isinstance(source, content.ReferrerLister) == (Trait.REFERRERS in place.traits)
            if Trait.DELETES in place.traits:
                assert isinstance(source, content.Deleter)
            assert source.registry == target.registry
            assert source.repository == target.repository


@pytest.mark.parametrize("name", SAMPLES)
async def test_round_trip(place_manager: AbstractAsyncContextManager[Place], name: str) -> None:
    """What was written is read again byte for byte, all the way down, with its media types."""
    sample = SAMPLES[name]
    async with place_manager as place:
        async with place.writing() as target:
            await push(target, sample, "v1")
        async with place.reading() as source:
            await check(source, sample, reference_of(place, "v1"))


async def test_resolve(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A tag and a digest resolve to media type, digest and size, on both sides."""
    sample = SAMPLES["index"]
    async with place_manager as place:
        async with place.writing() as target:
            await push(target, sample, "v1")
            assert await target.resolve("v1") == sample.manifest.descriptor
            assert await target.resolve(sample.digest) == sample.manifest.descriptor
        async with place.reading() as source:
            assert await source.resolve(reference_of(place, "v1")) == sample.manifest.descriptor
            assert await source.resolve(sample.children[0].digest) == sample.children[0].descriptor


async def test_not_found(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """What is not there is NotFound, by tag, by digest, as a manifest and as a blob."""
    sample = SAMPLES["image"]
    absent = images.blob(b"absent")
    async with place_manager as place:
        async with place.writing() as target:
            with pytest.raises(NotFound):
                await target.resolve("v1")
            await push(target, sample, "v1")
        async with place.reading() as source:
            for reference in ("none", absent.digest):
                with pytest.raises(NotFound):
                    await source.resolve(reference)
                with pytest.raises(NotFound):
                    await source.fetch_manifest(reference)
            with pytest.raises(NotFound):
                async with source.fetch_blob(absent):
                    pass


async def test_a_config_is_no_manifest(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A blob is not served as a manifest, although an image's config is JSON with a member "config"."""
    sample = SAMPLES["image"]
    async with place_manager as place:
        need(place, Trait.MANIFEST_ERRORS)
        async with place.writing() as target:
            await push(target, sample, "v1")
        async with place.reading() as source:
            for descriptor in sample.descriptors():
                with pytest.raises(NotFound):
                    await source.fetch_manifest(descriptor.digest)


async def test_tags(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """Every tag is listed once; a manifest without one is not listed."""
    async with place_manager as place:
        need(place, Trait.TAGS)
        async with place.writing() as target:
            for tag in ("v2", "latest", "v10", "v2"):
                await push(target, images.image(seed=tag), tag)
            await push(target, images.image(seed="untagged"))
        async with place.reading() as source:
            assert sorted([tag async for tag in source.tags()]) == ["latest", "v10", "v2"]


async def test_a_tag_moves(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A tag that is pushed again names the new manifest, and the old one is still there by digest."""
    old, new = images.image(seed="old"), images.image(seed="new")
    async with place_manager as place:
        need(place, Trait.TAGS)
        async with place.writing() as target:
            await push(target, old, "latest")
            await push(target, new, "latest")
        async with place.reading() as source:
            await check(source, new, "latest")
            await check(source, old, old.digest)


async def test_pushing_twice(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """Writing the same again changes nothing, and its blobs are found present."""
    sample = SAMPLES["index"]
    async with place_manager as place:
        async with place.writing() as target:
            await push(target, sample, "v1")
            for descriptor in sample.descriptors():
                assert await target.begin_blob(descriptor) is BlobOutcome.PRESENT
            await push(target, sample, "v1")
        async with place.reading() as source:
            await check(source, sample, reference_of(place, "v1"))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1024 * 1024, 3 * 1024 * 1024 + 17])
async def test_blob_sizes(place_manager: AbstractAsyncContextManager[Place], size: int) -> None:
    """A blob of any size comes back whole, whatever the chunks were."""
    sample = images.image(layers=1, size=size)
    layer = sample.manifest.layers[0]
    async with place_manager as place:
        async with place.writing() as target:
            config = next(sample.manifest.blobs())
            await push_blob(target, config, sample.blobs[config.digest])
            session = await session_of(target, layer)
            await session.send(opener_of(sample.blobs[layer.digest], layer, size=300_000))
            await target.push_manifest(sample.manifest, "v1")
        async with place.reading() as source:
            assert await read_blob(source, layer) == sample.blobs[layer.digest]


async def test_blobs_at_once(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """Many blobs are written at the same time, and none is mixed up with another."""
    sample = images.image(layers=20, size=100_000)
    async with place_manager as place:
        async with place.writing() as target:
            async with anyio.create_task_group() as group:
                for descriptor in sample.descriptors():
                    group.start_soon(push_blob, target, descriptor, sample.blobs[descriptor.digest])
            await target.push_manifest(sample.manifest, "v1")
        async with place.reading() as source:
            await check(source, sample, reference_of(place, "v1"))


async def test_one_blob_twice_at_once(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """Two sessions for one blob both succeed, and the blob is there once."""
    sample = images.image(layers=1, size=200_000)
    async with place_manager as place:
        async with place.writing() as target:
            layer = sample.manifest.layers[0]
            sessions = [await session_of(target, layer) for _ in range(2)]
            async with anyio.create_task_group() as group:
                for session in sessions:
                    group.start_soon(session.send, opener_of(sample.blobs[layer.digest], layer))
            await push(target, sample, "v1")
        async with place.reading() as source:
            await check(source, sample, reference_of(place, "v1"))


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"x" * 5000, DigestMismatch), (b"x" * 4999, SizeMismatch), (b"x" * 9000, SizeMismatch)],
    ids=["wrong bytes", "too short", "too long"],
)
async def test_wrong_bytes(
    place_manager: AbstractAsyncContextManager[Place], data: bytes, error: type[ContentError]
) -> None:
    """Bytes that are not the blob's are refused and nothing is committed; the right ones are taken then."""
    sample = images.image(layers=1, size=5000)
    layer = sample.manifest.layers[0]
    async with place_manager as place:
        async with place.writing() as target:
            with pytest.raises(error):
                await (await session_of(target, layer)).send(opener_of(data, layer, size=1000))
            with pytest.raises(NotFound):
                await target.push_manifest(sample.manifest, "v1")
            await push(target, sample, "v1")
        async with place.reading() as source:
            await check(source, sample, reference_of(place, "v1"))


async def test_a_source_that_breaks(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """When the bytes stop with an error, that error arrives, and nothing is committed."""
    sample = images.image(layers=1, size=5000)
    layer = sample.manifest.layers[0]

    @asynccontextmanager
    async def broken() -> AsyncGenerator[AsyncIterator[bytes], None]:
        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in chunks_of(sample.blobs[layer.digest], 1000):
                yield chunk
                raise SyncerError("the source went away")

        yield chunks()

    async with place_manager as place, place.writing() as target:
        with pytest.raises(SyncerError, match="went away"):
            await (await session_of(target, layer)).send(broken)
        await (await session_of(target, layer)).abort()
        assert not isinstance(await target.begin_blob(layer), BlobOutcome)


async def test_cancellation(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A blob that is cancelled on its way is not there; it can be sent again, and so can others meanwhile."""
    sample = images.image(layers=2, size=5000)
    layer = sample.manifest.layers[0]
    begun = anyio.Event()

    @asynccontextmanager
    async def stuck() -> AsyncGenerator[AsyncIterator[bytes], None]:
        async def chunks() -> AsyncIterator[bytes]:
            yield sample.blobs[layer.digest][:1000]
            begun.set()
            await anyio.sleep_forever()

        yield chunks()

    async with place_manager as place:
        async with place.writing() as target:
            session = await session_of(target, layer)
            async with anyio.create_task_group() as group:
                group.start_soon(session.send, stuck)
                await begun.wait()
                group.cancel_scope.cancel()
            await session.abort()
            with pytest.raises(NotFound):
                await target.push_manifest(sample.manifest, "v1")
            await push(target, sample, "v1")
        async with place.reading() as source:
            await check(source, sample, reference_of(place, "v1"))


async def test_missing_content(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A manifest is refused while a blob it links to is missing, and is not found afterwards."""
    sample = images.image(layers=2)
    config, present, missing = sample.manifest.blobs()
    async with place_manager as place, place.writing() as target:
        for descriptor in (config, present):
            await push_blob(target, descriptor, sample.blobs[descriptor.digest])
        with pytest.raises(NotFound, match=missing.digest):
            await target.push_manifest(sample.manifest, "v1")
        with pytest.raises(NotFound):
            await target.resolve("v1")


async def test_missing_children(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """An index is refused while a manifest it lists is missing."""
    sample = images.index(platforms=["linux/amd64", "linux/arm64"])
    async with place_manager as place, place.writing() as target:
        for descriptor in sample.descriptors():
            await push_blob(target, descriptor, sample.blobs[descriptor.digest])
        await target.push_manifest(sample.children[0])
        with pytest.raises(NotFound, match=sample.children[1].digest):
            await target.push_manifest(sample.manifest, "v1")


async def test_foreign_layers(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A layer that lives elsewhere need not be there."""
    foreign = Descriptor(
        media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        digest=Digest.of(b"windows"),
        size=7,
        urls=("https://example.com/layer",),
    )
    sample = images.image(docker=True, foreign=[foreign])
    async with place_manager as place:
        need(place, Trait.FOREIGN_LAYERS)
        async with place.writing() as target:
            await push(target, sample, "v1")
        async with place.reading() as source:
            manifest = await source.fetch_manifest(reference_of(place, "v1"))
            assert manifest.layers[0] == foreign


async def test_referrers(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """The referrers of a manifest are listed with artifactType and annotations, and can be filtered."""
    sample = images.image()
    bill = images.artifact(subject=sample.manifest, artifact_type="application/sbom", annotations={"of": "v1"})
    signature = images.artifact(subject=sample.manifest, artifact_type="application/signature", seed="s")
    async with place_manager as place:
        need(place, Trait.REFERRERS)
        async with place.writing() as target:
            await push(target, sample, "v1")
            await push(target, bill)
            await push(target, signature)
        async with place.reading() as source:
            assert isinstance(source, content.ReferrerLister)
            found = await source.referrers(sample.digest)
            assert {item.digest for item in found} == {bill.digest, signature.digest}
            assert await source.referrers(sample.digest, "application/sbom") == [bill.manifest.referrer_descriptor]
            assert await source.referrers(bill.digest) == []


async def test_mounting(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A blob that a sibling has is mounted; from a sibling that lacks it, or is not there, it is sent."""
    sample = images.image(layers=2)
    config, first, second = sample.manifest.blobs()
    async with place_manager as place:
        need(place, Trait.MOUNTS)
        async with place.writing("one") as target:
            await push_blob(target, config, sample.blobs[config.digest])
        async with place.writing("two") as target:
            assert await target.begin_blob(config, mount_from="one") is BlobOutcome.MOUNTED
            assert await target.begin_blob(config, mount_from="one") in (BlobOutcome.PRESENT, BlobOutcome.MOUNTED)
            for descriptor, sibling in ((first, "one"), (second, "none")):
                data = sample.blobs[descriptor.digest]
                assert await push_blob(target, descriptor, data, mount_from=sibling) is BlobOutcome.STREAMED
            await target.push_manifest(sample.manifest, "v1")
        async with place.reading("two") as source:
            await check(source, sample, "v1")


async def test_repositories_are_apart(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """What is in one repository is not in another, and a repository nobody wrote to is NotFound."""
    sample = images.image()
    async with place_manager as place:
        need(place, Trait.REPOSITORIES)
        async with place.writing("one") as target:
            await push(target, sample, "v1")
        async with place.reading("two") as source:
            with pytest.raises(NotFound):
                await source.resolve("v1")
            with pytest.raises(NotFound):
                async for _ in source.tags():
                    pass


async def test_deleting_a_tag(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A tag that is deleted is gone, its manifest and other tags stay; a second time it is NotFound."""
    sample = images.image()
    async with place_manager as place:
        need(place, Trait.DELETES)
        async with place.writing() as target:
            assert isinstance(target, content.Deleter)
            await push(target, sample, "v1")
            await push(target, sample, "v2")
            await target.delete_tag("v1")
            with pytest.raises(NotFound):
                await target.delete_tag("v1")
            await target.delete_tag("v2")
        async with place.reading() as source:
            assert [tag async for tag in source.tags()] == []
            await check(source, sample, sample.digest)


async def test_deleting_a_manifest(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """A manifest that is deleted takes its tags along, and is no longer anybody's referrer."""
    sample = images.image()
    bill = images.artifact(subject=sample.manifest)
    async with place_manager as place:
        need(place, Trait.DELETES)
        async with place.writing() as target:
            assert isinstance(target, content.Deleter)
            await push(target, sample, "v1")
            await push(target, bill, "bill")
            await target.delete_manifest(bill.digest)
            with pytest.raises(NotFound):
                await target.delete_manifest(bill.digest)
        async with place.reading() as source:
            assert isinstance(source, content.ReferrerLister)
            assert [tag async for tag in source.tags()] == ["v1"]
            assert await source.referrers(sample.digest) == []
            with pytest.raises(NotFound):
                await source.fetch_manifest(bill.digest)


async def test_media_type_without_a_statement(place_manager: AbstractAsyncContextManager[Place]) -> None:
    """An OCI manifest that does not state its media type keeps the one it was pushed with."""
    sample = SAMPLES["image without mediaType"]
    async with place_manager as place:
        async with place.writing() as target:
            await push(target, sample, "v1")
        async with place.reading() as source:
            assert (await source.resolve(reference_of(place, "v1"))).media_type == mt.OCI_MANIFEST
