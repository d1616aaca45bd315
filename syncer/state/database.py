"""The state file as an SQLite database: opened, checked, migrated, and its errors in our words."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiosqlite
import anyio
from anyio import to_thread

from syncer.errors import OUT_OF_FILES, LayoutError, StateError, StateFailed, StateLocked
from syncer.state.diagnosis import FULL, diagnosed, full, out_of_files
from syncer.state.lock import FileLock
from syncer.state.schema import is_sound, migrate, version_of
from syncer.state.statements import read_migrations, read_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from syncer.state.statements import Migration

#: Seconds to wait for a reader or a checkpoint of another process.
BUSY_TIMEOUT = 5.0
#: KiB of pages the writing connection keeps in memory.
CACHE = 8 * 1024
#: The state names private registries, repositories and open uploads.
_PRIVATE = 0o600
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REFUSED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
#: The file of shared memory could not grow: what a full disk looks like in WAL mode.
_SHM_SIZE = sqlite3.SQLITE_IOERR_SHMSIZE
#: It cannot be shared at all: a log (WAL mode) needs a file system whose files can be mapped into memory.
_NO_SHM = frozenset({sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMLOCK})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """A file that is ready for connections; ``notices`` are for a person."""

    path: Path
    lock: FileLock | None
    queries: Mapping[str, str]
    notices: tuple[str, ...] = ()


class Database:
    """Two connections to one file, one for reading and one for writing, or the first alone."""

    def __init__(self, prepared: Prepared, reader: aiosqlite.Connection, writer: aiosqlite.Connection | None) -> None:
        self.path = prepared.path
        self.queries = prepared.queries
        self.notices = prepared.notices
        self._lock = prepared.lock
        self._reader = reader
        self._writer = writer
        self._turn = anyio.Lock()
        self._open = True

    @classmethod
    async def open(cls, path: Path, *, clock: Callable[[], float]) -> Self:
        """Open the file for this process alone, made or mended as need be.

        Raises:
            StateLocked, SchemaTooNew, StateError, StorageFull: when it cannot be used.
        """
        # A connection that is given up half-way would be lost, and its thread with it.
        with anyio.CancelScope(shield=True):
            prepared = await to_thread.run_sync(_prepare, path, clock)
            opened: list[aiosqlite.Connection] = []
            try:
                with translated(prepared.path):
                    writer = await aiosqlite.connect(prepared.path, isolation_level=None)
                    opened.append(writer)
                    await _set(writer, synchronous="NORMAL", cache_size=-CACHE)
                    reader = await aiosqlite.connect(prepared.path, isolation_level=None)
                    opened.append(reader)
                    await _set(reader, query_only="ON")
            except BaseException as error:
                for connection in opened:
                    await connection.close()
                if prepared.lock:
                    await to_thread.run_sync(prepared.lock.release)
                if isinstance(error, StateError | LayoutError):
                    raise await to_thread.run_sync(diagnosed, error, prepared.path) from error.__cause__
                raise
        return cls(prepared, reader, writer)

    @classmethod
    async def read(cls, path: Path) -> Self:
        """Open the file for reading, beside the process that may be writing it.

        Raises:
            StateError: when it is not there or cannot be read.
            SchemaTooNew: when it was written by a newer version.
        """
        with anyio.CancelScope(shield=True):
            prepared, uri = await to_thread.run_sync(_prepare_reading, path)
            with translated(prepared.path):
                reader = await aiosqlite.connect(uri, uri=True, isolation_level=None)
                try:
                    await _set(reader)
                except BaseException:
                    await reader.close()
                    raise
        return cls(prepared, reader, None)

    async def is_held(self) -> bool:
        """Tell whether some process has the file open for writing."""
        return await to_thread.run_sync(FileLock.is_held, self.path)

    async def fetch(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the rows of a query.

        Raises:
            StateError: when the file cannot be read, or the database is closed.
        """
        if not self._open:
            raise StateError(f"the state file {self.path} is closed")
        try:
            with translated(self.path):
                return list(await self._reader.execute_fetchall(sql, parameters or {}))
        except (StateError, LayoutError) as error:
            # A connection opens the log when it is first read.
            raise await to_thread.run_sync(diagnosed, error, self.path) from error.__cause__

    async def write(
        self, steps: Iterable[tuple[str, Sequence[Mapping[str, Any]]]], *, is_durable: bool = False
    ) -> None:
        """Execute each statement for each of its rows, all in one transaction that is not cancelled.

        It outlives the process at once, and a power cut with ``is_durable``, or a little later.

        Raises:
            StorageFull: when there is no space left.
            StateError: when the file cannot be written, or the database is closed or for reading only.
        """
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if self._writer is None or not self._open:
                    raise StateError(
                        f"the state file {self.path} is {'open for reading only' if self._open else 'closed'}"
                    )
                try:
                    with translated(self.path):
                        if is_durable:
                            await _set(self._writer, synchronous="FULL")
                        await self._transact(self._writer, steps)
                        if is_durable:
                            await _set(self._writer, synchronous="NORMAL")
                except (StateError, LayoutError) as error:
                    raise await to_thread.run_sync(diagnosed, error, self.path) from error.__cause__

    async def close(self) -> None:
        """Close the connections, which folds the log into the file, and let go of the lock."""
        if not self._open:
            return
        async with self._turn:
            self._open = False
            try:
                with translated(self.path):
                    await self._reader.close()
                    if self._writer is not None:
                        await self._writer.close()
            finally:
                if self._lock is not None:
                    await to_thread.run_sync(self._lock.release)

    async def _transact(
        self, writer: aiosqlite.Connection, steps: Iterable[tuple[str, Sequence[Mapping[str, Any]]]]
    ) -> None:
        await writer.execute_fetchall("BEGIN IMMEDIATE")
        try:
            for sql, rows in steps:
                if rows:
                    await writer.executemany(sql, rows)
            await writer.commit()
        except BaseException:
            # Not of SQLite alone: text that cannot be encoded is refused half-way, too.
            with suppress(sqlite3.Error):
                await writer.rollback()
            raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn every error of SQLite, and of the system, into one of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error
    except UnicodeDecodeError:
        raise _damaged(path) from None
    except OSError as error:
        if error.errno in FULL:
            raise full(path) from None
        if error.errno in OUT_OF_FILES:
            raise out_of_files(path) from None
        raise StateError(
            f"the state file {path} cannot be used: {error.strerror}",
            hint="Check the folder, its permissions, and that the path is a file.",
        ) from None


def _damaged(path: Path) -> StateFailed:
    return StateFailed(
        f"the state file {path} is damaged", hint="Run again: it will be set aside, and a new one begun."
    )


def _translate(error: sqlite3.Error, path: Path) -> StateError | LayoutError:
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == _SHM_SIZE:
        return full(path)
    if primary in _DAMAGED:
        return _damaged(path)
    if primary in _REFUSED:
        return StateError(
            f"the state file {path} cannot be opened for writing",
            hint="Let this user write to the file and its folder, or name another file as 'state'.",
        )
    if code in _NO_SHM:
        return StateFailed(
            f"the state file {path} has a log, which its file system cannot share",
            hint="Run 'syncer run' once: it takes the log in, and does without one in such a place.",
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateLocked(f"the state file {path} is held by another program", hint="Close it there, and run again.")
    return StateFailed(f"the state file {path} cannot be used: {error}", hint="Check the disk it is on.")


async def _set(connection: aiosqlite.Connection, **pragmas: str | int) -> None:
    for name, value in {"busy_timeout": int(BUSY_TIMEOUT * 1000), **pragmas}.items():
        await connection.execute_fetchall(f"PRAGMA {name} = {value}")


def _refuse_directory(path: Path) -> None:
    if path.is_dir():
        raise StateError(f"the state file {path} is a directory", hint="Name a file as 'state'.")


def _prepare(path: Path, clock: Callable[[], float]) -> Prepared:
    with translated(path):
        path = path.resolve()
        _refuse_directory(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock.take(path)
    try:
        with translated(path):
            notices = _mend(path, clock)
        return Prepared(path=path, lock=lock, queries=read_queries(), notices=notices)
    except (StateError, LayoutError) as error:
        lock.release()
        raise diagnosed(error, path) from error.__cause__
    except BaseException:
        lock.release()
        raise


def _mend(path: Path, clock: Callable[[], float]) -> tuple[str, ...]:
    """Make the file usable, in WAL mode where the file system allows that; return what a person should know."""
    migrations = read_migrations()
    notices: tuple[str, ...] = ()
    _create(path)
    if not _is_usable(path, migrations):
        aside = _set_aside(path, clock)
        _create(path)
        notices = (f"the state file was damaged; it is kept as {aside}, and a new one is begun: this run asks more",)
    try:
        mode = _bring_up_to_date(path, migrations, "WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _NO_SHM:
            raise
        _fold(path)
        mode = _bring_up_to_date(path, migrations, "DELETE")
    if mode != "wal":
        notices += ("the file system has no shared memory: the state has no log, and 'status' may have to wait",)
    return notices


def _create(path: Path) -> None:
    """Make the file where there is none, for its owner alone to read; its log gets the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE))


def _make_private(path: Path) -> None:
    """Let nobody but its owner read a file that is there, and its log."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        # By its name: to open and close it would end the locks that this process has on it (fcntl). One of another
        # owner, or on a file system without modes, stays as it is.
        with suppress(OSError):
            each = path.with_name(name)
            if stat.S_IMODE(each.stat().st_mode) & ~_PRIVATE:
                each.chmod(_PRIVATE)


def _bring_up_to_date(path: Path, migrations: Sequence[Migration], journal: str) -> str:
    """Migrate the file, with this journal; return the one that it has got."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT)) as connection:
        (mode,) = connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()
        connection.execute("PRAGMA synchronous = NORMAL")
        version = version_of(connection, path, migrations[-1].version)
        if version < migrations[-1].version:
            # Once: who lets others read the file after that has a reason.
            _make_private(path)
        migrate(connection, version, migrations)
    return str(mode)


def _fold(path: Path) -> None:
    """Take the file out of WAL mode where memory cannot be shared, with all that its log holds.

    A connection that locks everybody else out from the start needs no shared memory (sqlite.org/wal.html section 8).
    """
    with closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()


def _is_usable(path: Path, migrations: Sequence[Migration], *, may_fold: bool = True) -> bool:
    """Tell whether the file is sound, and of a version that is known; what is none of ours is refused."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT)) as connection:
            version_of(connection, path, migrations[-1].version)
            return is_sound(connection)
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in _DAMAGED:
            return False
        if code not in _NO_SHM or not may_fold:
            raise
    # It was in WAL mode where it comes from, or was left so by the process before.
    try:
        _fold(path)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            return False
        raise
    return _is_usable(path, migrations, may_fold=False)


def _set_aside(path: Path, clock: Callable[[], float]) -> Path:
    name = f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(clock()))}"
    aside = path.with_name(name)
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{name}-{number}")
    path.rename(aside)
    # The log belongs to the damaged file, and must not be applied to the new one.
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _prepare_reading(path: Path) -> tuple[Prepared, str]:
    with translated(path):
        path = path.resolve()
        _refuse_directory(path)
        if not path.is_file():
            raise StateError(
                f"there is no state file {path}", hint="Name the one the spec names, or run 'syncer run' first."
            )
        if not os.access(path, os.R_OK):
            raise StateError(
                f"the state file {path} may not be read",
                hint="Its owner alone can, as it names what is private; run this as the user who runs Syncer.",
            )
        uri = f"{path.as_uri()}?mode=ro"
        try:
            _check_readable(path, uri)
        except sqlite3.OperationalError as error:
            log = path.with_name(f"{path.name}-wal")
            if error.sqlite_errorcode in _NO_SHM:
                # The attempt itself makes an empty log.
                is_at_rest = not FileLock.is_held(path) and not (log.exists() and log.stat().st_size)
            else:
                is_at_rest = error.sqlite_errorcode & 0xFF in _REFUSED and not log.exists()
            if not is_at_rest:
                raise
            # Nobody is writing, and the log that reading wants cannot be made, by this user or in this place.
            uri += "&immutable=1"
            _check_readable(path, uri)
    return Prepared(path=path, lock=None, queries=read_queries()), uri


def _check_readable(path: Path, uri: str) -> None:
    latest = read_migrations()[-1].version
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT)) as connection:
        version = version_of(connection, path, latest)
    if version < latest:
        raise StateError(
            f"the state file {path} has version {version}, and this Syncer reads {latest}",
            hint="Run 'syncer run' once; it brings the file up to date.",
        )
