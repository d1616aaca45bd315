"""OCI archives."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from syncer import content
from syncer.content import BlobOutcome
from syncer.errors import LayoutError, NotFound, SizeMismatch, StorageFull
from syncer.layout import files
from syncer.layout.archive import ArchiveSource
from syncer.layout.archive_target import ArchiveTarget
from syncer.oci import Descriptor, Digest
from tests.fuzz.archives import member, records, sized
from tests.support import images
from tests.support.transfer import check, chunks_of, opener_of, push, push_blob

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.images import Sample


async def written(path: Path, sample: Sample, tag: str = "v1") -> None:
    """Write an archive of one image."""
    async with await ArchiveTarget.open(path, durable=False) as target:
        await push(target, sample, tag)


def beside(path: Path) -> list[str]:
    """Return the names in a directory."""
    return [entry.name for entry in path.iterdir()]


def names(path: Path) -> list[str]:
    """Return the names of the members of a tar."""
    with tarfile.open(path, "r:") as tar:
        return tar.getnames()


async def test_protocols(tmp_path: Path) -> None:
    """An archive is a target while it is written, and a source with referrers when it is read."""
    async with await ArchiveTarget.open(tmp_path / "a.tar") as target:
        assert isinstance(target, content.Target)
        await push(target, images.image(), "v1")
    async with await ArchiveSource.open(tmp_path / "a.tar") as source:
        assert isinstance(source, content.Source)
        assert isinstance(source, content.ReferrerLister)


async def test_a_tar_like_any_other(tmp_path: Path) -> None:
    """The archive is a whole tar, and unpacks to a valid layout whose index.json lists the image only."""
    sample = images.index()
    await written(tmp_path / "a.tar", sample)
    with tarfile.open(tmp_path / "a.tar", "r:") as tar:
        tar.extractall(tmp_path / "out")  # noqa: S202 - our own archive; 3.11.2 has no filter yet
    members = names(tmp_path / "a.tar")
    assert (members[0], members[-1]) == ("oci-layout", "index.json")
    assert (tmp_path / "a.tar").stat().st_size % tarfile.RECORDSIZE == 0
    entries = json.loads((tmp_path / "out" / "index.json").read_bytes())["manifests"]
    assert [entry["digest"] for entry in entries] == [sample.digest]
    for digest, data in sample.blobs.items():
        assert (tmp_path / "out" / "blobs" / "sha256" / digest.encoded).read_bytes() == data


async def test_the_same_bytes_again(tmp_path: Path) -> None:
    """The same content written in the same order is the same archive, byte for byte."""
    for name in ("a.tar", "b.tar"):
        await written(tmp_path / name, images.image())
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


async def test_replacing(tmp_path: Path) -> None:
    """An archive that exists stays readable until the new one is whole, and is replaced then, not merged with."""
    path = tmp_path / "a.tar"
    old, new = images.image(seed="old"), images.image(seed="new")
    await written(path, old, "old")
    async with await ArchiveTarget.open(path, durable=False) as target:
        await push(target, new, "new")
        async with await ArchiveSource.open(path) as source:
            await check(source, old, "old")
    async with await ArchiveSource.open(path) as source:
        assert [tag async for tag in source.tags()] == ["new"]
        await check(source, new, "")


async def test_giving_up(tmp_path: Path) -> None:
    """An error while writing leaves what was there before, and no other file."""
    path = tmp_path / "a.tar"
    await written(path, images.image())
    before = path.read_bytes()
    with pytest.raises(NotFound):
        async with await ArchiveTarget.open(path) as target:
            await push(target, images.image(seed="new"), "v2")
            raise NotFound
    async with await ArchiveTarget.open(path):
        pass  # nothing was pushed: an empty archive does not replace a good one
    assert path.read_bytes() == before
    assert beside(tmp_path) == ["a.tar"]


async def test_leftovers(tmp_path: Path) -> None:
    """What a killed writer left behind goes with the next writer; what somebody is writing, or made, stays."""
    path = tmp_path / "a.tar"
    for name in ("a.tar.tmp-0123456789ab", "a.tar.tmp-mine", "other.tar.tmp-0123456789ab"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "a.tar.tmp-ba9876543210").symlink_to(tmp_path / "a.tar.tmp-mine")
    async with await ArchiveTarget.open(path, durable=False) as target:
        await written(path, images.image(seed=1))
        await push(target, images.image(seed=2), "v1")
    async with await ArchiveSource.open(path) as source:
        assert (await source.resolve("v1")).digest == images.image(seed=2).digest
    kept = ["a.tar", "a.tar.tmp-ba9876543210", "a.tar.tmp-mine", "other.tar.tmp-0123456789ab"]
    assert sorted(beside(tmp_path)) == kept


async def test_taken_for_a_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer whose file was removed, or held, before it could be locked begins another one."""
    lock, calls = files.lock_now, 0

    def late(handle: int) -> bool | None:
        nonlocal calls
        calls += 1
        if calls == 1:
            for path in tmp_path.iterdir():
                path.unlink()
        return False if calls == 2 else lock(handle)

    monkeypatch.setattr(files, "lock_now", late)
    await written(tmp_path / "a.tar", images.image())
    assert calls == 3
    async with await ArchiveSource.open(tmp_path / "a.tar") as source:
        assert (await source.resolve("v1")).digest == images.image().digest


async def test_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has no locks, archives are written, and nothing that may be another writer's is removed."""

    def refuse(_handle: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / "a.tar.tmp-0123456789ab").write_bytes(b"half")
    await written(tmp_path / "a.tar", images.image())
    assert sorted(beside(tmp_path)) == ["a.tar", "a.tar.tmp-0123456789ab"]


async def test_failed_blobs_leave_room(tmp_path: Path) -> None:
    """What a failed blob took is used by the next of its length, cut off at the end, or passed over by readers."""
    path = tmp_path / "a.tar"
    sample = images.image(layers=1, size=3000)
    lost, tail = images.blob(b"l" * 5000), images.blob(b"t" * 9000)
    config, layer = sample.manifest.blobs()
    async with await ArchiveTarget.open(path) as target:

        async def fail(blob: Descriptor) -> None:
            session = await target.begin_blob(blob)
            assert not isinstance(session, BlobOutcome)
            with pytest.raises(SizeMismatch):
                await session.send(opener_of(b"x", blob))

        await fail(lost)
        await fail(layer)
        await push_blob(target, config, sample.blobs[config.digest])
        await push_blob(target, layer, sample.blobs[layer.digest])
        await target.push_manifest(sample.manifest, "v1")
        await fail(tail)
    async with await ArchiveSource.open(path) as source:
        await check(source, sample, "v1")
        with pytest.raises(NotFound):
            async with source.fetch_blob(lost):
                pass
    digests = [layer.digest.encoded, config.digest.encoded, sample.digest.encoded]
    assert [name.rpartition("/")[2] for name in names(path)][2:-1] == digests
    assert [name for name in names(path) if name.startswith(".syncer/")] == [".syncer/void-1024"]


async def test_open_blobs_at_the_end(tmp_path: Path) -> None:
    """An archive is not finished over a blob that is still on its way."""
    target = await ArchiveTarget.open(tmp_path / "a.tar")
    await push(target, images.image(), "v1")
    target.reserve(Digest.of(b"x"), 1)
    with pytest.raises(LayoutError, match="still being written"):
        await target.close()
    assert not beside(tmp_path)


async def test_sha512(tmp_path: Path) -> None:
    """A name that does not fit a tar header is written in full."""
    path = tmp_path / "a.tar"
    blob = Descriptor(media_type="", digest=Digest.of(b"data", "sha512"), size=4)
    async with await ArchiveTarget.open(path) as target:
        await push_blob(target, blob, b"data")
        await push(target, images.image(), "v1")
    async with await ArchiveSource.open(path) as source, source.fetch_blob(blob) as chunks:
        assert [chunk async for chunk in chunks] == [b"data"]


@pytest.mark.parametrize("size", [8 * 1024**3, 100 * 1024**3])
async def test_huge_blobs(tmp_path: Path, size: int) -> None:
    """Blobs over eight gibibytes, which the old tar header cannot say, have their room."""
    target = await ArchiveTarget.open(tmp_path / "a.tar", durable=False)
    huge = target.reserve(Digest.of(b"huge"), size)
    await push(target, images.image(), "v1")
    huge.finish([])
    target.settle(huge)
    await target.release(huge)
    await target.close()
    async with await ArchiveSource.open(tmp_path / "a.tar") as source:
        await check(source, images.image(), "v1")
        assert source._members[Digest.of(b"huge")][1] == size


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is StorageFull with the bytes needed, and leaves nothing."""

    def refuse(*_args: object) -> int:
        raise OSError(122, "Disk quota exceeded")

    data = images.random_bytes(10_000)
    target = await ArchiveTarget.open(tmp_path / "a.tar")
    session = await target.begin_blob(images.blob(data))
    assert not isinstance(session, BlobOutcome)
    monkeypatch.setattr(files, "write_all", refuse)
    with pytest.raises(StorageFull, match="10000 bytes"):
        await session.send(opener_of(data, images.blob(data)))
    await target.abort()
    assert not beside(tmp_path)


async def test_no_place_to_write(tmp_path: Path) -> None:
    """A directory, or a place in one that does not exist, is refused at once."""
    for path in (tmp_path, tmp_path / "none" / "a.tar"):
        with pytest.raises(LayoutError):
            await ArchiveTarget.open(path)


@pytest.mark.parametrize("is_linked", [False, True])
async def test_what_is_no_file_is_left_alone(tmp_path: Path, *, is_linked: bool) -> None:
    """A device or pipe (/dev/stdout) is neither replaced by an archive nor waited for, whatever leads to it."""
    pipe, path = tmp_path / "pipe", tmp_path / "a.tar"
    os.mkfifo(pipe)
    if is_linked:
        path.symlink_to(pipe)
    else:
        path = pipe
    before = beside(tmp_path)
    for opened in (ArchiveTarget.open, ArchiveSource.open):
        with pytest.raises(LayoutError, match="is no file"):
            await opened(path)
    assert beside(tmp_path) == before
    assert stat.S_ISFIFO(path.stat().st_mode)


async def test_a_link_stays_one(tmp_path: Path) -> None:
    """What a link leads to is replaced, where it is."""
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "a.tar", tmp_path / "link.tar"
    link.symlink_to(file)
    for seed in range(2):
        await written(link, images.image(seed=seed))
        assert beside(file.parent) == ["a.tar"]
    assert link.is_symlink()
    async with await ArchiveSource.open(file) as source:
        await check(source, images.image(seed=1), "")


async def test_closed(tmp_path: Path) -> None:
    """What is closed says so; a blob that is being read goes on."""
    path = tmp_path / "a.tar"
    sample = images.image(layers=1, size=3_000_000)
    await written(path, sample)
    source = await ArchiveSource.open(path)
    layer = sample.manifest.layers[0]
    async with source.fetch_blob(layer) as chunks:
        await source.close()
        await source.close()
        assert b"".join([chunk async for chunk in chunks]) == sample.blobs[layer.digest]
    with pytest.raises(LayoutError, match="closed"):
        async with source.fetch_blob(layer):
            pass
    target = await ArchiveTarget.open(tmp_path / "b.tar")
    await target.abort()
    with pytest.raises(LayoutError, match="closed"):
        await push(target, sample, "v1")


# -------------------------------------------------------------------- archives of others


def pack(members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> bytes:
    """Return a tar of ``members``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]  # the mode is a parameter
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def layout_members(sample: Sample, prefix: str = "") -> list[tuple[tarfile.TarInfo, bytes]]:
    """Return the members of an archive of one image without a tag."""
    contents = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [sample.manifest.descriptor.to_json()]}).encode(),
    }
    for digest, data in (*sample.blobs.items(), *((item.digest, item.raw) for item in sample.manifests)):
        contents[f"blobs/sha256/{digest.encoded}"] = data
    return [(tarfile.TarInfo(f"{prefix}{name}"), data) for name, data in contents.items()]


@pytest.mark.parametrize("prefix", ["", "./"])
async def test_other_tars(tmp_path: Path, prefix: str) -> None:
    """Names with a leading dot, directories, links and strange files do no harm."""
    sample = images.image()
    link = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    folder = tarfile.TarInfo("blobs")
    folder.type = tarfile.DIRTYPE
    strange = tarfile.TarInfo("blobs/sha256/../../../etc/passwd")
    members = [(folder, b""), (link, b""), (strange, b"x"), *layout_members(sample, prefix)]
    (tmp_path / "a.tar").write_bytes(pack(members))
    async with await ArchiveSource.open(tmp_path / "a.tar") as source:
        await check(source, sample, "")
        assert len(source._members) == len(sample.blobs) + 1


@pytest.mark.parametrize(
    ("name", "head"),
    [("gzip", b"\x1f\x8b\x08"), ("zstd", b"\x28\xb5\x2f\xfd"), ("xz", b"\xfd7zXZ\0"), ("bzip2", b"BZh9")],
    ids=["gzip", "zstd", "xz", "bzip2"],
)
async def test_compressed(tmp_path: Path, name: str, head: bytes) -> None:
    """A compressed archive is refused with what to do."""
    (tmp_path / "a.tar").write_bytes(head)
    with pytest.raises(LayoutError, match=name) as caught:
        await ArchiveSource.open(tmp_path / "a.tar")
    assert "ecompress" in caught.value.hint


async def test_damaged(tmp_path: Path) -> None:
    """An archive that is cut off, is none, or lacks the layout's files is a LayoutError; an absent one NotFound."""
    path = tmp_path / "a.tar"
    whole = pack(layout_members(images.image(layers=1, size=50_000)))
    texts = [
        whole[:30_000],
        b"no tar at all" * 100,
        b"",
        pack(layout_members(images.image())[1:]),
        pack(layout_members(images.image())[:1]),
    ]
    for text in texts:
        path.write_bytes(text)
        with pytest.raises(LayoutError):
            await ArchiveSource.open(path)
    with pytest.raises(NotFound):
        await ArchiveSource.open(tmp_path / "none.tar")


def chained(kind: bytes, count: int) -> bytes:
    """Return headers of names that are names of names."""
    return member("././@LongLink", b"index.json\0", kind) * count


_SPARSE = ("GNU.sparse.major=1", "GNU.sparse.minor=0")


@pytest.mark.parametrize(
    "headers",
    [
        member("pax", records("GNU.sparse.map=0,x"), b"x") + member("index.json"),
        member("pax", records(*_SPARSE), b"x") + member("index.json", b"x\n"),
        member("pax", records(*_SPARSE), b"x") + member("index.json", b"9999999\n"),
        chained(b"L", 600),
        chained(b"K", 600),
        sized("x", b"\xff" * 12),
        sized("x", b"\xff" * 10 + b"\xfe\0"),
        member("pax", records("size=-1024"), b"x") + member("x"),
    ],
    ids=["map", "fields", "count", "long names", "long links", "-1", "-512", "pax size"],
)
@pytest.mark.parametrize("first", [b"", member("a file")], ids=["first", "second"])
async def test_headers_that_make_no_sense(tmp_path: Path, first: bytes, headers: bytes) -> None:
    """What the headers of an archive say is not believed: there is no way back, and no name without an end."""
    file = tmp_path / "a.tar"
    file.write_bytes(first + headers + pack(layout_members(images.image())))
    with pytest.raises(LayoutError, match="is damaged"):
        await ArchiveSource.open(file)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
async def test_names_of_gigabytes(tmp_path: Path, kind: bytes) -> None:
    """Names and attributes are not read into memory at whatever length their header gives them."""
    file = tmp_path / "a.tar"
    with file.open("wb") as archive:
        archive.write(sized("name", b"02000000000\0", kind))
        archive.truncate(2**29)
    with pytest.raises(LayoutError, match="headers of a member are over 4194304 bytes"):
        await ArchiveSource.open(file)


async def test_chunks(tmp_path: Path) -> None:
    """A blob's bytes end where it ends, not where the file does."""
    path = tmp_path / "a.tar"
    sample = images.image(layers=2, size=700)
    await written(path, sample)
    async with await ArchiveSource.open(path) as source:
        for blob in sample.descriptors():
            async with source.fetch_blob(blob) as chunks:
                assert [chunk async for chunk in chunks] == [c async for c in chunks_of(sample.blobs[blob.digest])]
