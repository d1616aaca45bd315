"""A tree of repositories."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncer.content import Catalog
from syncer.errors import InvalidReference, LayoutError, NotFound
from syncer.layout import tree as module
from syncer.layout.tree import LayoutTree
from tests.support import images

if TYPE_CHECKING:
    from pathlib import Path

words = st.sampled_from(["a", "b", "blobs", "index.json", "oci-layout", "a-b", "a.b", "a0", "0"])
names = st.lists(words, min_size=1, max_size=3).map("/".join)


async def make(tree: LayoutTree, *repositories: str) -> None:
    """Make empty repositories."""
    for name in repositories:
        await tree.store(name, create=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(repositories=st.sets(names, max_size=8), prefix=st.sampled_from(["", "a", "a/", "a-", "blobs/", "b", "x"]))
async def test_listing(tmp_path_factory: pytest.TempPathFactory, repositories: set[str], prefix: str) -> None:
    """The repositories that start with a prefix are listed in lexical order, whatever their names are."""
    tree = LayoutTree(tmp_path_factory.mktemp("tree"), durable=False)
    await make(tree, *repositories)
    expected = sorted(name for name in repositories if name.startswith(prefix))
    assert [name async for name in tree.repositories(prefix)] == expected
    await tree.close()


async def test_listing_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is lost between two pages."""
    monkeypatch.setattr(module, "_PAGE", 3)
    tree = LayoutTree(tmp_path, durable=False)
    expected = [f"r{at}" for at in range(10)]
    await make(tree, *expected)
    assert isinstance(tree, Catalog)
    assert [name async for name in tree.repositories()] == expected


async def test_other_things_in_the_tree(tmp_path: Path) -> None:
    """Files, hidden directories, links and directories that are no layout are not listed."""
    tree = LayoutTree(tmp_path / "tree", durable=False)
    await make(tree, "app")
    (tmp_path / "tree" / "Upper").mkdir()
    (tmp_path / "tree" / "empty").mkdir()
    (tmp_path / "tree" / "file").write_text("")
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "tree" / "app")
    assert [name async for name in tree.repositories()] == ["app"]


async def test_no_tree(tmp_path: Path) -> None:
    """A root that is not there lists as NotFound, and looking does not make it."""
    tree = LayoutTree(tmp_path / "none")
    with pytest.raises(NotFound):
        await anext(tree.repositories())
    with pytest.raises(NotFound):
        await tree.store("app")
    await tree.close()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["", "../up", "a//b", "Upper", ".syncer", "a/..", "/etc", "a/" * 128])
async def test_bad_names(tmp_path: Path, name: str) -> None:
    """A name that is none never becomes a path."""
    with pytest.raises(InvalidReference):
        await LayoutTree(tmp_path / "tree").store(name, create=True)
    assert not (tmp_path / "tree").exists()


async def test_names_that_collide(tmp_path: Path) -> None:
    """A repository below another, named like a layout's own files, does not touch it."""
    tree = LayoutTree(tmp_path, durable=False)
    colliding = ["app", "app/blobs", "app/blobs/sha256", "app/index.json", "app/oci-layout", "blobs"]
    for name in colliding:
        store = await tree.store(name, create=True)
        await store.put_manifest(images.image(seed=name).manifest, "v1")
    await tree.close()
    again = LayoutTree(tmp_path)
    for name in colliding:
        found = await (await again.store(name)).resolve("v1")
        assert found.digest == images.image(seed=name).digest
    assert [name async for name in again.repositories()] == sorted(colliding)
    assert (tmp_path / "app" / "_blobs" / "oci-layout").is_file()


async def test_deep_names(tmp_path: Path) -> None:
    """The longest name there can be, of as many parts as there can be, is a repository."""
    tree = LayoutTree(tmp_path, durable=False)
    deep, long = "/".join("a" * 128), "x" * 255
    await make(tree, deep, long)
    assert [name async for name in tree.repositories()] == [deep, long]


async def test_links_in_the_tree(tmp_path: Path) -> None:
    """A directory of the tree that is a link is refused."""
    tree = LayoutTree(tmp_path / "tree", durable=False)
    await make(tree, "one/app")
    (tmp_path / "tree" / "two").symlink_to(tmp_path / "tree" / "one")
    for create in (False, True):
        with pytest.raises(LayoutError, match="symbolic link"):
            await tree.store("two/app", create=create)


async def test_one_store_for_all(tmp_path: Path) -> None:
    """All who ask for a repository at the same time get the same store."""
    tree = LayoutTree(tmp_path, durable=False)
    found: list[object] = []

    async def ask() -> None:
        found.append(await tree.store("app", create=True))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
    assert len({id(store) for store in found}) == 1


async def test_many_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores nobody uses are let go of, flushed; one in use stays the one store of its repository."""
    monkeypatch.setattr(module, "_KEPT_OPEN", 3)
    tree = LayoutTree(tmp_path, durable=False)
    sample = images.image()
    used = await tree.store("used", create=True)
    await used.put_manifest(sample.manifest, "v1")
    for at in range(20):
        await (await tree.store(f"r{at}", create=True)).put_manifest(sample.manifest, "v1")
    gc.collect()
    assert len(tree._alive) <= 4
    assert await tree.store("used") is used
    assert json.loads((tmp_path / "r0" / "index.json").read_bytes())["manifests"]
    assert (await tree.store("r0")).tags() == ["v1"]
    await tree.close()


async def test_flush(tmp_path: Path) -> None:
    """After a flush other tools see everything."""
    tree = LayoutTree(tmp_path)
    store = await tree.store("app", create=True)
    await store.put_manifest(images.image().manifest, "v1")
    dirty = [store.is_dirty]
    await tree.flush()
    assert [*dirty, store.is_dirty] == [True, False]
    assert len(json.loads((tmp_path / "app" / "index.json").read_bytes())["manifests"]) == 1
    await tree.close()


async def test_a_failure_to_open_is_not_kept(tmp_path: Path) -> None:
    """A repository that could not be opened is tried again, by those who waited too."""
    tree = LayoutTree(tmp_path, durable=False)
    await make(tree, "app")
    await tree.close()
    other = LayoutTree(tmp_path)
    index = tmp_path / "app" / "index.json"
    kept = index.read_bytes()
    index.write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(LayoutError):
            await other.store("app")
    index.write_bytes(kept)
    assert (await other.store("app")).tags() == []
