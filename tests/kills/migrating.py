"""The state file brought up to date from each earlier version of its schema, killed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from syncer.layout.repository import LayoutRepository
from syncer.layout.tree import LayoutTree
from syncer.state.schema import migrate
from syncer.state.statements import read_migrations
from tests.kills.crashes import COUNTED, NOWHERE, Crash, Point
from tests.support import images
from tests.support.forks import Order
from tests.support.transfer import push

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.forks import Ended, Forks

_FIRST = Path(__file__).parents[1] / "unit" / "state" / "version1.sql"
_COMMAND = ("run", "spec.yaml", "--quiet")
_SPEC = """version: 1
state: ./state.db
registries:
  source: {layout: ./source}
  target: {layout: ./target}
sync:
  - {name: app, from: source/app, to: target/app}
"""
#: So many that a migration does not fit into a page or two.
_ROWS = 400
#: Opcodes of SQLite between two failpoints.
_OPCODES = 100
#: SQLite makes its shared memory this long at once: a shorter bound on files kills there, and nowhere else.
_SHARED_MEMORY = 32 * 1024
_BYTES = "bytes"
_ASIDE = "state.db.corrupt-*"
#: What no migration may lose, whatever the tables are called by then.
_KEPT = {
    "tags": "SELECT target, tag, outcome, source_digest, target_digest, at FROM tag_records ORDER BY target, tag",
    "runs": "SELECT id, status FROM runs WHERE number = 1",
    "content": "SELECT registry, name, digest FROM content JOIN repositories ON id = repository ORDER BY digest",
    "subsets": "SELECT source, platforms, target FROM subsets",
}


def earlier_versions() -> range:
    """Return the schema versions that a file out there may have; 0 is no file at all."""
    return range(read_migrations()[-1].version)


@dataclass
class Remembered:
    """What a state file says."""

    version: int = 0
    rows: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, scratch: Path) -> Remembered:
        """Read the file in ``folder``, of a copy, so that nothing is mended that the next run should mend."""
        found = cls()
        if not (folder / "state.db").exists():
            return found
        scratch.mkdir()
        for path in folder.glob("state.db*"):
            shutil.copy(path, scratch)
        with closing(sqlite3.connect(scratch / "state.db")) as connection:
            if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                found.problems.append("the state file is damaged")
                return found
            ((found.version,),) = connection.execute("PRAGMA user_version")
            if found.version:
                found._read(connection)
        shutil.rmtree(scratch)
        return found

    def _read(self, connection: sqlite3.Connection) -> None:
        try:
            self.rows = {name: connection.execute(query).fetchall() for name, query in _KEPT.items()}
            self.runs = [status for (status,) in connection.execute("SELECT status FROM runs ORDER BY number")]
        except sqlite3.Error as error:
            self.problems.append(f"version {self.version} cannot be read: {error}")

    def lacks(self, before: Remembered) -> list[str]:
        """Say what has gone since ``before``."""
        found = [f"version {before.version} has become {self.version}"] if self.version < before.version else []
        for name, rows in before.rows.items():
            missing = set(rows) - set(self.rows.get(name, []))
            found += [f"{name} lack {len(missing)} rows"] if missing else []
        return found


class Migrate:
    """The job: a run in sync, over a state file of an earlier version."""

    step = 1

    def __init__(self, version: int) -> None:
        self.version = version
        self._template: Path | None = None

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"state, version {self.version}" if self.version else "state, new"

    def order(self, folder: Path, at: Point = NOWHERE) -> Order:
        """Return the run that dies at the failpoint ``at``."""
        return Order(arguments=_COMMAND, folder=str(folder), at=at.number, kind=at.kind, opcodes=_OPCODES)

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Run once, without dying."""
        await self._prepare(folder)
        ended = await forks.run(self.order(folder, COUNTED))
        assert ended.code == 0, ended
        return ended.points

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Run, die, look at what the file says, and run again."""
        crash = Crash(at=at)
        await self._prepare(folder)
        before = await self._read(folder)
        first = await forks.run(self.order(folder, at))
        crash.survived = not first.was_killed
        after = await self._read(folder)
        crash.problems += after.problems
        crash.problems += [f"after the kill, {problem}" for problem in after.lacks(before)]
        ended = await forks.run(Order(arguments=_COMMAND, folder=str(folder)))
        crash.problems += await to_thread.run_sync(self._check, folder, before, ended)
        return crash

    async def _read(self, folder: Path) -> Remembered:
        return await to_thread.run_sync(Remembered.of, folder, folder / "scratch")

    def _check(self, folder: Path, before: Remembered, ended: Ended) -> list[str]:
        """Look at what there is in the end."""
        found = [f"exit code {ended.code}: {ended.err}"] if ended.code or ended.err else []
        found += [f"set aside: {path.name}" for path in folder.glob(_ASIDE)]
        found += [f"left behind: {path.name}" for path in folder.glob("state.db?*") if path.name != "state.db.lock"]
        final = Remembered.of(folder, folder / "scratch")
        found += final.problems
        if final.version != read_migrations()[-1].version:
            found.append(f"the file has version {final.version}")
        found += final.lacks(before)
        if final.runs[-1:] != ["done"] or "running" in final.runs:
            found.append(f"the runs are {final.runs}")
        return found

    async def _prepare(self, folder: Path) -> None:
        """Fill ``folder``: two layout trees in sync, the spec, the state file."""
        if self._template is None:
            self._template = folder.parent / f"template-{self.version}"
            tree = LayoutTree(self._template / "source", durable=False)
            await push(LayoutRepository(tree, "app"), images.image(), "v1")
            await tree.close()
            await to_thread.run_sync(self._finish, self._template)
        await to_thread.run_sync(lambda: shutil.copytree(self._template or folder, folder, dirs_exist_ok=True))

    def _finish(self, template: Path) -> None:
        shutil.copytree(template / "source", template / "target")
        (template / "spec.yaml").write_text(_SPEC)
        if self.version:
            write_version(template / "state.db", self.version)


class TornMigrate(Migrate):
    """The same, ended in the middle of a write of SQLite's own; a failpoint is a byte that no file outgrows."""

    #: A page in the log has a few bytes over 4 KiB: they are cut at other places each time.
    step = 1500

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{super().name}, torn writes"

    def order(self, folder: Path, at: Point = NOWHERE) -> Order:
        """Return the run in which no file outgrows so many bytes, beyond what SQLite always needs."""
        size = _SHARED_MEMORY + at.number if at.number else 0
        return Order(arguments=_COMMAND, folder=str(folder), size=size)

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Find the bytes that are enough, by doubling."""
        size = self.step
        while True:
            place = folder / str(size)
            await self._prepare(place)
            if not (await forks.run(self.order(place, Point(size, _BYTES)))).was_killed:
                return {_BYTES: size}
            size *= 2


def write_version(path: Path, version: int) -> None:
    """Write a state file as an earlier version of the schema had it, with some hundred tags; this blocks."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_FIRST.read_text())
        connection.execute("PRAGMA journal_mode = WAL")
        for number in range(_ROWS):
            connection.execute(
                "INSERT INTO tags SELECT target, ?, run, entry, source, outcome, source_digest, target_digest, error, "
                "at, succeeded FROM tags WHERE tag = 'v1'",
                (f"copy-{number}",),
            )
        connection.commit()
        migrate(connection, 1, [one for one in read_migrations() if one.version <= version])
