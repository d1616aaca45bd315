"""What is left when the process ends at the worst moment, and who may write."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import LayoutError, NotFound, StorageFull
from syncer.layout import files
from syncer.layout.journal import Journal
from syncer.layout.ledger import Ledger
from syncer.layout.repository import LayoutRepository
from syncer.layout.store import LayoutStore
from syncer.layout.tree import LayoutTree
from tests.support import images
from tests.support.layouts.reading import read_layout
from tests.support.transfer import push, push_blob

if TYPE_CHECKING:
    from anyio.abc import Process

_WRITER = """
import sys
from pathlib import Path
import anyio
from syncer.layout.store import LayoutStore
from tests.support import images

async def main():
    store = await LayoutStore.open(Path(sys.argv[1]), create=True)
    for at in range(100_000):
        await store.put_manifest(images.image(layers=0, seed=at).manifest, f"v{at}")
        print(at, flush=True)

anyio.run(main)
"""


def journal(path: Path) -> Path:
    """Return where the journal of a layout is."""
    return path / ".syncer" / "journal"


def blobs(path: Path) -> list[str]:
    """Return the names of the files of a layout's blobs."""
    return sorted(blob.name for blob in path.glob("blobs/sha256/*"))


def abandon(store: LayoutStore) -> None:
    """Let go of a store the way a killed process does: its files are closed, and nothing more is written."""
    store._ledger._leave()


async def test_a_torn_journal(tmp_path: Path) -> None:
    """Cut at any byte of its last line, the journal gives what was acknowledged before, and can be written on."""
    path = tmp_path / "layout"
    samples = [images.image(layers=0, seed=at) for at in range(4)]
    store = await LayoutStore.open(path, create=True, durable=False)
    for at in range(2):
        await store.put_manifest(samples[at].manifest, f"v{at}")
    whole = journal(path).stat().st_size
    await store.put_manifest(images.artifact(subject=samples[0].manifest).manifest, "v2")
    abandon(store)
    written = journal(path).read_bytes()
    for length in range(whole, len(written) + 1):
        journal(path).write_bytes(written[:length])
        expected = ["v0", "v1", "v2"] if length == len(written) else ["v0", "v1"]
        assert (await LayoutStore.open(path)).tags() == expected
    for length in (whole, whole + 1, (whole + len(written)) // 2, len(written) - 1, len(written)):
        copy = tmp_path / f"copy-{length}"
        shutil.copytree(path, copy)
        journal(copy).write_bytes(written[:length])
        expected = ["v0", "v1", "v2"] if length == len(written) else ["v0", "v1"]
        assert (await LayoutStore.open(copy)).tags() == expected
        opened = await LayoutStore.open(copy, create=True, durable=False)
        await opened.put_manifest(samples[3].manifest, "v3")
        abandon(opened)
        again = await LayoutStore.open(copy)
        assert again.tags() == [*expected, "v3"]
        assert len(await again.referrers(samples[0].digest)) == len(expected) - 2
        shutil.rmtree(copy)


async def test_a_last_line_of_garbage(tmp_path: Path) -> None:
    """A last line that was written in part, out of order, is left out as a torn one is."""
    store = await LayoutStore.open(tmp_path, create=True, durable=False)
    await store.put_manifest(images.image().manifest, "v1")
    abandon(store)
    with journal(tmp_path).open("ab") as file:
        file.write(b"\0" * 40 + b'"}\n')
    assert (await LayoutStore.open(tmp_path)).tags() == ["v1"]


async def test_a_crash_between_index_and_journal(tmp_path: Path) -> None:
    """A journal whose changes are in index.json already is applied again without harm."""
    sample = images.index()
    store = await LayoutStore.open(tmp_path, create=True, durable=False)
    for manifest in sample.children:
        await store.put_manifest(manifest)
    await store.put_manifest(sample.children[0], "moved")
    await store.put_manifest(sample.manifest, "moved")
    await store.put_manifest(sample.manifest, "gone")
    await store.delete_tag("gone")
    kept = journal(tmp_path).read_bytes()
    await store.close()
    expected = (tmp_path / "index.json").read_bytes()
    journal(tmp_path).write_bytes(kept)
    again = await LayoutStore.open(tmp_path, create=True, durable=False)
    assert again.tags() == ["moved"]
    assert (await again.resolve("moved")).digest == sample.digest
    await again.close()
    assert (tmp_path / "index.json").read_bytes() == expected


async def test_a_crash_before_a_file_is_removed(tmp_path: Path) -> None:
    """A manifest whose deletion was recorded and whose file was not removed is gone after opening."""
    sample = images.image()
    store = await LayoutStore.open(tmp_path, create=True, durable=False)
    await store.put_manifest(sample.manifest, "v1")
    file = store.blob_path(sample.digest)
    await store.delete_manifest(sample.digest)
    abandon(store)
    file.write_bytes(sample.manifest.raw)
    again = await LayoutStore.open(tmp_path, create=True, durable=False)
    with pytest.raises(NotFound):
        await again.resolve(sample.digest)
    assert not file.exists()


async def deleted(path: Path, sample: images.Sample) -> LayoutStore:
    """Return a store whose index.json lists ``sample``, and which has deleted its manifest since."""
    store = await LayoutStore.open(path, create=True, durable=False)
    await push(LayoutRepository(store), sample, "v1")
    await store.close()
    await store.delete_manifest(sample.digest)
    return store


async def test_other_tools_after_a_deletion(tmp_path: Path) -> None:
    """At any instant of a deletion, of a manifest and then of its blobs, all that index.json lists is whole."""
    sample = images.image()
    store = await deleted(tmp_path, sample)
    assert read_layout(tmp_path).findings == []
    for digest in sample.blobs:
        await store.delete_blob(digest)
        assert read_layout(tmp_path).findings == []
    abandon(store)
    assert blobs(tmp_path) == []


async def test_a_deletion_that_was_not_finished(tmp_path: Path) -> None:
    """After a kill a deleted manifest is gone for readers too, before anybody has become the writer."""
    sample = images.image()
    abandon(await deleted(tmp_path, sample))
    reader = await LayoutStore.open(tmp_path)
    for ask in (reader.manifest, reader.resolve):
        with pytest.raises(NotFound):
            await ask(sample.digest)
    with pytest.raises(NotFound):
        reader.blob_path(sample.digest)
    with pytest.raises(NotFound):
        async with reader.read_blob(sample.digest):
            pass
    assert await reader.blob_size(sample.digest) is None
    other = await LayoutStore.open(tmp_path / "other", create=True, durable=False)
    assert not await other.link(reader, sample.digest)


@pytest.mark.parametrize("way", ["manifest", "blob", "link"])
async def test_what_was_deleted_comes_back(tmp_path: Path, way: str) -> None:
    """What is pushed again after its deletion, as what it was or as a blob, survives the next opening."""
    sample = images.image()
    path = tmp_path / "layout"
    store = await deleted(path, sample)
    if way == "manifest":
        await store.put_manifest(sample.manifest, "v2")
    elif way == "blob":
        await push_blob(LayoutRepository(store), sample.manifest.descriptor, sample.manifest.raw)
    else:
        origin = await LayoutStore.open(tmp_path / "origin", create=True, durable=False)
        await push(LayoutRepository(origin), sample, "v1")
        assert await store.link(origin, sample.digest)
    abandon(store)
    again = await LayoutStore.open(path, create=True, durable=False)
    assert await again.blob_size(sample.digest) == sample.manifest.size
    assert again.tags() == (["v2"] if way == "manifest" else [])
    await again.close()
    assert read_layout(path).findings == []


async def test_deleting_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk too full for a new index.json keeps nobody from deleting blobs, or from opening what is there."""
    sample = images.image()
    store = await deleted(tmp_path, sample)

    def refuse(path: Path, *_parts: object, **_options: object) -> None:
        raise StorageFull(f"no space left at {path}")

    monkeypatch.setattr(files, "replace", refuse)
    for digest in sample.blobs:
        await store.delete_blob(digest)
        assert await store.blob_size(digest) is None
    abandon(store)
    again = await LayoutStore.open(tmp_path, create=True)
    assert again.tags() == []
    abandon(again)


async def test_deleted_and_pushed_again(tmp_path: Path) -> None:
    """A manifest that was deleted, and came back as the child of an index, survives the next opening."""
    sample = images.index()
    child = sample.children[0]
    store = await LayoutStore.open(tmp_path, create=True, durable=False)
    await store.put_manifest(child)
    await store.delete_manifest(child.digest)
    for manifest in sample.manifests:
        await store.put_manifest(manifest)
    abandon(store)
    again = await LayoutStore.open(tmp_path, create=True, durable=False)
    assert (await again.manifest(child.digest)).raw == child.raw


async def test_leftovers(tmp_path: Path) -> None:
    """Files that a killed writer left behind are removed by the next writer, and not by a reader."""
    store = await LayoutStore.open(tmp_path, create=True, durable=False)
    await store.close()
    leftover = tmp_path / ".syncer" / "tmp" / "blob.0123"
    leftover.write_bytes(b"half")
    reader = await LayoutStore.open(tmp_path)
    assert leftover.exists()
    await reader.put_manifest(images.image().manifest, "v1")
    assert not leftover.exists()


def test_nobody_writes_before_what_was_left_behind_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks begin to write at once: the second waits until the first has cleaned up, and loses no file to it."""
    ledger = Ledger(tmp_path / "layout", durable=False)
    ledger.create()
    ledger.close()
    open_journal = Journal.open
    second = Thread(target=ledger.begin)
    has_waited = []

    def open_slowly(journal: Journal) -> None:
        second.start()
        second.join(0.05)
        has_waited.append(second.is_alive())
        open_journal(journal)

    monkeypatch.setattr(Journal, "open", open_slowly)
    ledger.begin()
    second.join()
    ledger.close()
    assert has_waited == [True]


async def test_two_writers(tmp_path: Path) -> None:
    """A second writer is refused with the first one's process; it can read, and write when the first is done."""
    first = await LayoutStore.open(tmp_path, create=True, durable=False)
    second = await LayoutStore.open(tmp_path, durable=False)
    with pytest.raises(LayoutError, match=r"being written by process \d+"):
        await LayoutStore.open(tmp_path, create=True)
    with pytest.raises(LayoutError, match="being written"):
        await second.put_manifest(images.image().manifest, "v2")
    await first.put_manifest(images.image(seed=1).manifest, "v1")
    await first.close()
    assert second.tags() == []
    await second.put_manifest(images.image(seed=2).manifest, "v2")
    assert second.tags() == ["v1", "v2"]
    await second.close()
    assert (await LayoutStore.open(tmp_path)).tags() == ["v1", "v2"]


async def test_two_writers_of_a_tree(tmp_path: Path) -> None:
    """One process at a time writes to a tree, whichever of its repositories; others read."""
    first, second = LayoutTree(tmp_path, durable=False), LayoutTree(tmp_path, durable=False)
    store = await first.store("one", create=True)
    await store.put_manifest(images.image().manifest, "v1")
    with pytest.raises(LayoutError, match="being written"):
        await second.store("two", create=True)
    reading = await second.store("one")
    assert reading.tags() == ["v1"]
    with pytest.raises(LayoutError, match="being written"):
        await reading.delete_tag("v1")
    await first.close()
    await reading.delete_tag("v1")
    await second.close()


async def _kill_after(process: Process, count: int) -> int:
    """Kill the writer when it has acknowledged ``count`` pushes; return how many it acknowledged in the end."""
    assert process.stdout is not None
    text = b""
    while text.count(b"\n") < count:
        text += await process.stdout.receive()
    process.send_signal(signal.SIGKILL)
    async for more in process.stdout:
        text += more
    await process.wait()
    return text.count(b"\n")


async def test_kill(tmp_path: Path) -> None:
    """After kill -9 every push that was acknowledged is there, whole."""
    path = tmp_path / "layout"
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", _WRITER, str(path)]
    async with await anyio.open_process(command, cwd=root, env={"PYTHONPATH": str(root)}) as process:
        acknowledged = await _kill_after(process, 30)
    store = await LayoutStore.open(path, create=True)
    assert len(store.tags()) in (acknowledged, acknowledged + 1)
    for at in range(acknowledged):
        assert (await store.manifest(f"v{at}")).digest == images.image(layers=0, seed=at).digest
    await store.close()


async def test_a_journal_without_line_ends(tmp_path: Path) -> None:
    """A line that is longer than any change is not read to its end, which a hole may put terabytes away."""
    store = await LayoutStore.open(tmp_path, create=True, durable=False)
    await store.close()
    with journal(tmp_path).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LayoutError, match=r"journal:1 is over 67108864 bytes"):
        await LayoutStore.open(tmp_path)
