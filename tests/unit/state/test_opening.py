"""Opening the state file: new, old, locked, damaged, or not ours at all."""

# ruff: noqa: ASYNC240 - a test may touch its files; what syncer/ does on the loop is guarded

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from syncer.errors import SchemaTooNew, StateError, StateLocked
from syncer.events import Notice, RunStatus, TagOutcome
from syncer.oci.digest import Digest
from syncer.plan.records import TagRecord
from syncer.state import StateStore
from syncer.state.lock import FileLock
from syncer.state.schema import APPLICATION_ID, migrate
from syncer.state.statements import read_migrations

if TYPE_CHECKING:
    from typing import Any

    Notebook = Any

VERSION_1 = Path(__file__).with_name("version1.sql")


def record(number: int) -> TagRecord:
    """Return the record of one of many tags."""
    return TagRecord(
        run="run",
        entry="entry",
        source="s.io/a",
        target="t.io/a",
        tag=f"v{number}",
        outcome=TagOutcome.COPIED,
        source_digest=Digest.of(b"1"),
        at=1.0,
    )


async def fill(path: Path, notebook: Notebook) -> None:
    """Write a state file of some thirty pages."""
    async with StateStore.open(path, observer=notebook) as store:
        for number in range(1000):
            await store.record_tag(record(number))


async def is_fresh(path: Path, notebook: Notebook) -> bool:
    """Open the file, and tell whether it holds nothing; a record must go in and come out again."""
    async with StateStore.open(path, observer=notebook, clock=lambda: 0.0) as store:
        found = await store.tags("t.io/a")
        await store.record_tag(record(5000))
        await store.flush()
        assert len(await store.tags("t.io/a")) == len(found) + 1
        return not found


def assert_latest(path: Path) -> None:
    """Check that the file has the latest schema."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (read_migrations()[-1].version,)


def make_version_3(path: Path) -> None:
    """Write a file as it was before unfinished uploads were remembered."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, 0, read_migrations()[:3])
        connection.execute("INSERT INTO challenges VALUES ('https://t.io', 'a', 'https://auth.t.io', 't.io')")


async def test_folders_are_made(tmp_path: Path, notebook: Notebook) -> None:
    """A state file in a folder that does not exist yet is no error."""
    path = tmp_path / "var" / "lib" / "syncer.db"
    assert await is_fresh(path, notebook)
    assert {entry.name for entry in path.parent.iterdir()} == {"syncer.db", "syncer.db.lock"}


async def test_a_second_store_is_refused(path: Path, notebook: Notebook) -> None:
    """The file is open once at a time, under whatever name; then the next may have it."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with StateStore.open(path, observer=notebook):
        for name in (path, link):
            with pytest.raises(StateLocked, match=f"process {os.getpid()}") as caught:
                async with StateStore.open(name, observer=notebook):
                    pass
            assert caught.value.hint
    assert await is_fresh(link, notebook)


async def test_reading_needs_no_lock(path: Path, notebook: Notebook) -> None:
    """A reader sees what is written while a run goes on writing, several readers at once."""
    async with StateStore.open(path, observer=notebook) as store:
        async with StateStore.read(path) as reader, StateStore.read(path) as other:
            for number in range(3):
                await store.record_tag(record(number))
                await store.flush()
                assert len(await reader.tags("t.io/a")) == number + 1
                assert (await other.summary())[0].tags == number + 1
        await store.record_tag(record(9))
    assert not path.with_name(f"{path.name}-wal").exists()


async def test_reading_what_is_not_there(path: Path, tmp_path: Path) -> None:
    """A missing file is a typed error that makes no file, and so is a folder."""
    for name, text in ((path, "no state file"), (tmp_path, "is a directory")):
        with pytest.raises(StateError, match=text):
            async with StateStore.read(name):
                pass
    assert list(tmp_path.iterdir()) == []


async def test_reading_a_damaged_file(path: Path) -> None:
    """A reader does not mend: it says what is the matter and leaves the file as it is."""
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StateError, match="damaged"):
        async with StateStore.read(path):
            pass
    assert path.read_bytes() == b"nonsense" * 1000


async def test_an_empty_file_is_a_new_one(path: Path, notebook: Notebook) -> None:
    """A file of no bytes is begun, without a word."""
    path.touch()
    assert await is_fresh(path, notebook)
    assert notebook.events == []


async def test_garbage_is_set_aside(path: Path, notebook: Notebook) -> None:
    """What is no database is kept under another name, told of once, and a new file is begun."""
    path.write_bytes(b"version: 1\nsync: []\n" * 50)
    assert await is_fresh(path, notebook)
    aside = path.with_name("syncer.db.corrupt-19700101T000000Z")
    assert aside.read_bytes() == b"version: 1\nsync: []\n" * 50
    (notice,) = notebook.events
    assert isinstance(notice, Notice)
    assert notice.where == str(path)
    assert str(aside) in notice.text


async def test_two_damaged_files_of_one_second_are_both_kept(path: Path, notebook: Notebook) -> None:
    """Setting a file aside never overwrites another that was set aside."""
    for content in (b"one", b"two"):
        path.write_bytes(content * 1000)
        assert await is_fresh(path, notebook)
    name = "syncer.db.corrupt-19700101T000000Z"
    assert path.with_name(name).read_bytes() == b"one" * 1000
    assert path.with_name(f"{name}-2").read_bytes() == b"two" * 1000


async def test_the_log_goes_with_a_damaged_file(path: Path, notebook: Notebook) -> None:
    """While somebody reads a damaged file its log stays in use; the new file does not inherit it."""
    await fill(path, notebook)
    async with StateStore.read(path) as reader:
        assert len(await reader.tags("t.io/a")) == 1000
        with path.open("r+b") as file:
            file.seek(2 * 4096)
            file.write(b"\xa5" * 4096)
        assert await is_fresh(path, notebook)
        assert path.with_name("syncer.db.corrupt-19700101T000000Z-wal").exists()
    async with StateStore.open(path, observer=notebook) as store:
        assert list(await store.tags("t.io/a")) == ["v5000"]


@pytest.mark.parametrize("part", [99, 100, 511, 4095, 4096, 0.1, 0.33, 0.5, 0.77, 0.97])
async def test_a_truncated_file_is_set_aside(path: Path, notebook: Notebook, part: float) -> None:
    """Wherever the file ends, opening it succeeds, with everything or with nothing."""
    await fill(path, notebook)
    size = path.stat().st_size
    os.truncate(path, int(part if part >= 1 else size * part))
    assert await is_fresh(path, notebook)
    assert len(notebook.events) == 1


@pytest.mark.parametrize("page", [0, 1, 2, 5, 9])
async def test_a_page_of_noise_is_found(path: Path, notebook: Notebook, page: int) -> None:
    """A page overwritten in the middle of the file does not become a wrong answer."""
    await fill(path, notebook)
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xa5" * 4096)
    assert await is_fresh(path, notebook)
    assert len(notebook.events) == 1


@pytest.mark.parametrize("mark", ["PRAGMA user_version = 7", "CREATE TABLE invoices (x)", "PRAGMA application_id = 5"])
async def test_another_programs_database_is_left_alone(path: Path, notebook: Notebook, mark: str) -> None:
    """A sound database that is not Syncer's is neither used nor set aside."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(mark)
        connection.execute("VACUUM")
    before = path.read_bytes()
    for way in (StateStore.open(path, observer=notebook), StateStore.read(path)):
        with pytest.raises(StateError, match="another program"):
            async with way:
                pass
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused(path: Path, notebook: Notebook) -> None:
    """A file of a newer Syncer is left as it is, for reading and for writing."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 999")
        connection.execute("VACUUM")
    for way in (StateStore.open(path, observer=notebook), StateStore.read(path)):
        with pytest.raises(SchemaTooNew, match="999") as caught:
            async with way:
                pass
        assert caught.value.hint
    async with StateStore.open(path.with_name("free.db"), observer=notebook):
        pass


async def test_a_file_of_version_1_is_brought_up_to_date(path: Path, notebook: Notebook) -> None:
    """A file written by the first release opens with everything in it; the text beside this test is such a file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(VERSION_1.read_text())
    async with StateStore.open(path, observer=notebook) as store:
        (run,) = await store.runs()
        assert (run.run, run.status, run.summary) == ("20260101T000000Z-00000000", RunStatus.DONE, {"copied": 1})
        ((tag, known),) = (await store.tags("t.io/a")).items()
        assert (tag, known.run, known.entry, known.source) == ("v1", run.run, "base", "s.io/a")
        assert (known.outcome, known.source_digest, known.target_digest) == ("copied", Digest.of(b"1"), None)
        assert await store.locate("t.io", [Digest.of(b"1")]) == {Digest.of(b"1"): ["a"]}
        assert await store.subset(Digest.of(b"1"), "linux/amd64") == Digest.of(b"2")
        await store.record_tag(record(1))
        await store.record_tag(replace(record(2), outcome=TagOutcome.DEFERRED))
    assert notebook.events == []
    await anyio.to_thread.run_sync(assert_latest, path)


async def test_a_file_of_version_3_keeps_what_it_has(path: Path, notebook: Notebook) -> None:
    """The step that adds unfinished uploads takes nothing away, and finds none in a file from before."""
    await anyio.to_thread.run_sync(make_version_3, path)
    async with StateStore.open(path, observer=notebook) as store:
        assert [one.prefix for one in await store.challenges()] == ["a"]
        assert await store.unfinished_uploads() == []
    assert notebook.events == []
    await anyio.to_thread.run_sync(assert_latest, path)


@pytest.mark.parametrize("before", [None, 0o644, 0o666])
async def test_nobody_else_may_read_the_file(path: Path, notebook: Notebook, before: int | None) -> None:
    """A new file, one of an older Syncer, and the log of either, can be read by their owner only."""
    if before is not None:
        path.touch()
        path.chmod(before)
    async with StateStore.open(path, observer=notebook) as store:
        await store.record_tag(record(1))
        await store.flush()
        modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.glob("syncer.db*")}
    del modes["syncer.db.lock"]
    assert modes == {"syncer.db": 0o600, "syncer.db-wal": 0o600, "syncer.db-shm": 0o600}


async def test_who_lets_others_read_it_is_not_overruled(path: Path, notebook: Notebook) -> None:
    """A mode that was set since, for who watches the state, outlives the next run."""
    async with StateStore.open(path, observer=notebook):
        pass
    path.chmod(0o640)
    async with StateStore.open(path, observer=notebook):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_another_programs_file_keeps_its_mode(path: Path, notebook: Notebook) -> None:
    """What is not Syncer's is left alone, its mode too."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE invoices (x)")
    path.chmod(0o644)
    with pytest.raises(StateError, match="another program"):
        async with StateStore.open(path, observer=notebook):
            pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


async def test_a_folder_in_place_of_the_file(tmp_path: Path, notebook: Notebook) -> None:
    """A path that is a folder, or goes through a file, is a typed error with a hint."""
    (tmp_path / "file").touch()
    for name in (tmp_path, tmp_path / "file" / "syncer.db"):
        with pytest.raises(StateError) as caught:
            async with StateStore.open(name, observer=notebook):
                pass
        assert caught.value.hint
        assert str(name) in caught.value.message


def test_a_look_at_the_lock_does_not_refuse_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks whether the lock is held has it for a moment, and a run that starts then waits that moment."""
    path = tmp_path / "state.db"
    FileLock.take(path).release()
    looking = os.open(tmp_path / "state.db.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("syncer.state.lock.time.sleep", lambda _seconds: fcntl.flock(looking, fcntl.LOCK_UN))
    lock = FileLock.take(path)
    assert FileLock.is_held(path)
    lock.release()
    assert not FileLock.is_held(path)
    assert not FileLock.is_held(tmp_path / "other.db")
    os.close(looking)
