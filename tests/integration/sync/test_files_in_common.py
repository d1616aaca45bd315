"""Copies between two layouts of one machine: blobs are shared by hard links, and no wrong byte is shared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from syncer.app.copying import copy_image
from syncer.app.places import Opened
from syncer.errors import DigestMismatch, LayoutError
from syncer.oci import parse_reference
from tests.support import images
from tests.support.observing import Recorder
from tests.support.transfer import read_blob
from tests.support.world import HERE, embedded, fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.images import Sample

SAMPLE = images.image(seed="in common", layers=2)


@pytest.fixture
async def layout(tmp_path: Path) -> Path:
    """Return a layout that holds the sample as ``app:v1``."""
    async with embedded(tmp_path / "served") as served:
        await fill(served.host, "app", {"v1": SAMPLE})
        return served.root / "app"


async def copied(layout: Path, to: Path) -> None:
    """Copy the sample to another layout."""
    async with Opened(HERE, Recorder()) as opened:
        source, target = parse_reference(f"oci:{layout}:v1"), parse_reference(f"oci:{to}:v1")
        await copy_image(source, target, opened=opened, observer=Recorder())


async def assert_there(layout: Path, sample: Sample) -> None:
    """The layout holds each byte of the sample."""
    async with Opened(HERE, Recorder()) as opened:
        source = await opened.source(parse_reference(f"oci:{layout}:v1"))
        assert (await source.fetch_manifest("v1")).raw == sample.manifest.raw
        for descriptor in sample.descriptors():
            assert await read_blob(source, descriptor) == sample.blobs[descriptor.digest]


def blobs(layout: Path) -> Iterator[Path]:
    """Return the files of the blobs that are no manifest."""
    return (layout / "blobs" / "sha256" / digest.encoded for digest in SAMPLE.blobs)


async def test_blobs_are_shared(layout: Path, tmp_path: Path) -> None:
    """A copy on one file system costs a name for each blob and no bytes, and leaves no other name behind."""
    await copied(layout, tmp_path / "other")
    for ours, theirs in zip(blobs(layout), blobs(tmp_path / "other"), strict=True):
        assert ours.samefile(theirs)
        assert ours.stat().st_nlink == 2
    await assert_there(tmp_path / "other", SAMPLE)


async def test_a_blob_that_is_not_its_digest_is_not_shared(layout: Path, tmp_path: Path) -> None:
    """Bytes that have rotted are read and refused as those of a registry would be."""
    rotten = next(blobs(layout))
    data = rotten.read_bytes()
    rotten.chmod(0o644)
    rotten.write_bytes(bytes(len(data)))
    with pytest.raises(DigestMismatch):
        await copied(layout, tmp_path / "other")
    assert not (tmp_path / "other" / "blobs" / "sha256" / rotten.name).exists()
    assert rotten.stat().st_nlink == 1


async def test_a_symbolic_link_is_not_shared(layout: Path, tmp_path: Path) -> None:
    """What is behind a link belongs to somebody who may write to it later."""
    linked = next(blobs(layout))
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LayoutError, match="symbolic link"):
        await copied(layout, tmp_path / "other")
    there = tmp_path / "other" / "blobs" / "sha256" / linked.name
    assert not there.is_symlink()
    assert not there.exists()
    assert linked.lstat().st_nlink == 1


async def test_a_file_system_without_hard_links(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no second name can be given, or it is another file system, the bytes are copied."""

    def link(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    await copied(layout, tmp_path / "other")
    await assert_there(tmp_path / "other", SAMPLE)
    assert {file.stat().st_nlink for file in blobs(layout)} == {1}
