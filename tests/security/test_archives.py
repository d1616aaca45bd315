"""Archives from strangers: nothing of them is unpacked, whatever their members say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from syncer.errors import LayoutError, SyncerError
from syncer.layout.archive import ArchiveSource
from syncer.layout.store import LayoutStore
from syncer.oci import Descriptor, Digest
from tests.security.folders import SECRET, hostile_archive, image_of, layout
from tests.support.transfer import read_blob

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("letter", ["b", "c", "d"])
async def test_links_and_devices_of_an_archive_are_no_blobs(tmp_path: Path, letter: str) -> None:
    """A member that is a link or a device gives nothing, and no file appears beside the archive (S10)."""
    file, secret = tmp_path / "play" / "evil.tar", tmp_path / "play" / "home" / "secret"

    def make() -> None:
        secret.parent.mkdir(parents=True)
        secret.write_bytes(SECRET[:1000])
        hostile_archive(file, image_of(f"sha256:{letter * 64}", 1000))

    await to_thread.run_sync(make)
    async with await ArchiveSource.open(file) as source:
        manifest = await source.fetch_manifest("")
        with pytest.raises(SyncerError):
            await read_blob(source, manifest.layers[0])
        for name in (letter * 64, Digest.of(SECRET[:1000]).encoded):
            with pytest.raises(SyncerError):
                await read_blob(source, Descriptor(media_type="x", digest=Digest(f"sha256:{name}"), size=1000))
    found = await to_thread.run_sync(lambda: sorted(path.name for path in tmp_path.rglob("*") if path.is_file()))
    assert found == ["evil.tar", "secret"]


async def test_a_pipe_in_place_of_a_blob_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into the pipe, and the reader does not wait for it (S10)."""
    name = "a" * 64

    def make() -> None:
        layout(tmp_path / "app", image_of(f"sha256:{name}", 100), {})
        os.mkfifo(tmp_path / "app" / "blobs" / "sha256" / name)

    await to_thread.run_sync(make)
    store = await LayoutStore.open(tmp_path / "app")
    with anyio.fail_after(5), pytest.raises(LayoutError):
        async with store.read_blob(Digest(f"sha256:{name}")):
            pass
