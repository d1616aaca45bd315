"""The mount index: positive knowledge, from this run and from the journal."""

from __future__ import annotations

from syncer.engine.holdings import Holdings
from syncer.engine.journal import MemoryJournal, ReadOnlyJournal
from syncer.events import TagOutcome
from syncer.oci import Digest
from syncer.plan.records import TagRecord

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))


async def test_what_was_added_is_held_and_can_be_mounted_from() -> None:
    """A repository that holds a digest is a mount source for every other, and none for itself."""
    holdings = Holdings("r", MemoryJournal())
    await holdings.add("one", [A, B])
    assert holdings.holds("one", A)
    assert not holdings.holds("two", A)
    assert holdings.mount_source("two", A) == "one"
    assert holdings.mount_source("one", A) == ""
    await holdings.add("two", [A])
    assert holdings.mount_source("three", A) == "two"
    await holdings.drop("two", [A, C])
    assert holdings.mount_source("three", A) == "one"


async def test_another_run_learns_from_the_journal() -> None:
    """A later run knows what an earlier one recorded, of its own registry only."""
    journal = MemoryJournal()
    await Holdings("r", journal).add("one", [A])
    later, elsewhere = Holdings("r", journal), Holdings("s", journal)
    await later.learn("one", [A, B])
    await elsewhere.learn("one", [A])
    assert later.holds("one", A)
    assert not later.holds("one", B)
    assert not elsewhere.holds("one", A)


async def test_a_digest_in_many_repositories_is_still_known_in_each() -> None:
    """The journal names four repositories a digest; the one asked about is found beyond them."""
    journal = MemoryJournal()
    for number in range(6):
        await journal.record_content("r", f"repo{number}", [A])
    holdings = Holdings("r", journal)
    await holdings.learn("repo0", [A])
    assert holdings.holds("repo0", A)
    assert holdings.mount_source("repo0", A)


async def test_memory_is_bounded_and_forgetting_is_harmless() -> None:
    """Beyond its capacity the index forgets the oldest digest, and learns it again when asked."""
    holdings = Holdings("r", MemoryJournal(), capacity=2)
    await holdings.add("one", [A, B, C])
    assert not holdings.holds("one", A)
    await holdings.learn("one", [A])
    assert holdings.holds("one", A)


async def test_a_read_only_journal_learns_nothing() -> None:
    """Runs that only look leave no trace."""
    journal = MemoryJournal()
    await journal.record_subset(A, "linux/amd64", B)
    looking = ReadOnlyJournal(journal)
    await looking.record_content("r", "one", [A])
    await looking.forget_content("r", "one", [A])
    await looking.record_subset(B, "linux/amd64", C)
    record = TagRecord(run="1", entry="e", source="s", target="t", tag="v", outcome=TagOutcome.COPIED)
    await looking.record_tag(record)
    assert await looking.subset(A, "linux/amd64") == B
    assert await journal.subset(B, "linux/amd64") is None
    assert await looking.tags("t") == {} == await looking.tags("t", ["v"])
    assert await looking.locate("r", [A]) == {}
    assert await looking.held("r", "one", [A]) == set()
    await journal.record_tag(record)
    assert await looking.tags("t", ["v", "w"]) == {"v": record}
