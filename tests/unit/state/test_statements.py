"""The SQL files: complete, and in words that PostgreSQL understands too."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from syncer.state.schema import migrate
from syncer.state.statements import WIDTHS, Migration, read_migrations, read_queries, widened

if TYPE_CHECKING:
    from pathlib import Path

#: What SQLite has and PostgreSQL has not, or means otherwise.
SQLITE_ONLY = re.compile(
    r"json_each|rowid\b|INSERT OR|REPLACE INTO|strftime|ifnull|AUTOINCREMENT|\bIIF\b|GLOB|PRAGMA|datetime\(|`|\?",
    re.IGNORECASE,
)


@pytest.mark.parametrize("name", sorted(read_queries()))
def test_every_query_is_valid_and_portable(name: str) -> None:
    """SQLite accepts each query against the schema, and none uses words that only SQLite has."""
    sql = read_queries()[name]
    assert SQLITE_ONLY.search(sql) is None
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0, read_migrations())
        for widening in ("digests", "tags"):
            sql, _ = next(widened(sql, widening, ["x"]))
        parameters = dict.fromkeys(re.findall(r":([a-z_0-9]+)", sql), 1)
        connection.execute(f"EXPLAIN {sql}", parameters)


def test_lookups_use_an_index() -> None:
    """No lookup by digest, tag or name reads a whole table."""
    queries = read_queries()
    inner = re.compile(r"SCAN (\(subquery-\d+\)|ranked)")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0, read_migrations())
        for name in (
            "locate",
            "held",
            "subset",
            "tags_named",
            "tags_after",
            "record_tag",
            "record_content",
            "record_upload",
        ):
            sql = queries[name]
            for widening in ("digests", "tags"):
                sql, _ = next(widened(sql, widening, ["x"]))
            parameters = dict.fromkeys(re.findall(r":([a-z_0-9]+)", sql), 1)
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
            scans = [step[3] for step in plan if step[3].startswith("SCAN") and not inner.search(step[3])]
            assert (name, scans) == (name, [])


def test_migrations_are_numbered_without_a_gap(tmp_path: Path) -> None:
    """The numbers count from 1; other files in the folder are not taken for migrations."""
    assert [migration.version for migration in read_migrations()] == [*range(1, len(read_migrations()) + 1)]
    (tmp_path / "0002_b.sql").write_text("SELECT 2 /* sqlite: WITHOUT ROWID */;")
    (tmp_path / "0001_a.sql").write_text("SELECT 1;")
    (tmp_path / "notes.sql").write_text("SELECT 3;")
    assert read_migrations(tmp_path) == (
        Migration(version=1, sql="SELECT 1;"),
        Migration(version=2, sql="SELECT 2 WITHOUT ROWID;"),
    )


@pytest.mark.parametrize("count", [1, *WIDTHS, WIDTHS[0] + 1, WIDTHS[-1] + 1, 3 * WIDTHS[-1]])
def test_lists_are_widened_in_chunks_of_few_widths(count: int) -> None:
    """Any number of values goes through as many statement texts as there are widths, filled up with the last value."""
    chunks = list(widened("SELECT x WHERE y IN (:ys)", "ys", [*range(count)]))
    assert [text.count(":") == len(values) for text, values in chunks] == [True] * len(chunks)
    assert {len(values) for _, values in chunks} <= set(WIDTHS)
    assert [value for _, values in chunks for value in dict.fromkeys(values.values())] == [*range(count)]


def test_nothing_is_widened_for_no_values() -> None:
    """No value needs no statement."""
    assert list(widened("IN (:ys)", "ys", [])) == []


def test_a_migration_is_all_or_nothing() -> None:
    """A step that fails in the middle leaves the version and the tables of the step before."""
    steps = (
        Migration(version=1, sql="CREATE TABLE a (x INTEGER);"),
        Migration(version=2, sql="CREATE TABLE b (x INTEGER); CREATE TABLE a (y INTEGER);"),
    )
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, 0, steps)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
        mended = Migration(version=2, sql="ALTER TABLE a ADD COLUMN y INTEGER;")
        migrate(connection, 1, (steps[0], mended))
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
