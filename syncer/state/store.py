"""The state store: runs, tags, where content lives, platform subsets, and uploads that were begun.

Nothing in it is needed for correctness. Records are written behind, in small batches, by one task:
a process that is killed loses the last of them, and the next run asks the registries again. The
queries are in ``queries.sql``, the schema in ``migrations/``.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from anyio import lowlevel

from syncer.errors import LayoutError, StateError, printable
from syncer.events import UNRESOLVED, Notice, RunStatus, TagOutcome
from syncer.oci.digest import is_digest
from syncer.plan.records import UnfinishedUpload
from syncer.state.backlog import Backlog, Batch
from syncer.state.database import Database
from syncer.state.records import RepositorySummary, RunRecord
from syncer.state.rows import challenge_of, digest_of, moment_of, run_of, sound, tag_of, text_of
from syncer.state.statements import widened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from syncer.events import Observer
    from syncer.oci.digest import Digest
    from syncer.plan.records import LearnedChallenge, TagRecord

#: How many repositories are named for one digest.
MAX_LOCATIONS = 4
#: Characters of an error that are kept.
MAX_ERROR = 2000
#: Rows that are turned into records between two turns of the loop.
PAGE = 500
#: Seconds for which an upload that was begun is worth asking for: registries forget them after an hour to a week.
UPLOAD_LIFETIME = 24 * 3600.0

_SUCCESSES = frozenset({TagOutcome.COPIED, TagOutcome.IN_SYNC})


class StateStore:
    """What is remembered between runs, in one SQLite file."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        """Use :meth:`open` or :meth:`read`."""
        self._database = database
        self._queries = database.queries
        self._clock = clock
        self._backlog = Backlog(self._commit)
        self._is_writing = False
        self._is_closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, *, observer: Observer, clock: Callable[[], float] = time.time
    ) -> AsyncIterator[Self]:
        """Open the state file for this process alone; leaving writes what is queued and closes it.

        A file that is not there is made; one that is damaged is renamed to ``<path>.corrupt-<UTC time>``,
        told of by a Notice, and begun anew. An older schema is brought up to date.

        Args:
            path: the file; its lock is ``<path>.lock``.
            observer: hears what a person should know.
            clock: gives seconds since the epoch.

        Raises:
            StateLocked: when another process uses the file.
            SchemaTooNew: when it was written by a newer version.
            StorageFull: when there is no space for it, now or on leaving.
            StateError: when it cannot be used for another reason.
        """
        database = await Database.open(path, clock=clock)
        failure: Exception | None = None
        # An error that leaves a task group is wrapped in a group; these leave after it.
        async with anyio.create_task_group() as group:
            store = cls(database, clock=clock)
            store._is_writing = True
            group.start_soon(store._backlog.run)
            try:
                for text in database.notices:
                    observer.notify(Notice(where=str(database.path), text=text))
                yield store
            except Exception as error:  # noqa: BLE001 - raised again below, as it came
                failure = error
            finally:
                with anyio.CancelScope(shield=True):
                    try:
                        await store.close()
                    except (StateError, LayoutError) as error:
                        failure = failure or error
        if failure is not None:
            raise failure

    @classmethod
    @asynccontextmanager
    async def read(cls, path: Path) -> AsyncIterator[Self]:
        """Open the state file for reading only: no lock is needed, and a run may be writing it.

        Raises:
            StateError: when it is not there or cannot be read.
            SchemaTooNew: when it was written by a newer version.
        """
        store = cls(await Database.read(path), clock=time.time)
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()

    async def close(self) -> None:
        """Write what is queued and close the file; leaving :meth:`open` or :meth:`read` does it too.

        Raises:
            StorageFull, StateError: when what was queued could not be written and nobody was told yet.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._is_writing:
                await self._backlog.close()
        finally:
            await self._database.close()

    async def flush(self) -> None:
        """Wait until all that was recorded is written.

        Raises:
            StorageFull, StateError: when it could not be.
        """
        if self._is_writing:
            await self._backlog.flush()

    # ------------------------------------------------------------------ runs

    async def begin_run(self, spec: str) -> str:
        """Note that a run of ``spec`` begins, and return its id; runs that were never finished are interrupted.

        That much is on the disk before anything is done: a power cut must not make what earlier runs recorded look
        like the last word (:meth:`last_words`).

        Raises:
            StorageFull, StateError: when it cannot be written.
        """
        started = self._clock()
        run = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(started))}-{secrets.token_hex(4)}"
        await self._database.write(
            [
                (self._queries["interrupt_runs"], [{}]),
                (self._queries["forget_old_uploads"], [_upload_times(started)]),
                (self._queries["begin_run"], [{"id": run, "spec": printable(spec), "started": started}]),
            ],
            is_durable=True,
        )
        return run

    async def finish_run(self, run: str, status: RunStatus, summary: Mapping[str, int]) -> None:
        """Note how a run ended, after all that it recorded.

        Raises:
            StorageFull, StateError: when it, or what was recorded, cannot be written.
        """
        await self.flush()
        row = {"id": run, "status": status.value, "finished": self._clock(), "summary": json.dumps(dict(summary))}
        await self._database.write([(self._queries["finish_run"], [row])])

    async def runs(self, limit: int = 10) -> list[RunRecord]:
        """Return the last ``limit`` runs, the newest first.

        One that is noted as running in a file that nobody holds was killed, and is called interrupted here
        before the next run notes it.
        """
        is_abandoned = not self._is_writing and not await self._database.is_held()
        rows = await self._database.fetch(self._queries["runs"], {"limit": limit})
        with self._sound():
            found = [run_of(row) for row in rows]
        # A run that began or ended between the two looks is not to be called dead.
        if is_abandoned and not await self._database.is_held():
            found = [
                replace(run, status=RunStatus.INTERRUPTED) if run.status is RunStatus.RUNNING else run for run in found
            ]
        return found

    # ------------------------------------------------------------------ tags

    async def record_tag(self, record: TagRecord) -> None:
        """Remember what became of a tag; it is only queued, and waits when the queue is full.

        Raises:
            StorageFull, StateError: when an earlier record could not be written.
        """
        if not record.at:
            record = replace(record, at=self._clock())
        await self._queue().put_tag(record)

    async def tags(self, target: str, tags: Sequence[str] | None = None) -> dict[str, TagRecord]:
        """Return the last that is known of the tags of ``target``, all of them or those named.

        ``target`` is ``registry/repository``; queued records are seen too.
        """
        queued = self._backlog.tags(target)
        if tags is None:
            found = {record.tag: record async for record in self._pages("tags_after", target=target)}
            return {**found, **queued}
        found = {}
        wanted = list(dict.fromkeys(tags))
        for sql, values in widened(self._queries["tags_named"], "tags", wanted):
            rows = await self._database.fetch(sql, {"target": target, **values})
            with self._sound():
                found.update((row[4], tag_of(row)) for row in rows)
        return {**found, **{tag: queued[tag] for tag in wanted if tag in queued}}

    async def last_words(self, target: str, tags: Sequence[str]) -> dict[str, TagRecord]:
        """Return the records of those of ``tags`` to which no run has done anything after what is recorded.

        A run that was killed may have written any tag without a word of it: what earlier runs recorded does not
        count since. Queued records are seen too. What a run has not looked at itself is recorded of no run, and
        never counts.
        """
        queued = self._backlog.tags(target)
        wanted = dict.fromkeys(tags)
        found: dict[str, TagRecord] = {}
        for sql, values in widened(self._queries["last_words"], "tags", list(wanted)):
            rows = await self._database.fetch(sql, {"target": target, **values})
            with self._sound():
                found.update((row[4], tag_of(row)) for row in rows)
        found = {tag: record for tag, record in found.items() if tag not in queued}
        return found | {
            tag: record
            for tag, record in queued.items()
            if tag in wanted and record.outcome in _SUCCESSES and record.run
        }

    async def failures(self, run: str | None = None) -> list[TagRecord]:
        """Return the tags that failed in ``run``, else in the last run, and have not been recorded since."""
        await self.flush()
        if run is None:
            last = await self.runs(limit=1)
            if not last:
                return []
            run = last[0].run
        return [record async for record in self._pages("failures_after", run=run)]

    async def unresolved_targets(self) -> dict[str, set[str]]:
        """Return the targets with tags among :meth:`unresolved`, and for each those that failed."""
        await self.flush()
        found: dict[str, set[str]] = {}
        for target, failed in await self._database.fetch(self._queries["unresolved_targets"]):
            found.setdefault(target, set()).update([failed] if failed else ())
        return found

    async def unresolved(self) -> list[TagRecord]:
        """Return every tag whose last outcome is a failure, a deferral or a cancellation, in whatever run that was."""
        await self.flush()
        return [record async for record in self._pages("unresolved_after")]

    async def unresolved_of(self, target: str) -> list[TagRecord]:
        """Return the tags of ``target`` among :meth:`unresolved`; queued records are seen too."""
        queued = self._backlog.tags(target)
        rows = await self._database.fetch(self._queries["unresolved_of"], {"target": target})
        with self._sound():
            found = {row[4]: tag_of(row) for row in rows}
        return [record for record in (found | queued).values() if record.tag and record.outcome in UNRESOLVED]

    async def summary(self) -> list[RepositorySummary]:
        """Return what is known of each target repository, by name."""
        await self.flush()
        summaries: list[RepositorySummary] = []
        rows = await self._database.fetch(self._queries["summary"])
        for number, (target, outcome, count, succeeded, seen) in enumerate(rows):
            if number % PAGE == 0:
                await lowlevel.checkpoint()
            if summaries and summaries[-1].target == target:
                known = summaries.pop()
            else:
                known = RepositorySummary(target=target)
            with self._sound():
                summaries.append(
                    replace(
                        known,
                        outcomes={**known.outcomes, TagOutcome(outcome): count},
                        succeeded=max(
                            (moment_of(at) for at in (known.succeeded, succeeded) if at is not None), default=None
                        ),
                        seen=max(known.seen, moment_of(seen)),
                    )
                )
        return summaries

    # ------------------------------------------------------------------ content

    async def record_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Remember that the repository holds the digests; queued as :meth:`record_tag` does.

        Raises:
            StorageFull, StateError: when an earlier record could not be written.
        """
        seen = self._clock()
        for digest in digests:
            await self._queue().put_content(registry, repository, digest, seen)

    async def forget_content(self, registry: str, repository: str, digests: Collection[Digest]) -> None:
        """Forget that the repository holds the digests; queued as :meth:`record_tag` does.

        Raises:
            StorageFull, StateError: when an earlier record could not be written.
        """
        for digest in digests:
            await self._queue().put_content(registry, repository, digest, None)

    async def knows(self, registry: str) -> bool:
        """Tell whether any repository of the registry was ever known to hold anything; queued records do not count."""
        return bool(await self._database.fetch(self._queries["knows"], {"registry": registry}))

    async def locate(self, registry: str, digests: Collection[Digest]) -> dict[Digest, list[str]]:
        """Return up to four repositories of the registry that hold each digest, the freshest first.

        A digest that no repository is known to hold is left out; queued records are seen too.
        """
        queued = self._backlog.content(registry, digests)
        # As many more are read as may be struck out again.
        gone = max((list(places.values()).count(None) for places in queued.values()), default=0)
        found: dict[Digest, dict[str, float]] = {}
        for sql, values in widened(self._queries["locate"], "digests", list(digests)):
            rows = await self._database.fetch(sql, {"registry": registry, "most": MAX_LOCATIONS + gone, **values})
            with self._sound():
                for digest, repository, seen in rows:
                    found.setdefault(digest_of(digest), {})[text_of(repository)] = moment_of(seen)
        for digest, places in queued.items():
            known = found.setdefault(digest, {})
            for repository, when in places.items():
                if when is None:
                    known.pop(repository, None)
                else:
                    known[repository] = when
        return {digest: _freshest(places) for digest, places in found.items() if places}

    async def held(self, registry: str, repository: str, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the digests that exactly this repository is known to hold; queued records count."""
        queued = self._backlog.content(registry, digests)
        found: set[Digest] = set()
        for sql, values in widened(self._queries["held"], "digests", list(digests)):
            rows = await self._database.fetch(sql, {"registry": registry, "repository": repository, **values})
            with self._sound():
                found.update(digest_of(digest) for (digest,) in rows)
        for digest, places in queued.items():
            if repository in places:
                (found.discard if places[repository] is None else found.add)(digest)
        return found

    # ------------------------------------------------------------------ challenges

    async def challenges(self) -> list[LearnedChallenge]:
        """Return how each registry wanted to be asked when a run last spoke to it."""
        rows = await self._database.fetch(self._queries["challenges"])
        with self._sound():
            return [challenge_of(row) for row in rows]

    async def record_challenges(self, location: str, learned: Iterable[LearnedChallenge]) -> None:
        """Remember what was ``learned`` of the registry at ``location``, in place of what was known before.

        Raises:
            StorageFull, StateError: when it cannot be written.
        """
        rows = [
            {"location": location, "prefix": one.prefix, "realm": one.realm, "service": one.service} for one in learned
        ]
        await self._database.write(
            [
                (self._queries["forget_challenges"], [{"location": location}]),
                (self._queries["record_challenge"], rows),
            ]
        )

    # ------------------------------------------------------------------ subsets

    async def record_subset(self, source: Digest, platforms: str, target: Digest) -> None:
        """Remember the digest that a subset of an index has; queued as :meth:`record_tag` does.

        Raises:
            StorageFull, StateError: when an earlier record could not be written.
        """
        await self._queue().put_subset(source, platforms, target)

    async def subset(self, source: Digest, platforms: str) -> Digest | None:
        """Return the digest of a subset, when it is remembered."""
        if queued := self._backlog.subset(source, platforms):
            return queued
        rows = await self._database.fetch(self._queries["subset"], {"source": source, "platforms": platforms})
        with self._sound():
            return digest_of(rows[0][0]) if rows else None

    async def subsets(self, sources: Collection[Digest], platforms: str) -> dict[Digest, Digest]:
        """Return the digests of the subsets that are remembered, by what they are subsets of."""
        queued = {source: known for source in sources if (known := self._backlog.subset(source, platforms))}
        found: dict[Digest, Digest] = {}
        for sql, values in widened(self._queries["subsets"], "sources", list(sources)):
            rows = await self._database.fetch(sql, {"platforms": platforms, **values})
            with self._sound():
                found.update((digest_of(source), digest_of(target)) for source, target in rows)
        return found | queued

    # ------------------------------------------------------------------ uploads

    async def unfinished_uploads(self) -> list[UnfinishedUpload]:
        """Return the uploads that were begun within a day and not ended; what is queued does not count.

        The clock may have been put back meanwhile: a time that is yet to come is as good as long ago.
        """
        rows = await self._database.fetch(self._queries["uploads"], _upload_times(self._clock()))
        return [_unfinished_upload(row) for row in rows if _is_upload(row)]

    def record_upload(self, record: UnfinishedUpload) -> None:
        """Remember where an upload goes on; it is only queued, and nobody waits for it: to lose it loses time.

        Raises:
            StateError: when the file is open for reading only.
        """
        record = record if record.at else replace(record, at=self._clock())
        self._queue().note_upload(record.registry, record.repository, record.digest, record)

    def forget_upload(self, registry: str, repository: str, digest: Digest) -> None:
        """Forget an upload that has ended, however; queued, and raises, as :meth:`record_upload`."""
        self._queue().note_upload(registry, repository, digest, None)

    # ------------------------------------------------------------------ inside

    def _sound(self) -> AbstractContextManager[None]:
        return sound(self._database.path)

    def _queue(self) -> Backlog:
        if not self._is_writing:
            raise StateError(f"the state file {self._database.path} is open for reading only")
        return self._backlog

    async def _pages(self, query: str, **parameters: str) -> AsyncIterator[TagRecord]:
        # By key and not by an open cursor: a reader that stays holds up the log's checkpoints.
        sql = self._queries[query]
        position: dict[str, str | int] = {"place": 0, "after": ""}
        while True:
            rows = await self._database.fetch(sql, {**position, **parameters, "limit": PAGE})
            with self._sound():
                records = [tag_of(row) for row in rows]
            for record in records:
                yield record
            if len(rows) < PAGE:
                return
            position = {"place": rows[-1][10], "after": rows[-1][4]}

    async def _commit(self, batch: Batch) -> None:
        await self._database.write((self._queries[name], rows) for name, rows in _steps(batch))


def _freshest(places: Mapping[str, float]) -> list[str]:
    return sorted(places, key=lambda repository: (-places[repository], repository))[:MAX_LOCATIONS]


def _steps(batch: Batch) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the statements that write ``batch``, each with its rows."""
    records = [record for tags in batch.tags.values() for record in tags.values()]
    names = {name for record in records for name in (record.target, record.run, record.entry, record.source)}
    yield "add_name", [{"name": name} for name in sorted(names)]
    yield "record_tag", [_tag_row(record) for record in records]
    words = [
        {"registry": registry, "repository": repository, "digest": str(digest), "seen": seen}
        for registry, digests in batch.content.items()
        for digest, places in digests.items()
        for repository, seen in places.items()
    ]
    present = [word for word in words if word["seen"] is not None]
    homes = sorted({(word["registry"], word["repository"]) for word in present})
    yield "add_repository", [{"registry": registry, "repository": repository} for registry, repository in homes]
    yield "record_content", present
    yield "forget_content", [word for word in words if word["seen"] is None]
    yield (
        "record_subset",
        [
            {"source": str(source), "platforms": platforms, "target": str(target)}
            for (source, platforms), target in batch.subsets.items()
        ],
    )
    yield from _upload_steps(batch)


def _upload_steps(batch: Batch) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    rows = [
        (
            {"registry": registry, "repository": repository, "digest": str(digest)},
            record and {"location": record.location, "confirmed": record.offset, "at": record.at},
        )
        for (registry, repository, digest), record in batch.uploads.items()
    ]
    yield "record_upload", [key | known for key, known in rows if known]
    yield "forget_upload", [key for key, known in rows if not known]


def _is_upload(row: Sequence[Any]) -> bool:
    """Tell whether a row is one of ours; a file of SQLite takes anything in any column, from whoever writes to it."""
    _, _, digest, location, confirmed, _ = row
    return isinstance(digest, str) and is_digest(digest) and isinstance(location, str) and isinstance(confirmed, int)


def _unfinished_upload(row: Sequence[Any]) -> UnfinishedUpload:
    registry, repository, digest, location, confirmed, at = row
    return UnfinishedUpload(
        registry=registry,
        repository=repository,
        digest=digest_of(digest),
        location=location,
        offset=confirmed,
        at=at,
    )


def _upload_times(now: float) -> dict[str, float]:
    return {"since": now - UPLOAD_LIFETIME, "now": now}


def _tag_row(record: TagRecord) -> dict[str, Any]:
    return {
        "target": record.target,
        "tag": record.tag,
        "run": record.run,
        "entry": record.entry,
        "source": record.source,
        "outcome": record.outcome.value,
        "source_digest": record.source_digest and str(record.source_digest),
        "target_digest": record.target_digest and str(record.target_digest),
        "error": record.error[:MAX_ERROR],
        "at": record.at,
        "succeeded": record.at if record.outcome in _SUCCESSES else None,
    }
