"""Repositories of layouts as the engine sees them; what they share with others is in tests/conformance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer import content
from syncer.content import BlobOutcome
from syncer.errors import NotFound
from syncer.layout.repository import LayoutRepository
from syncer.layout.store import LayoutStore
from syncer.layout.tree import LayoutTree
from tests.support import images
from tests.support.transfer import check, push, push_blob

if TYPE_CHECKING:
    from pathlib import Path


async def test_protocols(tmp_path: Path) -> None:
    """A repository of a layout is everything the contracts know of a repository."""
    repository = LayoutRepository(LayoutTree(tmp_path), "app")
    assert isinstance(repository, content.Source)
    assert isinstance(repository, content.Target)
    assert isinstance(repository, content.ReferrerLister)
    assert isinstance(repository, content.Deleter)


async def test_registry(tmp_path: Path) -> None:
    """Repositories of one tree say that they can share blobs; those of two trees do not."""
    one, two = LayoutTree(tmp_path / "one"), LayoutTree(tmp_path / "two")
    assert LayoutRepository(one, "a").registry == LayoutRepository(one, "b").registry
    assert LayoutRepository(one, "a").registry != LayoutRepository(two, "a").registry
    assert LayoutRepository(one, "a").registry == f"layout:{tmp_path / 'one'}"


async def test_a_lone_layout(tmp_path: Path) -> None:
    """A single layout is a repository too, named like its directory, whose images need no tag."""
    store = await LayoutStore.open(tmp_path / "alone", create=True, durable=False)
    repository = LayoutRepository(store)
    sample = images.index()
    await push(repository, sample)
    await check(repository, sample, "")
    assert repository.repository == "alone"
    layer = sample.descriptors()[0]
    assert await repository.begin_blob(layer, mount_from="other") is BlobOutcome.PRESENT
    await store.close()


async def test_an_empty_reference(tmp_path: Path) -> None:
    """Without a tag the image is meant when there is one, whatever refers to it, and none when there are two."""
    repository = LayoutRepository(await LayoutStore.open(tmp_path, create=True, durable=False))
    with pytest.raises(NotFound, match="no image"):
        await repository.resolve("")
    sample = images.image()
    await push(repository, sample, "v1")
    await push(repository, images.artifact(subject=sample.manifest))
    assert (await repository.resolve("")).digest == sample.digest
    await push(repository, images.image(seed="other"))
    with pytest.raises(NotFound, match="several images"):
        await repository.resolve("")


async def test_a_mounted_blob_is_one_file(tmp_path: Path) -> None:
    """A blob that is mounted takes no space of its own."""
    tree = LayoutTree(tmp_path, durable=False)
    one, two = LayoutRepository(tree, "one"), LayoutRepository(tree, "two")
    blob = images.blob(b"data")
    await push_blob(one, blob, b"data")
    assert await two.begin_blob(blob, mount_from="one") is BlobOutcome.MOUNTED
    path = (await tree.store("two")).blob_path(blob.digest)
    assert path.samefile((await tree.store("one")).blob_path(blob.digest))
    await tree.close()


async def test_a_truncated_blob_is_replaced(tmp_path: Path) -> None:
    """A blob's file of the wrong size, as a power cut can leave it, counts as absent and is not mounted."""
    tree = LayoutTree(tmp_path, durable=False)
    one, two = LayoutRepository(tree, "one"), LayoutRepository(tree, "two")
    blob = images.blob(b"data")
    await push_blob(one, blob, b"data")
    path = (await tree.store("one")).blob_path(blob.digest)
    path.write_bytes(b"da")
    assert not isinstance(await two.begin_blob(blob, mount_from="one"), BlobOutcome)
    assert await push_blob(one, blob, b"data") is BlobOutcome.STREAMED
    assert path.read_bytes() == b"data"
    await tree.close()


async def test_a_blob_is_examined_by_its_bytes(tmp_path: Path) -> None:
    """A file with the right name and size, and with other bytes, is removed, and another that shares it stays."""
    tree = LayoutTree(tmp_path, durable=False)
    one, two = LayoutRepository(tree, "one"), LayoutRepository(tree, "two")
    blob = images.blob(b"data")
    assert not await one.examine_blob(blob)
    await push_blob(one, blob, b"data")
    assert await one.examine_blob(blob)
    assert await two.begin_blob(blob, mount_from="one") is BlobOutcome.MOUNTED
    path = (await tree.store("one")).blob_path(blob.digest)
    path.write_bytes(b"atad")
    assert not await two.examine_blob(blob)
    assert path.exists()
    assert await push_blob(two, blob, b"data") is BlobOutcome.STREAMED
    assert path.read_bytes() == b"atad"
    assert not await one.examine_blob(blob)
    assert not path.exists()
    await tree.close()
