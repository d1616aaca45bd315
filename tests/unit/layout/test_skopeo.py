"""Skopeo as a witness: it reads what we write, and we read what it writes."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from syncer.layout.archive import ArchiveSource
from syncer.layout.archive_target import ArchiveTarget
from syncer.layout.dir import DirSource, DirTarget
from syncer.layout.repository import LayoutRepository
from syncer.layout.store import LayoutStore
from syncer.layout.tree import LayoutTree
from tests.support import images
from tests.support.transfer import check, push

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.witness,
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not on PATH"),
]
IMAGE = images.real_image()
INDEX = images.index_of([IMAGE, images.real_image(seed="other")])


async def skopeo(*arguments: str) -> bytes:
    """Run skopeo and return what it printed."""
    done = await anyio.run_process(["skopeo", "--insecure-policy", *arguments], check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def inspected(reference: str) -> dict[str, Any]:
    """Return what ``skopeo inspect`` says."""
    found: dict[str, Any] = json.loads(await skopeo("inspect", reference))
    return found


async def seeded(tmp_path: Path) -> Path:
    """Write a layout with an image and an index, and return its directory."""
    store = await LayoutStore.open(tmp_path / "seed", create=True, durable=False)
    repository = LayoutRepository(store)
    await push(repository, INDEX, "index")
    await push(repository, IMAGE, "image")
    await store.close()
    return store.path


async def test_skopeo_reads_a_tree(tmp_path: Path) -> None:
    """Each repository of a tree is a layout to Skopeo, at the name's own path."""
    tree = LayoutTree(tmp_path)
    await push(LayoutRepository(tree, "library/app"), IMAGE, "3.19")
    await push(LayoutRepository(tree, "library/app/blobs"), INDEX, "v1")
    await tree.close()
    assert (await inspected(f"oci:{tmp_path}/library/app:3.19"))["Digest"] == IMAGE.digest
    assert await skopeo("inspect", "--raw", f"oci:{tmp_path}/library/app/_blobs:v1") == INDEX.manifest.raw
    await skopeo("copy", "--all", f"oci:{tmp_path}/library/app/_blobs:v1", f"oci:{tmp_path}/copy:v1")


async def test_we_read_a_layout_of_skopeo(tmp_path: Path) -> None:
    """What Skopeo copies into a layout, a new one or ours, is there for us, beside what was there."""
    seed = await seeded(tmp_path)
    await skopeo("copy", "--all", f"oci:{seed}:index", f"oci:{tmp_path}/theirs:v1")
    await check(LayoutRepository(await LayoutStore.open(tmp_path / "theirs")), INDEX, "v1")
    await skopeo("copy", f"oci:{seed}:image", f"oci:{seed}:again")
    store = await LayoutStore.open(seed)
    assert store.tags() == ["again", "image", "index"]
    await check(LayoutRepository(store), IMAGE, "again")


@pytest.mark.parametrize("tag", ["v1", ""])
async def test_skopeo_reads_an_archive(tmp_path: Path, tag: str) -> None:
    """Skopeo reads our archive, with a tag and without."""
    async with await ArchiveTarget.open(tmp_path / "a.tar") as target:
        await push(target, IMAGE, tag)
    reference = f"oci-archive:{tmp_path}/a.tar" + (f":{tag}" if tag else "")
    assert (await inspected(reference))["Digest"] == IMAGE.digest
    async with await ArchiveTarget.open(tmp_path / "a.tar") as target:
        await push(target, INDEX, tag)
    await skopeo("copy", "--all", reference, f"oci:{tmp_path}/copy:v1")
    await check(LayoutRepository(await LayoutStore.open(tmp_path / "copy")), INDEX, "v1")


async def test_we_read_an_archive_of_skopeo(tmp_path: Path) -> None:
    """An archive that Skopeo wrote is read, with a tag and without."""
    seed = await seeded(tmp_path)
    await skopeo("copy", "--all", f"oci:{seed}:index", f"oci-archive:{tmp_path}/a.tar:v1")
    async with await ArchiveSource.open(tmp_path / "a.tar") as source:
        await check(source, INDEX, "v1")
        await check(source, INDEX, "")
    await skopeo("copy", f"oci:{seed}:image", f"oci-archive:{tmp_path}/b.tar")
    async with await ArchiveSource.open(tmp_path / "b.tar") as source:
        await check(source, IMAGE, "")


async def test_dir_both_ways(tmp_path: Path) -> None:
    """Our dir: and Skopeo's of the same image are the same files with the same bytes, and each reads the other's."""
    seed = await seeded(tmp_path)
    for name, sample in (("index", INDEX), ("image", IMAGE)):
        ours, theirs = tmp_path / f"ours-{name}", tmp_path / f"theirs-{name}"
        await skopeo("copy", "--all", f"oci:{seed}:{name}", f"dir:{theirs}")
        async with await DirTarget.open(ours) as target:
            await push(target, sample)
        contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (ours, theirs)]
        assert contents[0] == contents[1]
        await check(await DirSource.open(theirs), sample, "")
        await skopeo("copy", "--all", f"dir:{ours}", f"oci:{tmp_path}/copy:{name}")
        await check(LayoutRepository(await LayoutStore.open(tmp_path / "copy")), sample, name)
