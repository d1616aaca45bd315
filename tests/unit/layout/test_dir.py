"""``dir:`` directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer import content
from syncer.errors import LayoutError, NotFound
from syncer.layout.dir import DirSource, DirTarget
from tests.support import images
from tests.support.transfer import check, push

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.images import Sample


async def written(path: Path, sample: Sample, tag: str = "") -> None:
    """Write a ``dir:`` of one image."""
    async with await DirTarget.open(path, durable=False) as target:
        await push(target, sample, tag)


def expected(sample: Sample) -> set[str]:
    """Return the names Skopeo gives the files of ``sample``."""
    names = {"version", "manifest.json", *(digest.encoded for digest in sample.blobs)}
    return names | {f"{child.digest.encoded}.manifest.json" for child in sample.children}


def names(path: Path) -> set[str]:
    """Return the names in a directory."""
    return {entry.name for entry in path.iterdir()}


@pytest.mark.parametrize("tag", ["", "latest"])
@pytest.mark.parametrize(
    "sample", [images.image(), images.index(), images.nested_index()], ids=["image", "index", "nested"]
)
async def test_files(tmp_path: Path, sample: Sample, tag: str) -> None:
    """The files are those of Skopeo's dir transport, whether the image was pushed with a tag or without."""
    await written(tmp_path / "dir", sample, tag)
    assert names(tmp_path / "dir") == expected(sample)
    assert (tmp_path / "dir" / "version").read_bytes() == b"Directory Transport Version: 1.1\n"
    assert (tmp_path / "dir" / "manifest.json").read_bytes() == sample.manifest.raw
    source = await DirSource.open(tmp_path / "dir")
    assert isinstance(source, content.Source)
    assert not isinstance(source, content.ReferrerLister)
    await check(source, sample, "")
    await check(source, sample, "latest")
    assert [tag async for tag in source.tags()] == []


async def test_replacing(tmp_path: Path) -> None:
    """An image takes the place of another; what only the old one had is removed."""
    shared = images.random_bytes(100)
    old, new = images.index(seed="old", shared=[shared]), images.image(seed="new", shared=[shared])
    await written(tmp_path / "dir", old)
    (tmp_path / "dir" / "signature-1").write_bytes(b"old")
    (tmp_path / "dir" / "notes.txt").write_text("mine")
    await written(tmp_path / "dir", new)
    assert names(tmp_path / "dir") == expected(new) | {"notes.txt"}


async def test_an_error_keeps_the_old_image(tmp_path: Path) -> None:
    """Until the new image is whole, the old one is there."""
    old, new = images.index(seed="old"), images.index(seed="new")
    await written(tmp_path / "dir", old)
    with pytest.raises(NotFound):
        async with await DirTarget.open(tmp_path / "dir") as target:
            for blob in new.descriptors():
                await target.begin_blob(blob)
            await target.push_manifest(new.manifest)
    await check(await DirSource.open(tmp_path / "dir"), old, "")
    assert names(tmp_path / "dir") == expected(old)


async def test_one_image(tmp_path: Path) -> None:
    """A second image is refused; the same one again is not."""
    async with await DirTarget.open(tmp_path / "dir") as target:
        await push(target, images.image(), "v1")
        await push(target, images.image(), "v2")
        with pytest.raises(LayoutError, match="holds one"):
            await push(target, images.image(seed="other"), "v3")
        assert (await target.resolve("v2")).digest == images.image().digest


async def test_a_referrer_is_not_the_image(tmp_path: Path) -> None:
    """An artifact that was pushed after its subject, both without a tag, does not become the image."""
    sample = images.image()
    async with await DirTarget.open(tmp_path / "dir") as target:
        await push(target, sample)
        await push(target, images.artifact(subject=sample.manifest))
    assert (await (await DirSource.open(tmp_path / "dir")).resolve("")).digest == sample.digest


async def test_foreign_directories(tmp_path: Path) -> None:
    """A directory with other files in it is not written to."""
    (tmp_path / "precious").write_text("precious")
    with pytest.raises(LayoutError, match="not empty"):
        await DirTarget.open(tmp_path)
    assert names(tmp_path) == {"precious"}


async def test_no_image(tmp_path: Path) -> None:
    """Reading what is no image is a LayoutError, what is not there NotFound."""
    with pytest.raises(NotFound):
        await DirSource.open(tmp_path / "none")
    with pytest.raises(LayoutError, match="holds no image"):
        await DirSource.open(tmp_path)
    await written(tmp_path / "dir", images.image())
    (tmp_path / "dir" / "version").write_text("Directory Transport Version: 2.0\n")
    for opening in (DirSource.open, DirTarget.open):
        with pytest.raises(LayoutError, match=r"2\.0"):
            await opening(tmp_path / "dir")


async def test_links(tmp_path: Path) -> None:
    """A blob that is a link is not read."""
    sample = images.image()
    await written(tmp_path / "dir", sample)
    layer = sample.manifest.layers[0]
    path = tmp_path / "dir" / layer.digest.encoded
    path.unlink()
    path.symlink_to("/etc/passwd")
    source = await DirSource.open(tmp_path / "dir")
    with pytest.raises(LayoutError, match="symbolic link"):
        async with source.fetch_blob(layer):
            pass
