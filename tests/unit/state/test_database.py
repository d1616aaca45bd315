"""What SQLite and the system complain of, in our words."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING

import aiosqlite
import pytest

from syncer.errors import StateError, StateFailed, StateLocked, StorageFull, SyncerError
from syncer.state import StateStore
from syncer.state.database import translated

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    Notebook = Any


def of_code(code: int) -> sqlite3.OperationalError:
    """Return the error that SQLite raises with a result code."""
    error = sqlite3.OperationalError("words of SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (of_code(sqlite3.SQLITE_FULL), StorageFull, "no space"),
        (of_code(sqlite3.SQLITE_IOERR_SHMSIZE), StorageFull, "no space"),
        (OSError(errno.ENOSPC, "No space left on device"), StorageFull, "no space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageFull, "no space"),
        (OSError(errno.EMFILE, "Too many open files"), StateFailed, "too many open files"),
        (of_code(sqlite3.SQLITE_CORRUPT_VTAB), StateFailed, "damaged"),
        (of_code(sqlite3.SQLITE_NOTADB), StateFailed, "damaged"),
        (of_code(sqlite3.SQLITE_READONLY_DIRECTORY), StateError, "opened for writing"),
        (of_code(sqlite3.SQLITE_CANTOPEN), StateError, "opened for writing"),
        (of_code(sqlite3.SQLITE_BUSY_SNAPSHOT), StateLocked, "another program"),
        (of_code(sqlite3.SQLITE_IOERR_READ), StateFailed, "words of SQLite"),
        (sqlite3.ProgrammingError("odd"), StateFailed, "odd"),
        (OSError(errno.EACCES, "Permission denied"), StateError, "Permission denied"),
    ],
)
def test_foreign_errors_are_translated(path: Path, error: Exception, kind: type[SyncerError], words: str) -> None:
    """Each error of SQLite or the system becomes one of ours, with the file's name and a hint."""
    with pytest.raises(SyncerError, match=words) as caught, translated(path):
        raise error
    assert type(caught.value) is kind
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("failing", [1, 2])
async def test_a_failed_opening_leaves_nothing_behind(
    path: Path, notebook: Notebook, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """When a connection cannot be made, the others are closed, the lock is free, and the next opening works."""
    connect, calls = aiosqlite.connect, 0

    def failing_connect(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return connect(path / "nowhere" if calls == failing else args[0], **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(aiosqlite, "connect", failing_connect)
        with pytest.raises(StateError, match="opened for writing"):
            async with StateStore.open(path, observer=notebook):
                pass
    async with StateStore.open(path, observer=notebook) as store:
        assert await store.runs() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_of_somebody_else_is_not_for_reading(path: Path, notebook: Notebook) -> None:
    """Who may not read the file is told that, and not that it cannot be written."""
    async with StateStore.open(path, observer=notebook):
        pass
    path.chmod(0)  # noqa: ASYNC240 - a test may touch its files
    with pytest.raises(StateError, match="may not be read"):
        async with StateStore.read(path):
            pass


async def test_an_older_file_is_not_read_wrongly(path: Path) -> None:
    """A reader cannot bring a file up to date, and says who can."""
    path.write_bytes(b"")  # noqa: ASYNC240 - a test may touch its files
    with pytest.raises(StateError, match="version 0") as caught:
        async with StateStore.read(path):
            pass
    assert "syncer run" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
async def test_a_read_only_folder_can_be_looked_at(path: Path, notebook: Notebook) -> None:
    """Status works for a user who may read the file and not write beside it; a run says what is missing."""
    async with StateStore.open(path, observer=notebook) as store:
        run = await store.begin_run("spec.yaml")
    path.with_name(f"{path.name}.lock").unlink()
    path.parent.chmod(0o555)
    try:
        async with StateStore.read(path) as store:
            assert [known.run for known in await store.runs()] == [run]
        with pytest.raises(StateError, match="Permission denied"):
            async with StateStore.open(path, observer=notebook):
                pass
    finally:
        path.parent.chmod(0o755)


def test_words_that_are_no_text_are_damage(tmp_path: Path) -> None:
    """What SQLite says of a damaged file may hold bytes of it, which Python cannot read."""
    with pytest.raises(StateFailed, match="is damaged"), translated(tmp_path / "state.db"):
        b"\xff".decode()
