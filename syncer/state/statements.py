"""The SQL of this room, read from its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HERE = Path(__file__).parent
_HEADING = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_SQLITE_ONLY = re.compile(r"/\* sqlite: (.*?) \*/")

#: Values that one widened list takes. Shorter lists are filled up, so that few prepared statements serve all.
WIDTHS = (8, 40, 200)


@dataclass(frozen=True, kw_only=True, slots=True)
class Migration:
    """One step of the schema, from version ``version - 1``."""

    version: int
    sql: str


def read_queries() -> dict[str, str]:
    """Return the queries of ``queries.sql`` by name. This blocks."""
    parts = _HEADING.split((_HERE / "queries.sql").read_text(encoding="utf-8"))
    return {name: text.strip().rstrip(";") for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def read_migrations(folder: Path = _HERE / "migrations") -> tuple[Migration, ...]:
    """Return the migrations of ``folder`` in order, with SQLite's own words opened. This blocks."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        if match := _MIGRATION.fullmatch(path.name):
            sql = _SQLITE_ONLY.sub(r"\1", path.read_text(encoding="utf-8"))
            found.append(Migration(version=int(match[1]), sql=sql))
    return tuple(found)


def widened(sql: str, name: str, values: Sequence[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ``sql`` with ``IN (:name)`` made a list of one of :data:`WIDTHS`, once for as many values."""
    for start in range(0, len(values), WIDTHS[-1]):
        chunk = values[start : start + WIDTHS[-1]]
        names, text = _widths(sql, name)[next(at for at, width in enumerate(WIDTHS) if len(chunk) <= width)]
        given = dict.fromkeys(names, chunk[-1])
        given.update(zip(names, chunk, strict=False))
        yield text, given


@cache
def _widths(sql: str, name: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return the names of the values, and the statement that takes them, for each width."""
    found = []
    for width in WIDTHS:
        names = tuple(f"{name}_{at}" for at in range(width))
        marks = ", ".join(f":{each}" for each in names)
        found.append((names, sql.replace(f"(:{name})", f"({marks})")))
    return tuple(found)
