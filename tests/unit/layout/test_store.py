"""One image layout directory."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from syncer.errors import DigestMismatch, InvalidReference, LayoutError, NotFound, SizeMismatch, StorageFull
from syncer.layout import files
from syncer.layout.index import REF_NAME
from syncer.layout.store import LayoutStore
from syncer.oci import Descriptor, Digest
from syncer.oci import media_types as mt
from tests.support import images
from tests.support.transfer import chunks_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.support.images import Sample


async def fresh(path: Path) -> LayoutStore:
    """Open an empty layout."""
    return await LayoutStore.open(path, create=True, durable=False)


async def put(store: LayoutStore, sample: Sample, tag: str = "") -> None:
    """Write a whole sample."""
    for descriptor in sample.descriptors():
        await store.write_blob(descriptor, chunks_of(sample.blobs[descriptor.digest]))
    for manifest in sample.children:
        await store.put_manifest(manifest)
    await store.put_manifest(sample.manifest, tag)


def entries(path: Path) -> dict[str, str]:
    """Return the digests that index.json lists, each with its tag or nothing."""
    document = json.loads((path / "index.json").read_bytes())
    return {entry["digest"]: entry.get("annotations", {}).get(REF_NAME, "") for entry in document["manifests"]}


def files_below(path: Path) -> set[str]:
    """Return the names of all files below ``path``."""
    return {str(found.relative_to(path)) for found in path.rglob("*") if not found.is_dir()}


# -------------------------------------------------------------------- opening


async def test_an_empty_layout(tmp_path: Path) -> None:
    """A layout that was made has the three things image-layout.md asks for."""
    store = await fresh(tmp_path / "a" / "b")
    await store.close()
    assert json.loads((store.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.path / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [],
    }
    assert (store.path / "blobs").is_dir()


async def test_absent(tmp_path: Path) -> None:
    """A layout that is not there is NotFound, and is not made in passing."""
    with pytest.raises(NotFound):
        await LayoutStore.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("oci-layout", None),
        ("oci-layout", ""),
        ("oci-layout", "[]"),
        ("oci-layout", '{"imageLayoutVersion":"2.0.0"}'),
        ("index.json", None),
        ("index.json", "{"),
        (".syncer/journal", '{"neither":1}\n{"untag":"a"}\n'),
        (".syncer/journal", 'garbage\n{"untag":"a"}\n'),
    ],
)
async def test_no_layout(tmp_path: Path, name: str, text: str | None) -> None:
    """A directory that is no layout, or a damaged one, is a LayoutError with a hint."""
    await (await fresh(tmp_path)).close()
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(LayoutError) as caught:
        await LayoutStore.open(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


async def test_reading_writes_nothing(tmp_path: Path) -> None:
    """A layout that is only read needs no write access: nothing appears in it, and nobody is locked out."""
    sample = images.real_image()
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    await store.close()
    (tmp_path / ".syncer" / "tmp").rmdir()
    before = files_below(tmp_path)
    reader = await LayoutStore.open(tmp_path)
    assert (await reader.manifest("v1")).raw == sample.manifest.raw
    assert await reader.referrers(sample.digest) == []
    writer = await LayoutStore.open(tmp_path, create=True)
    await writer.close()
    assert files_below(tmp_path) == before


# -------------------------------------------------------------------- blobs


async def test_adopt(tmp_path: Path) -> None:
    """A verified file is moved into place, and a second time is no error."""
    store = await LayoutStore.open(tmp_path / "layout", create=True)
    file = tmp_path / "upload"
    file.write_bytes(b"data")
    digest = Digest.of(b"data")
    await store.adopt(file, digest)
    await store.adopt(file, digest)
    assert store.blob_path(digest).read_bytes() == b"data"
    assert not file.exists()
    with pytest.raises(LayoutError):
        await store.adopt(file, Digest.of(b"other"))


async def test_link(tmp_path: Path) -> None:
    """A blob of another store becomes the same file; one it lacks is False."""
    one, two = await fresh(tmp_path / "one"), await fresh(tmp_path / "two")
    blob = images.blob(b"data")
    await one.write_blob(blob, chunks_of(b"data"))
    assert await two.link(one, blob.digest)
    assert await two.link(one, blob.digest)
    assert two.blob_path(blob.digest).samefile(one.blob_path(blob.digest))
    assert not await two.link(one, Digest.of(b"none"))


async def test_link_across_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no hard link can be made the blob is copied."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    one, two = await fresh(tmp_path / "one"), await fresh(tmp_path / "two")
    blob = images.blob(b"data" * 1000)
    await one.write_blob(blob, chunks_of(b"data" * 1000))
    monkeypatch.setattr(os, "link", refuse)
    assert await two.link(one, blob.digest)
    assert two.blob_path(blob.digest).read_bytes() == b"data" * 1000
    assert not two.blob_path(blob.digest).samefile(one.blob_path(blob.digest))


@pytest.mark.parametrize("is_copied", [False, True])
async def test_a_blob_that_is_deleted_while_it_is_linked_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_copied: bool
) -> None:
    """A neighbour deletes it after it was seen: that is no error, the blob is merely not there."""
    one, two = await fresh(tmp_path / "one"), await fresh(tmp_path / "two")
    blob = images.blob(b"data")
    await one.write_blob(blob, chunks_of(b"data"))
    blobs = one._ledger.blobs
    link, look = os.link, type(blobs).size

    def deleted_after(folder: object, digest: Digest) -> int | None:
        size = look(folder, digest)  # type: ignore[arg-type]  # it is a BlobFolder
        if folder is blobs:
            blobs.remove(digest)
        return size

    def refuse(*args: Any, **options: Any) -> None:
        if is_copied:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(*args, **options)

    monkeypatch.setattr(type(blobs), "size", deleted_after)
    monkeypatch.setattr(os, "link", refuse)
    assert not await two.link(one, blob.digest)
    assert await two.blob_size(blob.digest) is None


async def test_a_blob_of_the_wrong_size(tmp_path: Path) -> None:
    """Too many or too few bytes are never committed and leave no file."""
    store = await fresh(tmp_path)
    blob = images.blob(b"data")
    for data in (b"dat", b"datas"):
        with pytest.raises(SizeMismatch):
            await store.write_blob(blob, chunks_of(data))
    assert await store.blob_size(blob.digest) is None
    assert not list((tmp_path / ".syncer" / "tmp").iterdir())


async def test_cancelled_blob(tmp_path: Path) -> None:
    """A blob whose task is cancelled leaves no file."""
    store = await fresh(tmp_path)
    data = images.random_bytes(3_000_000)
    begun = anyio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield data[:2_000_000]
        begun.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(store.write_blob, images.blob(data), chunks())
        await begun.wait()
        group.cancel_scope.cancel()
    assert not list((tmp_path / ".syncer" / "tmp").iterdir())
    assert await store.blob_size(Digest.of(data)) is None


async def test_delete_blob(tmp_path: Path) -> None:
    """A blob is deleted once; a manifest is not deleted as a blob."""
    store = await fresh(tmp_path)
    sample = images.image(layers=1)
    await put(store, sample, "v1")
    layer = sample.manifest.layers[0].digest
    await store.delete_blob(layer)
    for digest in (layer, sample.digest):
        with pytest.raises(NotFound):
            await store.delete_blob(digest)
    assert (await store.manifest("v1")).digest == sample.digest


async def test_sha512(tmp_path: Path) -> None:
    """Blobs of the other registered algorithm live in a directory of their own."""
    store = await fresh(tmp_path)
    digest = Digest.of(b"data", "sha512")
    await store.write_blob(Descriptor(media_type="", digest=digest, size=4), chunks_of(b"data"))
    assert (tmp_path / "blobs" / "sha512" / digest.encoded).read_bytes() == b"data"


@pytest.mark.parametrize("full", ["tmpfs", "injected"])
async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    """A full disk is StorageFull with the place and the bytes needed, leaves no file, and harms nothing."""
    path = tmp_path / "mount"
    path.mkdir()
    if full == "tmpfs":
        done = await anyio.run_process(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)], check=False)
        if done.returncode:
            pytest.skip("mounting a tmpfs is not allowed here")
    try:
        store = await fresh(path / "layout")
        await put(store, images.image(layers=1), "v1")
        if full == "injected":

            def refuse(*_args: object) -> int:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(files, "write_all", refuse)
        data = images.random_bytes(2_000_000)
        with pytest.raises(StorageFull, match="2000000 bytes") as caught:
            await store.write_blob(images.blob(data), chunks_of(data))
        assert str(path) in caught.value.message
        assert not list((path / "layout" / ".syncer" / "tmp").iterdir())
        monkeypatch.undo()
        await put(store, images.image(layers=1, seed="after"), "v2")
        await store.close()
        assert (await LayoutStore.open(path / "layout")).tags() == ["v1", "v2"]
    finally:
        if full == "tmpfs":
            await anyio.run_process(["umount", "--lazy", str(path)], check=False)


# -------------------------------------------------------------------- manifests and tags


async def test_entries_of_an_index(tmp_path: Path) -> None:
    """Children that an index lists have no entry of their own, and are found all the same."""
    sample = images.index(attestations=True)
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    await store.close()
    assert entries(tmp_path) == {sample.digest: "v1"}
    again = await LayoutStore.open(tmp_path)
    for child in sample.children:
        assert (await again.resolve(child.digest)) == child.descriptor


async def test_a_child_that_states_nothing_is_listed(tmp_path: Path) -> None:
    """A child whose bytes do not state their media type keeps its entry: the entry is what knows it."""
    child = images.image(state_media_type=False)
    sample = images.index_of([child])
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    await store.close()
    assert entries(tmp_path) == {sample.digest: "v1", child.digest: ""}


async def test_deleting_an_index_lists_its_children(tmp_path: Path) -> None:
    """When the index goes, its children get entries, and so are not lost to other tools."""
    sample = images.index()
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    await store.delete_manifest(sample.digest)
    await store.close()
    assert entries(tmp_path) == {child.digest: "" for child in sample.children}
    with pytest.raises(NotFound):
        await store.resolve(sample.digest)
    assert await store.blob_size(sample.digest) is None


async def test_deleting_a_manifest_whose_file_is_lost(tmp_path: Path) -> None:
    """An entry without its file can be deleted."""
    sample = images.image()
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    store.blob_path(sample.digest).unlink()
    with pytest.raises(NotFound):
        await store.manifest("v1")
    await store.delete_manifest(sample.digest)
    assert store.tags() == []


async def test_a_damaged_manifest(tmp_path: Path) -> None:
    """A manifest whose bytes changed on disk is DigestMismatch, and a push of it mends the file."""
    sample = images.image()
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    raw = sample.manifest.raw
    store.blob_path(sample.digest).write_bytes(b" " + raw[1:])
    with pytest.raises(DigestMismatch):
        await store.manifest("v1")
    await store.put_manifest(sample.manifest, "v1")
    assert (await store.manifest("v1")).raw == raw


async def test_a_bad_tag(tmp_path: Path) -> None:
    """A tag that breaks the grammar is refused before anything is written."""
    store = await fresh(tmp_path)
    sample = images.image()
    with pytest.raises(InvalidReference):
        await store.put_manifest(sample.manifest, "../up")
    assert await store.blob_size(sample.digest) is None


async def test_referrers_survive(tmp_path: Path) -> None:
    """Referrers are known again after closing, without reading the manifests."""
    sample = images.image()
    bill = images.artifact(subject=sample.manifest, annotations={"a": "b"})
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    await put(store, bill)
    await store.close()
    store.blob_path(bill.digest).unlink()
    again = await LayoutStore.open(tmp_path)
    assert await again.referrers(sample.digest) == [bill.manifest.referrer_descriptor]


async def test_referrers_that_others_wrote(tmp_path: Path) -> None:
    """Without our own record, or with one of an older index.json, the manifests are searched."""
    sample = images.image()
    bill = images.artifact(subject=sample.manifest)
    listed = images.index_of([images.artifact(subject=sample.manifest, seed="listed")])
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    await put(store, bill)
    await put(store, listed, "listed")
    await store.close()
    expected = {bill.digest, listed.children[0].digest}
    index = tmp_path / "index.json"
    for prepare in (
        lambda: (tmp_path / ".syncer" / "referrers.json").write_text("garbage"),
        (tmp_path / ".syncer" / "referrers.json").unlink,
        lambda: index.write_bytes(index.read_bytes() + b"\n"),
    ):
        prepare()
        again = await LayoutStore.open(tmp_path)
        assert {item.digest for item in await again.referrers(sample.digest)} == expected
        assert {item.digest for item in await again.referrers(sample.digest)} == expected


async def test_another_tool_writes_meanwhile(tmp_path: Path) -> None:
    """What a tool without our lock added to index.json is kept when ours is written."""
    store = await fresh(tmp_path)
    await put(store, images.image(), "ours")
    other = images.image(seed="theirs")
    index = tmp_path / "index.json"
    document = json.loads(index.read_bytes())
    document["manifests"].append({**other.manifest.descriptor.to_json(), "annotations": {REF_NAME: "theirs"}})
    index.write_text(json.dumps(document))
    await store.flush()
    assert store.tags() == ["ours", "theirs"]
    assert sorted(entries(tmp_path).values()) == ["ours", "theirs"]


async def test_unnecessary_pushes_write_nothing(tmp_path: Path) -> None:
    """Pushing what is there already does not grow the journal."""
    sample = images.index()
    store = await fresh(tmp_path)
    await put(store, sample, "v1")
    await store.close()
    await put(store, images.image(seed="again"), "v2")
    size = (tmp_path / ".syncer" / "journal").stat().st_size
    await store.put_manifest(sample.manifest, "v1")
    await store.put_manifest(sample.manifest)
    assert (tmp_path / ".syncer" / "journal").stat().st_size == size


async def test_pushes_at_once(tmp_path: Path) -> None:
    """Changes that are made at the same time are all there, now and after opening again."""
    store = await fresh(tmp_path)
    samples = [images.image(layers=0, seed=at) for at in range(60)]
    async with anyio.create_task_group() as group:
        for at, sample in enumerate(samples):
            group.start_soon(store.put_manifest, sample.manifest, f"v{at}")
    again = await LayoutStore.open(tmp_path)
    for opened in (store, again):
        for at, sample in enumerate(samples):
            assert (await opened.resolve(f"v{at}")).digest == sample.digest


async def test_compaction_while_pushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is emptied into index.json each time it has outgrown it, and not at each push."""
    monkeypatch.setattr("syncer.layout.ledger.MIN_JOURNAL", 4096)
    store = await fresh(tmp_path)
    written: list[int] = []
    for at in range(300):
        await store.put_manifest(images.image(layers=0, seed=at).manifest, f"v{at}")
        written.append((tmp_path / "index.json").stat().st_size)
    assert 2 < len(set(written)) < 15
    assert len((await LayoutStore.open(tmp_path)).tags()) == 300


async def test_a_journal_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the journal cannot be written no push at that time is acknowledged or seen; later ones are."""
    real = files.write_all

    def torn(handle: int, buffers: Sequence[bytes], offset: int | None = None) -> int:
        real(handle, [buffers[0][:20]], offset)
        raise OSError(28, "No space left on device")

    store = await fresh(tmp_path)
    await store.put_manifest(images.image(seed=0).manifest, "v0")
    monkeypatch.setattr(files, "write_all", torn)
    refused: list[str] = []

    async def attempt(tag: str) -> None:
        with pytest.raises(StorageFull, match="journal"):
            await store.put_manifest(images.image(seed=tag).manifest, tag)
        refused.append(tag)

    async with anyio.create_task_group() as group:
        for tag in ("v1", "v2", "v3"):
            group.start_soon(attempt, tag)
    assert len(refused) == 3
    monkeypatch.undo()
    await store.put_manifest(images.image(seed=4).manifest, "v4")
    for opened in (store, await LayoutStore.open(tmp_path)):
        assert opened.tags() == ["v0", "v4"]


async def test_an_index_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push is no failure because index.json cannot be rewritten now: the journal has it."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise StorageFull

    monkeypatch.setattr("syncer.layout.ledger.MIN_JOURNAL", 100)
    store = await fresh(tmp_path)
    await store.put_manifest(images.image(seed=0).manifest, "v0")
    monkeypatch.setattr("syncer.layout.ledger.Ledger.compact", refuse)
    for at in range(1, 10):
        await store.put_manifest(images.image(seed=at).manifest, f"v{at}")
    monkeypatch.undo()
    assert len((await LayoutStore.open(tmp_path)).tags()) == 10


async def test_a_read_only_place(tmp_path: Path) -> None:
    """A layout on a read-only file system is read, and a write says why it cannot be."""
    store = await fresh(tmp_path / "layout")
    await put(store, images.image(), "v1")
    await store.close()
    path = tmp_path / "mount"
    path.mkdir()
    for command in (["--bind", str(tmp_path / "layout"), str(path)], ["-o", "remount,ro,bind", str(path)]):
        if (await anyio.run_process(["mount", *command], check=False)).returncode:
            pytest.skip("mounting is not allowed here")
    try:
        reader = await LayoutStore.open(path)
        assert (await reader.manifest("v1")).digest == images.image().digest
        with pytest.raises(LayoutError, match="read-only") as caught:
            await reader.delete_tag("v1")
        assert caught.value.hint
    finally:
        await anyio.run_process(["umount", "--lazy", str(path)], check=False)


# -------------------------------------------------------------------- links


@pytest.mark.parametrize(
    "parts",
    [
        ["blobs"],
        ["blobs", "sha256"],
        [".syncer"],
        [".syncer", "tmp"],
        [".syncer", "journal"],
        ["index.json"],
        ["oci-layout"],
    ],
)
async def test_links_out_of_the_layout(tmp_path: Path, parts: Sequence[str]) -> None:
    """A file or directory of the layout that is a link is refused, and what it points to is untouched."""
    path = tmp_path / "layout"
    store = await fresh(path)
    await put(store, images.image(), "v1")
    await store.close()
    outside = tmp_path / "outside"
    inside = path.joinpath(*parts)
    inside.rename(outside)
    (tmp_path / "precious").write_text("precious")
    inside.symlink_to(outside)
    with pytest.raises(LayoutError, match="symbolic link"):
        await LayoutStore.open(path, create=True)


async def test_a_blob_that_is_a_link(tmp_path: Path) -> None:
    """A blob that is a link to a file outside is not read."""
    store = await fresh(tmp_path / "layout")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = Digest.of(b"secret")
    store.blob_path(digest).symlink_to(secret)
    with pytest.raises(LayoutError, match="symbolic link"):
        await store.blob_size(digest)
    with pytest.raises(LayoutError, match="symbolic link"):
        async with store.read_blob(digest):
            pass
    with pytest.raises(LayoutError, match="symbolic link"):
        await store.resolve(digest)
    other = await fresh(tmp_path / "other")
    with pytest.raises(LayoutError, match="symbolic link"):
        await other.link(store, digest)


async def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    """A blob that is a FIFO is refused at once."""
    store = await fresh(tmp_path)
    digest = Digest.of(b"fifo")
    os.mkfifo(store.blob_path(digest))
    with pytest.raises(LayoutError):
        async with store.read_blob(digest):
            pass
