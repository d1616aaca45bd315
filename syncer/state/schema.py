"""The schema of the state file, and whether a file has it. Everything here blocks."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from syncer.errors import SchemaTooNew, StateError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from syncer.state.statements import Migration

#: "SYNC" in SQLite's header: a database that says otherwise is not ours to touch.
APPLICATION_ID = 0x53594E43


def version_of(connection: sqlite3.Connection, path: Path, latest: int) -> int:
    """Return the schema version of a database, 0 for an empty one.

    Raises:
        StateError: when it belongs to another program.
        SchemaTooNew: when its version is over ``latest``.
    """
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application != APPLICATION_ID:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or tables or version:
            raise StateError(
                f"{path} is a database of another program",
                hint="Name another file as 'state'; this one is left as it is.",
            )
    if version > latest:
        raise SchemaTooNew(
            f"the state file {path} has version {version}, written by a newer Syncer; this one knows up to {latest}",
            hint="Update Syncer, or name another file as 'state'; without it the next run only takes longer.",
        )
    return version


def migrate(connection: sqlite3.Connection, version: int, migrations: Sequence[Migration]) -> None:
    """Bring a database from ``version`` to the latest, each step in a transaction of its own.

    Raises:
        sqlite3.Error: when a step fails; the steps before it stay.
    """
    for migration in migrations:
        if migration.version <= version:
            continue
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{migration.sql}\n"
                f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {migration.version};\nCOMMIT;"
            )
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise


def is_sound(connection: sqlite3.Connection) -> bool:
    """Tell whether SQLite's own check finds nothing wrong; about a second for a gigabyte."""
    return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
