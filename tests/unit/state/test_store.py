"""The state store: what is recorded is found again."""

# ruff: noqa: ASYNC240 - a test may touch its files; what syncer/ does on the loop is guarded

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from syncer.errors import StateError, StorageFull
from syncer.events import RunStatus, TagOutcome
from syncer.oci.digest import Digest
from syncer.plan.records import TagRecord, UnfinishedUpload
from syncer.state import RepositorySummary, StateStore

if TYPE_CHECKING:
    from pathlib import Path

    Notebook = Any


def digest(number: int) -> Digest:
    """Return one of many digests."""
    return Digest.of(f"{number}".encode())


def record(number: int, *, run: str = "run", target: str = "t.io/a", outcome: str = "copied") -> TagRecord:
    """Return the record of one of many tags."""
    return TagRecord(
        run=run,
        entry="entry",
        source="s.io/a",
        target=target,
        tag=f"v{number:06}",
        outcome=TagOutcome(outcome),
        source_digest=digest(number),
        target_digest=digest(number + 1),
        error="it broke" if outcome == "failed" else "",
        at=float(number + 1),
    )


def upload(offset: int = 0, *, repository: str = "a") -> UnfinishedUpload:
    """Return the record of an upload that is ``offset`` bytes far."""
    location = f"https://t.io/v2/{repository}/blobs/uploads/u{offset}?_state=s"
    return UnfinishedUpload(registry="t.io", repository=repository, digest=digest(1), location=location, offset=offset)


async def limit_pages(store: StateStore, more: int) -> None:
    """Let the file grow by ``more`` pages only: SQLite then fails just as on a full disk."""
    writer: Any = store._database._writer
    ((pages,),) = await writer.execute_fetchall("PRAGMA page_count")
    await writer.execute_fetchall(f"PRAGMA max_page_count = {pages + more}")


class TestRuns:
    """Runs begin, end, and are found interrupted."""

    async def test_a_run_is_remembered(self, path: Path, notebook: Notebook) -> None:
        """What a run was, and how it ended, is there after reopening; the newest comes first."""
        async with StateStore.open(path, observer=notebook, clock=lambda: 1700000000.0) as store:
            first = await store.begin_run("one.yaml")
            await store.finish_run(first, RunStatus.DONE, {"copied": 3, "failed": 0})
            second = await store.begin_run("two.yaml")
            await store.finish_run(second, RunStatus.FAILED, {})
        async with StateStore.read(path) as store:
            runs = await store.runs()
            assert [(run.run, run.spec, run.status, run.started, run.finished, run.summary) for run in runs] == [
                (second, "two.yaml", RunStatus.FAILED, 1700000000.0, 1700000000.0, {}),
                (first, "one.yaml", RunStatus.DONE, 1700000000.0, 1700000000.0, {"copied": 3, "failed": 0}),
            ]
            assert [run.run for run in await store.runs(limit=1)] == [second]
        assert first.startswith("20231114T221320Z-")
        assert notebook.events == []

    async def test_a_run_that_never_ended_was_interrupted(self, path: Path, notebook: Notebook) -> None:
        """A run left running by a killed process is shown as interrupted, and marked when the next one begins."""
        async with StateStore.open(path, observer=notebook) as store:
            await store.begin_run("spec.yaml")
        async with StateStore.open(path, observer=notebook) as store:
            assert [run.status for run in await store.runs()] == [RunStatus.RUNNING]
            async with StateStore.read(path) as other:
                assert [run.status for run in await other.runs()] == [RunStatus.RUNNING]
        async with StateStore.read(path) as other:
            assert [run.status for run in await other.runs()] == [RunStatus.INTERRUPTED]
        async with StateStore.open(path, observer=notebook) as store:
            await store.begin_run("spec.yaml")
            assert [(run.status, run.finished) for run in await store.runs()] == [
                (RunStatus.RUNNING, None),
                (RunStatus.INTERRUPTED, None),
            ]

    async def test_a_finished_run_has_all_its_records(self, path: Path, notebook: Notebook) -> None:
        """When a run is done, so is the writing of what it recorded."""
        async with StateStore.open(path, observer=notebook) as store:
            run = await store.begin_run("spec.yaml")
            await store.record_tag(record(1, run=run))
            await store.finish_run(run, RunStatus.DONE, {})
            async with StateStore.read(path) as other:
                assert await other.tags("t.io/a") == {"v000001": record(1, run=run)}


class TestTags:
    """The last that is known of each tag."""

    async def test_a_record_is_seen_before_and_after_it_is_written(self, path: Path, notebook: Notebook) -> None:
        """The same record comes back from the queue, from the file, and from the reopened file."""
        full = record(1, outcome="failed")
        bare = TagRecord(run="", entry="", source="", target="t.io/a", tag="x", outcome=TagOutcome.SKIPPED, at=5.0)
        async with StateStore.open(path, observer=notebook) as store:
            await store.record_tag(full)
            await store.record_tag(bare)
            assert await store.tags("t.io/a") == {full.tag: full, "x": bare}
            await store.flush()
            assert await store.tags("t.io/a") == {full.tag: full, "x": bare}
            assert await store.tags("t.io/a", ["x", "nowhere", "x"]) == {"x": bare}
            assert await store.tags("t.io/a", []) == {}
            assert await store.tags("t.io/b") == {}
        async with StateStore.open(path, observer=notebook) as store:
            assert await store.tags("t.io/a") == {full.tag: full, "x": bare}

    async def test_the_newest_record_replaces_the_older(self, path: Path, notebook: Notebook) -> None:
        """A tag has one record, whichever of the two is still queued."""
        async with StateStore.open(path, observer=notebook) as store:
            await store.record_tag(record(1))
            await store.flush()
            newer = replace(record(1, outcome="in-sync"), at=99.0, source_digest=None)
            await store.record_tag(newer)
            assert await store.tags("t.io/a", ["v000001"]) == {"v000001": newer}
            await store.flush()
            assert await store.tags("t.io/a") == {"v000001": newer}

    async def test_a_record_without_a_time_gets_one(self, path: Path, notebook: Notebook) -> None:
        """The store's clock fills in when a tag was recorded."""
        async with StateStore.open(path, observer=notebook, clock=lambda: 7.0) as store:
            await store.record_tag(replace(record(1), at=0.0))
            assert (await store.tags("t.io/a"))["v000001"].at == 7.0

    async def test_many_tags_come_back_complete(self, path: Path, notebook: Notebook) -> None:
        """Reading goes in pages and through lists in chunks, and nothing is lost at their seams."""
        async with StateStore.open(path, observer=notebook) as store:
            for number in range(1201):
                await store.record_tag(record(number))
                await store.record_tag(record(number, target="t.io/b"))
            found = await store.tags("t.io/a")
            assert found == {record(number).tag: record(number) for number in range(1201)}
            assert await store.tags("t.io/a", list(found)) == found

    async def test_targets_that_are_not_in_step(self, path: Path, notebook: Notebook) -> None:
        """They are told with the tags that failed, whichever run that was; what failed as a whole is no tag."""
        async with StateStore.open(path, observer=notebook) as store:
            for run, outcomes in (("one", ["failed", "failed", "failed"]), ("two", ["copied", "cancelled"])):
                for number, outcome in enumerate(outcomes):
                    await store.record_tag(record(number, run=run, outcome=outcome))
            await store.record_tag(record(7, run="one", target="t.io/b", outcome="failed"))
            await store.record_tag(replace(record(8, run="one", target="t.io/c", outcome="failed"), tag=""))
            await store.record_tag(record(9, run="one", target="t.io/d", outcome="deferred"))
            await store.record_tag(record(9, run="one", target="t.io/e"))
            left = {"t.io/a": {"v000002"}, "t.io/b": {"v000007"}, "t.io/d": set()}
            assert await store.unresolved_targets() == left

    async def test_a_long_error_is_cut(self, path: Path, notebook: Notebook) -> None:
        """An error of any length costs at most two thousand characters."""
        async with StateStore.open(path, observer=notebook) as store:
            await store.record_tag(replace(record(1), error="x" * 100_000))
            await store.flush()
            assert len((await store.tags("t.io/a"))["v000001"].error) == 2000

    async def test_failures_are_those_of_a_run(self, path: Path, notebook: Notebook) -> None:
        """The failures of the last run, of another run, and what is unresolved of all runs."""
        async with StateStore.open(path, observer=notebook) as store:
            assert await store.failures() == []
            first = await store.begin_run("spec.yaml")
            for number in range(520):
                await store.record_tag(record(number, run=first, outcome="failed"))
            await store.record_tag(record(900, run=first, outcome="cancelled"))
            await store.record_tag(record(901, run=first))
            assert len(await store.failures()) == 520
            second = await store.begin_run("spec.yaml")
            assert await store.failures() == []
            await store.record_tag(record(0, run=second, outcome="copied"))
            await store.record_tag(record(1, run=second, outcome="failed"))
            assert await store.failures() == [record(1, run=second, outcome="failed")]
            assert [failed.tag for failed in await store.failures(first)] == [f"v{n:06}" for n in range(2, 520)]
            assert [left.tag for left in await store.unresolved()] == [f"v{n:06}" for n in [*range(1, 520), 900]]
            await store.record_tag(record(2, run=second, outcome="skipped"))
            left = await store.unresolved_of(record(0).target)
            assert sorted(one.tag for one in left) == [f"v{n:06}" for n in [1, *range(3, 520), 900]]
            assert await store.unresolved_of("t.io/other") == []

    async def test_the_summary_counts_by_repository(self, path: Path, notebook: Notebook) -> None:
        """Tags by outcome, the last success even when it failed since, and the last look."""
        async with StateStore.open(path, observer=notebook) as store:
            await store.record_tag(record(1, target="t.io/b", outcome="skipped"))
            await store.record_tag(record(3))
            await store.flush()
            await store.record_tag(replace(record(3, outcome="failed"), at=50.0))
            await store.record_tag(record(1, outcome="in-sync"))
            assert await store.summary() == [
                RepositorySummary(
                    target="t.io/a",
                    outcomes={TagOutcome.FAILED: 1, TagOutcome.IN_SYNC: 1},
                    succeeded=4.0,
                    seen=50.0,
                ),
                RepositorySummary(target="t.io/b", outcomes={TagOutcome.SKIPPED: 1}, succeeded=None, seen=2.0),
            ]
            assert [known.tags for known in await store.summary()] == [2, 1]


class TestLastWords:
    """Records after which nothing was done that is not recorded."""

    async def known(self, store: StateStore) -> set[str]:
        """Return the tags of which the state has the last word."""
        tags = list(await store.tags("t.io/a"))
        found = await store.last_words("t.io/a", [*tags, "nowhere"])
        assert found == await store.tags("t.io/a", list(found))
        return set(found)

    async def test_only_success_tells_what_a_tag_stands_for(self, path: Path, notebook: Notebook) -> None:
        """Tags that were copied or in sync, in the queue and in the file alike; and none without a run."""
        async with StateStore.open(path, observer=notebook) as store:
            run = await store.begin_run("spec.yaml")
            for number, outcome in enumerate(TagOutcome):
                await store.record_tag(record(number, run=run, outcome=outcome))
            await store.record_tag(record(90, run=""))
            for _ in range(2):
                assert await self.known(store) == {
                    record(number).tag
                    for number, outcome in enumerate(TagOutcome)
                    if outcome in (TagOutcome.COPIED, TagOutcome.IN_SYNC)
                }
                await store.flush()
            # What is queued counts, not what it replaces.
            await store.record_tag(record(0, run=run, outcome="failed"))
            assert await self.known(store) == {record(1).tag}

    @pytest.mark.parametrize("status", [RunStatus.DONE, RunStatus.FAILED, RunStatus.INTERRUPTED])
    async def test_a_run_that_has_ended_told_all(self, path: Path, notebook: Notebook, status: RunStatus) -> None:
        """However it ended, what earlier runs have recorded still holds."""
        async with StateStore.open(path, observer=notebook) as store:
            first = await store.begin_run("spec.yaml")
            await store.record_tag(record(1, run=first))
            await store.finish_run(first, RunStatus.DONE, {})
            await store.finish_run(await store.begin_run("spec.yaml"), status, {})
        async with StateStore.open(path, observer=notebook) as store:
            await store.begin_run("spec.yaml")
            assert await self.known(store) == {record(1).tag}

    async def test_a_run_that_was_killed_may_have_done_anything(self, path: Path, notebook: Notebook) -> None:
        """Its own records hold, and those of later runs; what was recorded before it does not."""
        async with StateStore.open(path, observer=notebook) as store:
            first = await store.begin_run("spec.yaml")
            for number in range(3):
                await store.record_tag(record(number, run=first))
            await store.finish_run(first, RunStatus.DONE, {})
        async with StateStore.open(path, observer=notebook) as store:
            killed = await store.begin_run("spec.yaml")
            await store.record_tag(record(1, run=killed))
        async with StateStore.open(path, observer=notebook) as store:
            assert await self.known(store) == {record(number).tag for number in range(3)}
            third = await store.begin_run("spec.yaml")
            assert await self.known(store) == {record(1).tag}
            await store.record_tag(record(2, run=third))
            await store.finish_run(third, RunStatus.DONE, {})
            assert await self.known(store) == {record(1).tag, record(2).tag}

    async def test_that_a_run_begins_is_on_the_disk_before_anything_else(self, path: Path, notebook: Notebook) -> None:
        """It is committed so that a power cut cannot undo it, and nothing else waits for the disk."""
        said: list[str] = []
        async with StateStore.open(path, observer=notebook) as store:
            writer: Any = store._database._writer
            await writer.set_trace_callback(said.append)
            run = await store.begin_run("spec.yaml")
            await store.record_tag(record(1, run=run))
            await store.finish_run(run, RunStatus.DONE, {})
        level = "NORMAL"
        commits: list[str] = []
        for statement in said:
            if statement.startswith("PRAGMA synchronous = "):
                level = statement.rpartition(" ")[2]
            elif statement == "COMMIT":
                commits.append(level)
        assert commits == ["FULL", "NORMAL", "NORMAL"]
        assert next(at for at, one in enumerate(said) if one == "COMMIT") > next(
            at for at, one in enumerate(said) if one.startswith("INSERT INTO runs")
        )


class TestContent:
    """Where digests live."""

    @pytest.mark.parametrize("written", [False, True])
    async def test_positive_knowledge_is_kept(self, path: Path, notebook: Notebook, *, written: bool) -> None:
        """Digests are located by registry, freshest first and at most four, queued or written."""
        now = 0.0

        def clock() -> float:
            nonlocal now
            now += 1
            return now

        async with StateStore.open(path, observer=notebook, clock=clock) as store:
            for repository in "abcdef":
                await store.record_content("r.io", repository, [digest(1)])
            await store.record_content("r.io", "b", [digest(1), digest(2)])
            await store.record_content("other.io", "z", [digest(1), digest(3)])
            if written:
                await store.flush()
            asked = [digest(1), digest(2), digest(3)]
            assert await store.locate("r.io", asked) == {digest(1): ["b", "f", "e", "d"], digest(2): ["b"]}
            assert await store.held("r.io", "a", asked) == {digest(1)}
            assert await store.held("r.io", "b", asked) == {digest(1), digest(2)}
            assert await store.held("r.io", "nowhere", asked) == set()
            assert await store.locate("nowhere", asked) == {}
            assert await store.locate("r.io", []) == {}

    @pytest.mark.parametrize("written", [False, True])
    async def test_forgetting_counts_at_once(self, path: Path, notebook: Notebook, *, written: bool) -> None:
        """What the registry contradicted is gone, whether it was written or queued, and can come back."""
        async with StateStore.open(path, observer=notebook, clock=lambda: 1.0) as store:
            for repository in "abcdef":
                await store.record_content("r.io", repository, [digest(1)])
            await store.flush()
            await store.forget_content("r.io", "a", [digest(1), digest(9)])
            await store.forget_content("r.io", "b", [digest(1)])
            await store.forget_content("nowhere", "b", [digest(1)])
            if written:
                await store.flush()
            assert await store.locate("r.io", [digest(1)]) == {digest(1): ["c", "d", "e", "f"]}
            assert await store.held("r.io", "a", [digest(1)]) == set()
            await store.record_content("r.io", "a", [digest(1)])
            assert await store.held("r.io", "a", [digest(1)]) == {digest(1)}
            for repository in "acdef":
                await store.forget_content("r.io", repository, [digest(1)])
            assert await store.locate("r.io", [digest(1)]) == {}

    async def test_many_digests_are_asked_for_at_once(self, path: Path, notebook: Notebook) -> None:
        """A question about more digests than a list takes is answered in full."""
        digests = [digest(number) for number in range(450)]
        async with StateStore.open(path, observer=notebook) as store:
            await store.record_content("r.io", "a", digests)
            await store.record_content("r.io", "a", digests)
            await store.flush()
            assert await store.locate("r.io", digests) == {one: ["a"] for one in digests}
            assert await store.held("r.io", "a", digests) == set(digests)

    async def test_a_million_rows_stay_small(self, path: Path, notebook: Notebook) -> None:
        """A row of content costs about its digest: under 130 bytes, so a million take under 130 MB."""
        digests = [digest(number) for number in range(4000)]
        async with StateStore.open(path, observer=notebook) as store:
            await store.flush()
            before = path.stat().st_size
            await store.record_content("registry.example.com", "team/some/long/repository/name", digests)
        assert (path.stat().st_size - before) / len(digests) < 130

    async def test_subsets_are_remembered(self, path: Path, notebook: Notebook) -> None:
        """The digest of a platform subset is found by source and platforms, queued or written."""
        async with StateStore.open(path, observer=notebook) as store:
            await store.record_subset(digest(1), "linux/amd64", digest(2))
            assert await store.subset(digest(1), "linux/amd64") == digest(2)
            await store.flush()
            await store.record_subset(digest(1), "linux/amd64", digest(3))
            await store.flush()
            assert await store.subset(digest(1), "linux/amd64") == digest(3)
            assert await store.subset(digest(1), "linux/arm64") is None
            await store.record_subset(digest(2), "linux/amd64", digest(2))
            asked = [digest(number) for number in range(300)]
            known = {digest(1): digest(3), digest(2): digest(2)}
            for _ in range(2):
                assert await store.subsets(asked, "linux/amd64") == known
                await store.flush()
            assert await store.subsets(asked, "linux/arm64") == {}
            assert await store.subsets([], "linux/amd64") == {}


class TestEndings:
    """Cancellation, errors, a full disk, a closed store."""

    async def test_cancellation_writes_what_was_recorded(self, path: Path, notebook: Notebook) -> None:
        """A run that is cancelled keeps all it recorded, and the cancellation goes on."""
        with anyio.CancelScope() as scope:
            async with StateStore.open(path, observer=notebook) as store:
                for number in range(250):
                    await store.record_tag(record(number))
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with StateStore.read(path) as store:
            assert len(await store.tags("t.io/a")) == 250

    async def test_a_cancelled_read_does_no_harm(self, path: Path, notebook: Notebook) -> None:
        """After a cancelled question the store answers the next one."""
        async with StateStore.open(path, observer=notebook) as store:
            await store.record_tag(record(1))
            await store.flush()
            for _ in range(20):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await store.tags("t.io/a")
            assert len(await store.tags("t.io/a")) == 1

    async def test_an_error_leaves_as_it_came(self, path: Path, notebook: Notebook) -> None:
        """The error of a run is not wrapped in a group, and what was recorded is written."""
        with pytest.raises(ZeroDivisionError):
            async with StateStore.open(path, observer=notebook) as store:
                await store.record_tag(record(1))
                raise ZeroDivisionError
        async with StateStore.read(path) as store:
            assert len(await store.tags("t.io/a")) == 1

    async def test_a_full_disk_reaches_the_next_caller(self, path: Path, notebook: Notebook) -> None:
        """When no space is left, recording raises StorageFull with a hint, and never hangs."""
        with anyio.fail_after(20), pytest.raises(StorageFull) as caught:
            async with StateStore.open(path, observer=notebook) as store:
                await limit_pages(store, 2)
                for number in range(100_000):
                    await store.record_tag(record(number))
        assert str(path) in caught.value.message
        assert caught.value.hint

    async def test_a_full_disk_reaches_who_leaves(self, path: Path, notebook: Notebook) -> None:
        """When only the last batch does not fit, leaving the store raises it."""
        with pytest.raises(StorageFull):
            async with StateStore.open(path, observer=notebook) as store:
                await limit_pages(store, 0)
                for number in range(100):
                    await store.record_tag(record(number))

    async def test_a_full_disk_keeps_what_was_written(self, path: Path, notebook: Notebook) -> None:
        """A batch that fails leaves the file consistent; there is room again after reopening."""
        with pytest.raises(StorageFull):
            async with StateStore.open(path, observer=notebook) as store:
                await store.record_tag(record(1))
                await store.flush()
                await limit_pages(store, 0)
                await store.record_content("r.io", "a", [digest(number) for number in range(200)])
                await store.flush()
        async with StateStore.open(path, observer=notebook) as store:
            assert list(await store.tags("t.io/a")) == ["v000001"]
            assert await store.locate("r.io", [digest(1)]) == {}
            await store.record_tag(record(2))
        assert notebook.events == []

    async def test_a_closed_store_says_so(self, path: Path, notebook: Notebook) -> None:
        """After closing, which may be done twice, every question and record is a typed error."""
        async with StateStore.open(path, observer=notebook) as store:
            await store.close()
            await store.close()
            for action in (
                store.record_tag(record(1)),
                store.tags("t.io/a"),
                store.begin_run("x"),
                store.record_content("r.io", "a", [digest(1)]),
            ):
                with pytest.raises(StateError, match="closed"):
                    await action

    async def test_a_store_for_reading_does_not_write(self, path: Path, notebook: Notebook) -> None:
        """Recording into a store that was opened for reading is a typed error."""
        async with StateStore.open(path, observer=notebook):
            pass
        async with StateStore.read(path) as store:
            for action in (store.record_tag(record(1)), store.begin_run("x")):
                with pytest.raises(StateError, match="reading only"):
                    await action
            assert await store.runs() == []


class TestUploads:
    """Uploads that were begun are found by the next run, for a day."""

    async def test_the_last_word_on_an_upload_counts(self, path: Path, notebook: Notebook) -> None:
        """How far it is replaces how far it was, and its end takes it away; each repository has its own."""
        async with StateStore.open(path, observer=notebook, clock=lambda: 1000.0) as store:
            store.record_upload(upload())
            store.record_upload(upload(repository="b"))
            await store.flush()
            store.record_upload(upload(16 << 40))
            store.forget_upload("t.io", "b", digest(1))
        async with StateStore.open(path, observer=notebook, clock=lambda: 1001.0) as store:
            assert await store.unfinished_uploads() == [replace(upload(16 << 40), at=1000.0)]

    async def test_begun_and_ended_in_one_batch(self, path: Path, notebook: Notebook) -> None:
        """An upload that ends before it was written leaves nothing behind."""
        async with StateStore.open(path, observer=notebook) as store:
            store.record_upload(upload())
            store.forget_upload("t.io", "a", digest(1))
            await store.flush()
            assert await store.unfinished_uploads() == []

    @pytest.mark.parametrize(
        ("now", "is_found"), [(1000.0, True), (86_400.0 + 1000, True), (86_401.0 + 1000, False), (999.0, False)]
    )
    async def test_old_ones_and_those_of_the_future_are_not_asked_for(
        self, path: Path, notebook: Notebook, now: float, *, is_found: bool
    ) -> None:
        """After a day, or before its time (the clock was put back), it is not found, and the next run drops it."""
        async with StateStore.open(path, observer=notebook, clock=lambda: 1000.0) as store:
            store.record_upload(upload())
        async with StateStore.open(path, observer=notebook, clock=lambda: now) as store:
            assert bool(await store.unfinished_uploads()) is is_found
            await store.begin_run("spec.yaml")
        async with StateStore.open(path, observer=notebook, clock=lambda: 1000.0) as store:
            assert bool(await store.unfinished_uploads()) is is_found

    async def test_a_row_that_is_no_upload_is_passed_over(self, path: Path, notebook: Notebook) -> None:
        """What somebody else wrote into the file does not end the run."""
        async with StateStore.open(path, observer=notebook, clock=lambda: 1000.0) as store:
            await store._database.write(
                [
                    (
                        store._queries["record_upload"],
                        [
                            {**row, "repository": "a", "registry": "t.io", "at": 1.0}
                            for row in (
                                {"digest": "../x", "location": "http://x", "confirmed": 1},
                                {"digest": str(digest(1)), "location": b"http://x", "confirmed": 1},
                                {"digest": str(digest(2)), "location": "http://x", "confirmed": "much"},
                            )
                        ],
                    )
                ]
            )
            assert await store.unfinished_uploads() == []

    async def test_reading_notes_nothing(self, path: Path, notebook: Notebook) -> None:
        """A file that is open for reading only takes no notes."""
        async with StateStore.open(path, observer=notebook):
            pass
        async with StateStore.read(path) as store:
            with pytest.raises(StateError, match="reading only"):
                store.record_upload(upload())
