"""Upload sessions on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from syncer.errors import DigestMismatch, NotFound
from syncer.oci import Digest
from syncer.server.sessions import UploadSessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def sessions(folder: Path, *, durable: bool = False) -> UploadSessions:
    """Return sessions that wait for nobody."""
    return UploadSessions(folder, durable=durable, lifetime=3600, patience=0.001)


async def chunks(*batches: list[bytes]) -> AsyncIterator[list[bytes]]:
    """Give batches."""
    for batch in batches:
        yield batch


def alive() -> bool:
    """Say that the client has not gone."""
    return False


@pytest.mark.parametrize("durable", [True, False])
async def test_bytes_and_hash(tmp_path: Path, *, durable: bool) -> None:
    """What is received is in the file, and its hash is known without reading it."""
    kept = sessions(tmp_path / "uploads", durable=durable)
    opened = await kept.open("a")
    async with kept.hold("a", opened.identifier, alive) as session:
        await kept.receive(session, chunks([b"one", b"two"], [b"three"]), limit=None, exactly=11)
        await kept.secure(session)
        assert (session.offset, session.path.read_bytes()) == (11, b"onetwothree")
        assert session.hasher is not None
        assert session.hasher.hexdigest() == Digest.of(b"onetwothree").encoded
        await kept.verify(session, Digest.of(b"onetwothree", "sha512"))


async def test_leftovers_after_the_offset_are_written_over(tmp_path: Path) -> None:
    """Bytes behind the offset, which nobody was told of, do no harm while the process lives."""
    kept = sessions(tmp_path)
    session = await kept.open("a")
    session.path.write_bytes(b"garbage")
    async with kept.hold("a", session.identifier, alive):
        await kept.receive(session, chunks([b"clean bytes"]), limit=None, exactly=None)
        assert session.path.read_bytes() == b"clean bytes"


@pytest.mark.parametrize(("offset", "right"), [(-3, False), (3, True)])
async def test_the_file_is_as_long_as_the_session(tmp_path: Path, offset: int, *, right: bool) -> None:
    """What is committed is exactly what was hashed: more in the file is cut off, less is a wrong digest."""
    kept = sessions(tmp_path)
    session = await kept.open("a")
    async with kept.hold("a", session.identifier, alive):
        await kept.receive(session, chunks([b"twelve bytes"]), limit=None, exactly=None)
        os.truncate(session.path, 12 + offset)
        try:
            await kept.verify(session, Digest.of(b"twelve bytes"))
        except DigestMismatch:
            assert not right
        else:
            assert right
            assert session.path.read_bytes() == b"twelve bytes"


async def test_memory_is_bounded_and_files_are_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many sessions are remembered; one that fell out is found by its file, with its bytes."""
    monkeypatch.setattr("syncer.server.sessions._REMEMBERED", 3)
    kept = sessions(tmp_path)
    first = await kept.open("a")
    async with kept.hold("a", first.identifier, alive) as session:
        await kept.receive(session, chunks([b"bytes"]), limit=None, exactly=None)
    for _ in range(10):
        await kept.open("a")
    assert len(kept._sessions) == 3
    async with kept.hold("a", first.identifier, alive) as again:
        assert (again is first, again.offset, again.hasher) == (False, 5, None)
        await kept.receive(again, chunks([b"more"]), limit=None, exactly=None)
        await kept.verify(again, Digest.of(b"bytesmore"))


async def test_expired_under_the_writer(tmp_path: Path) -> None:
    """A session whose file is gone is a session that is gone."""
    kept = sessions(tmp_path)
    session = await kept.open("a")
    session.path.unlink()
    with pytest.raises(NotFound):
        async with kept.hold("a", session.identifier, alive):
            await kept.receive(session, chunks([b"x"]), limit=None, exactly=None)
    with pytest.raises(NotFound):
        await kept.find("a", session.identifier)


async def test_wrong_digest_drops(tmp_path: Path) -> None:
    """A session with the wrong bytes is removed."""
    kept = sessions(tmp_path)
    opened = await kept.open("a")
    async with kept.hold("a", opened.identifier, alive) as session:
        with pytest.raises(DigestMismatch):
            await kept.verify(session, Digest.of(b"other"))
    assert not opened.path.exists()


async def test_purge_leaves_what_is_held(tmp_path: Path) -> None:
    """A session in use is not purged, however old its file; an idle one is; no folder is no session."""
    assert await sessions(tmp_path / "none").purge() == 0
    kept = UploadSessions(tmp_path, durable=False, lifetime=-3600, patience=0.001)
    held, idle = await kept.open("a"), await kept.open("a")
    async with kept.hold("a", held.identifier, alive):
        assert await kept.purge() == 1
        assert (held.path.exists(), idle.path.exists()) == (True, False)
