"""The state file: its bytes, and values in its rows that no Syncer writes."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncer.cli.status import _print, _to_json
from syncer.errors import SyncerError
from syncer.events import RunStatus, TagOutcome
from syncer.oci import Digest
from syncer.plan.records import LearnedChallenge, TagRecord
from syncer.state.store import StateStore
from tests.fuzz.stage import Family, always
from tests.support.mutating import mutated_bytes, mutated_json
from tests.support.observing import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.fuzz.stage import Reader

_DIGEST = Digest.of(b"state")
_TARGET = "other.test/team/app"
_COLUMNS = {
    "tags": ("tag", "outcome", "source_digest", "target_digest", "error", "at", "succeeded", "run", "target"),
    "runs": ("id", "spec", "status", "started", "finished", "summary"),
    "names": ("name", "id"),
    "content": ("digest", "seen", "repository"),
    "repositories": ("registry", "name"),
    "subsets": ("source", "target", "platforms"),
    "challenges": ("realm", "service", "prefix"),
}


async def _fill(path: Path) -> None:
    async with StateStore.open(path, observer=Recorder(), clock=lambda: 1_700_000_000.0) as store:
        run = await store.begin_run("spec.yaml")
        for at, outcome in enumerate(TagOutcome):
            await store.record_tag(
                TagRecord(
                    run=run,
                    entry="one",
                    source="registry.test/team/app",
                    target=_TARGET,
                    tag=f"{at}.0",
                    outcome=outcome,
                    source_digest=_DIGEST,
                    target_digest=_DIGEST,
                    error="refused",
                )
            )
        await store.record_content("other.test", "team/app", [_DIGEST])
        await store.record_subset(_DIGEST, "linux/amd64", _DIGEST)
        await store.record_challenges(
            "other.test",
            [
                LearnedChallenge(
                    location="other.test", prefix="team", realm="https://auth.test/token", service="other.test"
                )
            ],
        )
        await store.finish_run(run, RunStatus.DONE, {"copied": 1, "in-sync": 2})


async def _ask(store: StateStore, path: Path) -> None:
    """Ask everything that a run and ``syncer status`` ask; what is refused once is no reason not to ask the rest."""
    refused: SyncerError | None = None
    questions = (
        lambda: store.tags(_TARGET),
        lambda: store.tags(_TARGET, ["0.0", "1.0"]),
        store.failures,
        lambda: store.locate("other.test", [_DIGEST]),
        lambda: store.held("other.test", "team/app", [_DIGEST]),
        store.challenges,
        lambda: store.subset(_DIGEST, "linux/amd64"),
        lambda: _status(store, path),
    )
    for question in questions:
        try:
            await question()
        except SyncerError as error:
            refused = error
    if refused is not None:
        raise refused


async def _status(store: StateStore, path: Path) -> None:
    runs, summary, unresolved = await store.runs(), await store.summary(), await store.unresolved()
    json.dumps(_to_json(path, runs, summary, unresolved)).encode()
    _print(path, runs, summary, unresolved, again="syncer run")


async def _read(path: Path) -> None:
    refused: SyncerError | None = None
    try:
        async with StateStore.read(path) as store:
            await _ask(store, path)
    except SyncerError as error:
        refused = error
    try:
        async with StateStore.open(path, observer=Recorder()) as store:
            await store.record_content("other.test", "team/app", [_DIGEST])
            with suppress(SyncerError):
                await _ask(store, path)
            await store.flush()
    except SyncerError as error:
        refused = error
    if refused is not None:
        raise refused


@cache
def seeds() -> tuple[bytes, ...]:
    """Return the bytes of a state file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        asyncio.run(_fill(path))
        return (path.read_bytes(),)


@contextmanager
def opened(folder: Path) -> Iterator[Reader]:
    """Give a reader of the bytes of a state file."""
    with asyncio.Runner() as runner:

        def read(data: bytes) -> None:
            tried = folder / "tried"
            tried.mkdir()
            try:
                (tried / "state.db").write_bytes(data)
                runner.run(_read(tried / "state.db"))
            finally:
                shutil.rmtree(tried)

        yield read


@contextmanager
def opened_rows(folder: Path) -> Iterator[Reader]:
    """Give a reader of lists ``[[table, column, value], …]``, which are put into every row of a good state file."""
    good = seeds()[0]
    with opened(folder) as read_bytes:

        def read(data: bytes) -> None:
            try:
                changes = json.loads(data)
            except (ValueError, RecursionError):
                return
            path = folder / "changed.db"
            path.write_bytes(good)
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA ignore_check_constraints = ON")
                for change in changes if isinstance(changes, list) else ():
                    _apply(connection, change)
                connection.commit()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            read_bytes(path.read_bytes())

        yield read


def _apply(connection: sqlite3.Connection, change: Any) -> None:
    match change:
        case [str() as table, str() as column, value] if column in _COLUMNS.get(table, ()):
            value = value.encode("utf-8", "surrogatepass") if isinstance(value, str) and len(value) % 2 else value
            # The shape of the file can refuse a value, as its program would.
            with suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                connection.execute(f"UPDATE {table} SET {column} = ?", [value])  # noqa: S608 - both are of a list
        case _:
            pass


def mutate_rows(random: Random, data: bytes) -> bytes:
    """Add a change of a column, and change the list by its structure."""
    try:
        changes = json.loads(data)
    except (ValueError, RecursionError):
        changes = []
    changes = changes if isinstance(changes, list) else []
    table = random.choice(tuple(_COLUMNS))
    value = random.choice(
        (
            0,
            -1,
            1e300,
            -1e300,
            1 << 62,
            "",
            "x",
            "9" * 400,
            "[]",
            "[[1]]",
            "1",
            "nan",
            "\u202e",
            "sha256:x",
            '{"a":1e999}',
        )
    )
    changes.append([table, random.choice(_COLUMNS[table]), value])
    made = json.dumps(changes).encode()
    return mutated_json(random, made) if random.random() < 0.3 else made


FAMILIES = (
    Family(name="states", is_slow=True, seeds=seeds, opened=opened, mutate=mutated_bytes),
    Family(
        name="state_rows",
        is_slow=True,
        seeds=always(b"[]", b'[["tags", "outcome", "copied"]]', b'[["runs", "summary", "{}"]]'),
        opened=opened_rows,
        mutate=mutate_rows,
    ),
)
