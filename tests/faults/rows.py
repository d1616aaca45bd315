"""The rows of the fault matrix, by the lines of reference section 6.2, and what is to come of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.matrix import CONVERGES, STEPS, Cell, Outcome, Row, ends
from tests.support.faults import exchanges as fault
from tests.support.personalities.history import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.faults.injection import Fault

#: Steps that are taken in every world; the others only come about when something else has gone wrong.
USUAL = frozenset(STEPS) - {Step.STATUS, Step.BLOB_HEAD, Step.ABORT}
READS = frozenset(
    {Step.TOKEN, Step.TAGS, Step.MANIFEST_HEAD, Step.MANIFEST_GET, Step.REFERRERS, Step.BLOB_GET, Step.STORAGE}
)
DOCUMENTS = frozenset({Step.TOKEN, Step.TAGS, Step.MANIFEST_GET, Step.REFERRERS})
BLOBS = frozenset({Step.BLOB_GET, Step.STORAGE})
MANIFEST_PUTS = frozenset({Step.MANIFEST_PUT_DIGEST, Step.MANIFEST_PUT_TAG})
#: What has to go wrong first for each of the rest.
REACHED_BY: Mapping[Step, tuple[tuple[Step, Fault], ...]] = {
    Step.STATUS: ((Step.PATCH, fault.LOST_ANSWER),),
    Step.BLOB_HEAD: ((Step.PUT, fault.LOST_ANSWER),),
    Step.ABORT: ((Step.PUT, fault.INTERNAL),),
}
#: Steps whose failure is made up for by other requests, however often they fail.
OPTIONAL = frozenset({Step.MOUNT, Step.ABORT})
#: Steps that come about only after something else has gone wrong, and are asked so often at most.
RARE = frozenset({Step.STATUS, Step.BLOB_HEAD})


def rows() -> Iterator[Row]:
    """Yield every row."""
    yield from _connections()
    yield from _throttling()
    yield from _statuses()
    yield from _tokens()
    yield from _bodies()
    yield from _ranges()
    yield from _refusals()
    yield from _redirects()
    yield from _uploads()
    yield from _others()
    yield from _pages()
    yield from _slow()


def cells() -> list[Cell]:
    """Return every cell."""
    return [Cell(row=row, step=step) for row in rows() for step in STEPS if step in row.steps]


def _each(
    faults: Iterable[Fault],
    steps: frozenset[Step],
    *,
    times: int | None = 1,
    outcome: Outcome = CONVERGES,
    at: Mapping[Step, Outcome] | None = None,
    before: tuple[tuple[Step, Fault], ...] = (),
) -> Iterator[Row]:
    """Yield a row for each fault, and one more for each step that is reached by another fault only."""
    for one in faults:
        usual = steps & one.steps & (USUAL if not before else frozenset(STEPS))
        if usual:
            yield Row(fault=one, steps=usual, times=times, outcome=outcome, at=at or {}, before=before)
        for step in sorted(steps & one.steps - usual):
            earlier = REACHED_BY[step]
            yield Row(
                fault=one,
                steps=frozenset({step}),
                times=times,
                outcome=outcome,
                at=at or {},
                before=earlier,
                is_reached=True,
            )


ALL = frozenset(STEPS)


def _connections() -> Iterator[Row]:
    """RST and EOF before headers, in them, in the body, after the body; lost answers."""
    yield from _each(fault.LOST_CONNECTIONS, ALL)
    always = ALL - RARE
    optional = dict.fromkeys(OPTIONAL, CONVERGES)
    lost = ends("ConnectionFailed")
    yield from _each([fault.RESET_AT_ONCE], always, times=None, outcome=lost, at=optional)
    # What was done and not heard of is found out by looking.
    found = {**optional, Step.PUT: CONVERGES, Step.PATCH: CONVERGES}
    yield from _each([fault.CUT_HEADERS, fault.LOST_ANSWER], always, times=None, outcome=lost, at=found)
    yield from _each([fault.RESET_AT_ONCE, fault.CUT_HEADERS], RARE, times=3)
    # Who answers nothing at all any more is taken not to be there: its status is all that is asked of it then.
    yield from _each([fault.RESET_AT_ONCE, fault.CUT_HEADERS, fault.LOST_ANSWER], RARE, times=None, outcome=lost)


def _throttling() -> Iterator[Row]:
    """429 with Retry-After in seconds, as a date, none, absurd; and for longer than anybody waits."""
    yield from _each(fault.THROTTLING, ALL)
    yield from _each([fault.TOO_MANY_SECONDS], USUAL, times=None, outcome=ends("RateLimitReached", 75))
    yield from _each([fault.TOO_MANY_HOURS], USUAL, outcome=ends("RateLimitReached", 75))


def _statuses() -> Iterator[Row]:
    """5xx and the other passing answers, once and always."""
    yield from _each([*fault.PASSING, fault.HUGE_ERROR], ALL)
    optional = dict.fromkeys({*OPTIONAL, *RARE}, CONVERGES)
    failed = ends("ServerFailure")
    yield from _each([fault.UNAVAILABLE], ALL, times=None, outcome=failed, at=optional)
    # What is there was done, whatever a proxy says; not so an upload: after 500 some registries have thrown it away.
    unfinished = dict.fromkeys({Step.POST, Step.PATCH}, failed)
    yield from _each([fault.DONE_BUT_FAILED], ALL, times=None, at=unfinished)


def _tokens() -> Iterator[Row]:
    """401 in mid-run and for ever; what a token service may leave out, or get wrong."""
    yield from _each([fault.EXPIRED], ALL)
    # To a question for referrers both have been seen to mean that there is no such question (reference 1.6): the tag
    # stands in.
    # One that may not be mounted is uploaded.
    refused = {Step.REFERRERS: CONVERGES, Step.MOUNT: CONVERGES}
    yield from _each([fault.REFUSED], USUAL, times=None, outcome=ends("Unauthorized", 8), at=refused)
    yield from _each([fault.DENIED], USUAL, times=None, outcome=ends("Denied", 8), at=refused)
    token = frozenset({Step.TOKEN})
    yield from _each([fault.NO_LIFETIME, fault.NO_TIME, fault.ACCESS_TOKEN], token, times=None)
    yield from _each([fault.NO_TOKEN], token, times=None, outcome=ends("ProtocolViolation"))
    yield from _each([fault.SUBSET], token, times=None, outcome=ends("Unauthorized", 8))


def _bodies() -> Iterator[Row]:
    """Truncated, short, long and wrong bodies, once and always."""
    yield from _each([fault.TRUNCATED, fault.CHUNKED, fault.CHUNKED_DOCUMENT, fault.CUT_AT_END], READS)
    yield from _each(fault.WRONG_BYTES, BLOBS)
    sizes = [fault.SHORT, fault.EXTRA, fault.EXTRA_CHUNKED, fault.EMPTY]
    yield from _each(sizes, BLOBS, times=None, outcome=ends("SizeMismatch", 4))
    yield from _each([fault.FLIPPED, fault.PADDED], BLOBS, times=None, outcome=ends("DigestMismatch", 4))
    yield from _each([fault.TRUNCATED, fault.CHUNKED_SHORT], BLOBS, times=None, outcome=ends("ConnectionFailed"))
    # What has no digest to be held against is told when it cannot be read; of tags another page is asked for first.
    unread = {Step.MANIFEST_GET: CONVERGES, Step.TAGS: CONVERGES}
    for one in (fault.SHORT_DOCUMENT, fault.EXTRA_DOCUMENT, fault.EMPTY_DOCUMENT):
        # Nothing at all is how some answer who have no referrers API (reference 1.6).
        absent = {Step.REFERRERS: CONVERGES} if one is fault.EMPTY_DOCUMENT else {}
        garbled = ends("ProtocolViolation")
        yield from _each([one], DOCUMENTS, outcome=garbled, at=unread | absent)
        read = {Step.MANIFEST_GET: ends("DigestMismatch", 4)}
        yield from _each([one], DOCUMENTS, times=None, outcome=garbled, at=read | absent)
    manifest = frozenset({Step.MANIFEST_GET})
    yield from _each([fault.FLIPPED_MANIFEST], manifest)
    yield from _each([fault.OF_BEFORE], manifest, times=None)
    yield from _each([fault.FLIPPED_MANIFEST], manifest, times=None, outcome=ends("DigestMismatch", 4))


def _ranges() -> Iterator[Row]:
    """What may be answered to a Range: the whole, another part, a refusal."""
    answers = [fault.NO_RANGES, fault.WRONG_RANGE, fault.RANGE_OF_OTHER_SIZE, fault.RANGE_NONSENSE, fault.UNSATISFIABLE]
    yield from _each([fault.UNASKED_PARTIAL], BLOBS, times=None, outcome=ends("ProtocolViolation"))
    for step in sorted(BLOBS):
        yield from _each(answers, frozenset({step}), times=None, before=((step, fault.CUT_BODY),))


def _refusals() -> Iterator[Row]:
    """404, 405 and 413 with pages of HTML, as proxies have them."""
    there = frozenset({Step.TAGS, Step.MANIFEST_GET, Step.BLOB_GET, Step.POST, Step.PUT, Step.PATCH})
    yield from _each([fault.MISSING_PAGE], there | MANIFEST_PUTS, times=None, outcome=ends("NotFound"))
    # A tag that the source seems to have lost is read all the same.
    yield from _each([fault.MISSING_PAGE], frozenset({Step.MANIFEST_HEAD}), times=None)
    asked = frozenset({Step.REFERRERS, Step.MOUNT, Step.STATUS, Step.ABORT})
    yield from _each([fault.MISSING_PAGE], asked, times=None)
    yield from _each([fault.MISSING_PAGE], frozenset({Step.TOKEN}), times=None, outcome=ends("StatusError"))
    yield from _each(
        [fault.NOT_ALLOWED], asked | {Step.MANIFEST_HEAD, Step.POST}, times=None, at={Step.POST: ends("Unsupported")}
    )
    yield from _each([fault.TOO_LARGE], frozenset({Step.PUT}))
    yield from _each([fault.TOO_LARGE], MANIFEST_PUTS | {Step.PUT, Step.PATCH}, times=None, outcome=ends("StatusError"))


def _redirects() -> Iterator[Row]:
    """Circles, chains without an end, addresses that must not be asked, signatures that have expired."""
    steps = frozenset({Step.TAGS, Step.MANIFEST_GET, Step.REFERRERS, Step.BLOB_GET})
    yield from _each(
        [fault.TO_ITSELF, fault.TO_MANY, fault.TO_NOWHERE], steps, times=None, outcome=ends("ProtocolViolation")
    )
    yield from _each([fault.TO_METADATA], steps, outcome=ends("UnsafeAddress"))
    storage = frozenset({Step.STORAGE})
    yield from _each([fault.EXPIRED_SIGNATURE], storage)
    yield from _each([fault.EXPIRED_SIGNATURE], storage, before=((Step.STORAGE, fault.CUT_BODY),))
    yield from _each([fault.EXPIRED_SIGNATURE], storage, times=None, outcome=ends("Denied", 8))


def _uploads() -> Iterator[Row]:
    """Locations of all kinds, sessions that expire, mounts that do not hold."""
    opening = frozenset({Step.POST, Step.MOUNT})
    yield from _each([fault.LOCATION_ABSOLUTE, fault.LOCATION_RELATIVE, fault.LOCATION_FRAGMENT], opening, times=None)
    yield from _each([fault.LOCATION_MISSING], opening)
    yield from _each(
        [fault.LOCATION_MISSING, fault.LOCATION_NONSENSE],
        frozenset({Step.POST}),
        times=None,
        outcome=ends("ProtocolViolation"),
    )
    yield from _each([fault.LOCATION_METADATA], frozenset({Step.POST}), outcome=ends("UnsafeAddress"))
    yield from _each([fault.SESSION_EXPIRED], frozenset({Step.PATCH, Step.PUT, Step.STATUS}))
    yield from _each([fault.SESSION_EXPIRED], frozenset({Step.PATCH, Step.PUT}), times=None, outcome=ends("NotFound"))
    yield from _each([fault.MOUNTED_THEN_GONE, fault.MOUNTED_IN_WORDS], frozenset({Step.MOUNT}))
    yield from _each([fault.MOUNTED_IN_WORDS], frozenset({Step.POST}))


def _others() -> Iterator[Row]:
    """What somebody else does meanwhile: a tag moves or goes, at the source or at the target; a blob is collected."""
    yield from _each([fault.TAG_MOVES, fault.TAG_MOVES_AFTER, fault.TAG_GOES], ALL)
    yield from _each([fault.BLOB_GONE], BLOBS, times=None, outcome=ends("NotFound"))


def _pages() -> Iterator[Row]:
    """Log-in pages, bytes that are no text, encodings that nobody asked for."""
    yield from _each(
        [fault.PORTAL, fault.NOT_UTF8],
        DOCUMENTS,
        times=None,
        outcome=ends("ProtocolViolation"),
        at={Step.MANIFEST_GET: ends("MalformedManifest")},
    )
    yield from _each([fault.PORTAL], BLOBS, times=None, outcome=ends("SizeMismatch", 4))
    yield from _each(
        [fault.PORTAL],
        frozenset({Step.POST, Step.PUT, Step.PATCH, Step.MANIFEST_PUT_DIGEST, Step.MANIFEST_PUT_TAG}),
        times=None,
        outcome=ends("ProtocolViolation"),
        # A PATCH may be answered with 200; the commit shows that the bytes have not arrived.
        at={Step.PATCH: ends("DigestMismatch", 4)},
    )
    # With the digest of what was put into it, so that what arrives is not that.
    changed = {Step.MANIFEST_GET: ends("DigestMismatch", 4)}
    yield from _each([fault.GZIPPED], DOCUMENTS, times=None, outcome=ends("ProtocolViolation"), at=changed)
    yield from _each([fault.GZIPPED_BLOB], BLOBS)
    yield from _each([fault.GZIPPED_BLOB], BLOBS, times=None, outcome=ends("SizeMismatch", 4))


def _slow() -> Iterator[Row]:
    """One byte in ten seconds; headers that never end; nothing at all."""
    yield from _each([fault.BLACK_HOLE, fault.SLOW_HEADERS], ALL)
    yield from _each([fault.SLOW_LORIS], READS)
    yield from _each([fault.TAKES_NOTHING], frozenset({Step.PATCH, Step.PUT}))
    yield from _each([fault.BLACK_HOLE], USUAL, times=None, outcome=ends("Timeout"), at={Step.MOUNT: CONVERGES})
