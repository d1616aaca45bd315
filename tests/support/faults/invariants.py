"""The invariants of reference section 6.4, judged over a history; pure.

Each invariant is a function of its own that returns what broke it; :func:`check` asks them all about one
run. I7 is about a process and not about its requests: see :mod:`tests.support.faults.footprint`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncer.events import RunStatus, TagOutcome
from tests.support.personalities.history import Change, Exchange, Step, What

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from syncer.events import TagFinished
    from syncer.telemetry.report import Report
    from tests.support.personalities.history import History

#: A repository: the name of its registry's site, and its own.
Place = tuple[str, str]
#: Seconds that anybody waits in one go; who is told more comes back after them, or leaves it to another run.
LONGEST_PAUSE = 300.0
#: Seconds for which a client leaves alone who wants less than that; and who throttles, and does not say for how long.
SHORTEST_PAUSE, LONGEST_BACKOFF = 1.0, 9.0
#: Seconds beyond which a Retry-After is a mistake.
LONGEST_WISH = 7 * 86_400.0
#: Requests that one fault may cost at most. The dearest is a lost commit of a blob: the HEAD that looks, the DELETE
#: of what is left, a POST, the source again (with a redirect), the PUT; and a token for each side.
LADDER_COST = 8
#: How often one and the same request may fail in a run: as often as the policy tries. However many faults there are,
#: they do not excuse each other. A blob that arrives bit by bit is asked for again while there is headway.
MOST_STRIKES, MOST_READINGS = 6, 16
#: Hops of one request; each is a strike where it is the fault that redirects.
MOST_HOPS = 11
#: Requests in a row without an answer after which a registry is taken not to be there.
GIVEN_UP = 6
#: How often one and the same request may be refused for its token: the one that was shown, and an older one.
MOST_REFUSALS = 2
#: Lists of referrers that clients keep under a tag (distribution-spec "Referrers Tag Schema"), and cosign's tags.
_REFERRERS_TAG = re.compile(r"sha256-[0-9a-f]{64}(\..+)?")
_IN_SESSION = (Step.PATCH, Step.PUT, Step.STATUS)
_REDIRECTS = (301, 302, 303, 307, 308)
_NAMELESS = (Step.POST, Step.PATCH, Step.STATUS, Step.ABORT)
_BLOB_WANTED = re.compile(r"(?:mount|digest)=sha256(?:%3A|:)([0-9a-f]{64})")
_SUCCESSES = (TagOutcome.COPIED, TagOutcome.IN_SYNC)


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A broken invariant; ``number`` is the place in the history where it shows."""

    invariant: str
    text: str
    number: int

    def __str__(self) -> str:
        return f"{self.invariant} at #{self.number}: {self.text}"


@dataclass(kw_only=True)
class Course:
    """One run, as far as it is to be judged.

    Attributes:
        since: the number of entries in the history when it began; ``until`` when it ended, None for now.
        pairs: from each target repository to the source repository that it is a copy of, tag for tag.
        report: what the run reported.
        finished: what it said of each tag.
        exit_code: what the command would have ended with.
        is_graceful: it was not killed.
        is_rerun: it follows a success, with nothing new: nothing may be written.
        budget: requests that it may cost when nothing fails; None for no bound.
        texts: what else it wrote (state, logs, messages), by name.
        is_whole: every tag of the sources is wanted.
        grace: seconds by which a request may be late: sent before a pause was known, seen after.
        heard: the statuses of the answers that it had, counted; None when all that were sent are taken for heard.
    """

    since: int = 0
    until: int | None = None
    pairs: Mapping[Place, Place] = field(default_factory=dict)
    report: Report | None = None
    finished: Sequence[TagFinished] = ()
    exit_code: int | None = None
    is_graceful: bool = True
    is_rerun: bool = False
    budget: int | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)
    is_whole: bool = False
    grace: float = 0.05
    heard: Mapping[int, int] | None = None


def check(history: History, course: Course, secrets: Mapping[str, Iterable[str]]) -> list[Violation]:
    """Return everything that broke an invariant in the course of a run.

    Args:
        history: of all registries, from their first content on.
        course: the run.
        secrets: the names that each secret may be sent to.
    """
    found = [
        *closed_tags(history, course),
        *tag_values(history, course),
        *secrecy(history, course, secrets),
        *contents(history, course),
        *pauses(history, course),
        *requests(history, course),
    ]
    if course.is_rerun:
        found += quiet(history, course)
    if course.is_graceful:
        found += sessions(history, course)
    if course.report is not None:
        found += agreement(history, course)
    return sorted(found, key=lambda violation: violation.number)


# ---------------------------------------------------------------------- what registries hold


class Held:
    """What one repository holds at some instant."""

    def __init__(self) -> None:
        self.blobs: set[str] = set()
        self.manifests: dict[str, tuple[str, ...]] = {}
        self.tags: dict[str, str] = {}
        self._whole: set[str] = set()

    def take(self, change: Change) -> None:
        """Go on by one change."""
        match change.what:
            case What.BLOB_STORED:
                self.blobs.add(change.name)
            case What.MANIFEST_STORED:
                self.manifests[change.name] = change.links
            case What.TAG_SET:
                self.tags[change.name] = change.content
            case What.TAG_DROPPED:
                self.tags.pop(change.name, None)
            case What.BLOB_DROPPED:
                self.blobs.discard(change.name)
                self._whole.clear()
            case What.MANIFEST_DROPPED:
                self.manifests.pop(change.name, None)
                self._whole.clear()

    def hole(self, digest: str) -> str:
        """Return something that is missing at or below ``digest``; empty when it is whole."""
        if digest in self.blobs or digest in self._whole:
            return ""
        if digest not in self.manifests:
            return digest
        missing = next(filter(None, map(self.hole, self.manifests[digest])), "")
        if not missing:
            self._whole.add(digest)
        return missing


def _replayed(history: History, until: int | None) -> Iterator[tuple[Change, dict[Place, Held]]]:
    """Yield each change with what is held after it."""
    held: dict[Place, Held] = defaultdict(Held)
    for entry in history.entries[:until]:
        if isinstance(entry, Change):
            held[entry.site, entry.repository].take(entry)
            yield entry, held


def held_at(history: History, until: int | None = None) -> dict[Place, Held]:
    """Return what every repository holds after so many entries of the history."""
    held: dict[Place, Held] = defaultdict(Held)
    for _, now in _replayed(history, until):
        held = now
    return held


def _exchanges(history: History, course: Course) -> Iterator[Exchange]:
    for entry in history.entries[course.since : course.until]:
        if isinstance(entry, Exchange):
            yield entry


# ---------------------------------------------------------------------- the invariants


def closed_tags(history: History, course: Course) -> Iterator[Violation]:
    """I1: after every request that changed something, the tags it touched resolve to something whole."""
    for change, held in _replayed(history, course.until):
        if change.number < course.since or change.cause is None:
            continue
        repository = held[change.site, change.repository]
        if change.what is What.TAG_SET:
            touched = [change.name]
        elif change.what in (What.BLOB_DROPPED, What.MANIFEST_DROPPED):
            touched = list(repository.tags)
        else:
            continue
        for tag in touched:
            if missing := repository.hole(repository.tags[tag]):
                text = f"{change.site}/{change.repository}:{tag} is {repository.tags[tag]} without {missing}"
                yield Violation(invariant="I1", text=text, number=change.number)


def tag_values(history: History, course: Course) -> Iterator[Violation]:
    """I2: a tag gets a value that the source's tag had during the run, and never an older one after a newer."""
    values: dict[tuple[Place, str], list[str]] = defaultdict(list)
    told = {(change.site, change.repository) for change in history.changes()}
    newest: dict[tuple[Place, str], int] = {}
    for change, held in _replayed(history, course.until):
        place = (change.site, change.repository)
        if change.what is What.TAG_SET:
            # What counts is what it had while the run was under way.
            seen = values[place, change.name]
            if change.number < course.since:
                seen.clear()
            seen.append(change.content)
        elif change.what is What.TAG_DROPPED and change.number < course.since:
            values[place, change.name].clear()
        if change.number < course.since or change.what is not What.TAG_SET or change.cause is None:
            continue
        source = course.pairs.get(place)
        if source is None or source not in told or _REFERRERS_TAG.fullmatch(change.name):
            continue
        had = values[source, change.name]
        shown = f"{change.site}/{change.repository}:{change.name}"
        if change.content not in had:
            now = held[source].tags.get(change.name, "nothing")
            text = f"{shown} became {change.content}, which its source never was in this run (it is {now})"
            yield Violation(invariant="I2", text=text, number=change.number)
            continue
        at = len(had) - 1 - had[::-1].index(change.content)
        if at < newest.get((place, change.name), 0):
            text = f"{shown} went back to {change.content}, which its source was before"
            yield Violation(invariant="I2", text=text, number=change.number)
        newest[place, change.name] = max(at, newest.get((place, change.name), 0))


def quiet(history: History, course: Course) -> Iterator[Violation]:
    """I3: a run after a success writes nothing."""
    for exchange in _exchanges(history, course):
        if exchange.site_kind == "registry" and exchange.method not in ("GET", "HEAD"):
            text = f"written in a run with nothing new: {exchange}"
            yield Violation(invariant="I3", text=text, number=exchange.number)


def secrecy(history: History, course: Course, secrets: Mapping[str, Iterable[str]]) -> Iterator[Violation]:
    """I4: no secret is sent to a name it does not belong to, nor found in what the run wrote."""
    for exchange in _exchanges(history, course):
        text = _shown(exchange)
        for secret, names in secrets.items():
            if secret in text and exchange.site not in names:
                owners = "/".join(sorted(names))
                said = f"a secret of {owners} was sent to {exchange.site}: {exchange.method} {exchange.step}"
                yield Violation(invariant="I4", text=said, number=exchange.number)
    number = len(history.entries)
    for name, data in course.texts.items():
        for secret, names in secrets.items():
            if any(form in data for form in forms_of(secret)):
                said = f"a secret of {'/'.join(sorted(names))} is in {name}"
                yield Violation(invariant="I4", text=said, number=number)


def _shown(exchange: Exchange) -> str:
    lines = [exchange.target, *(f"{key}: {value}" for key, value in exchange.headers.items())]
    scheme, _, value = exchange.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        try:
            lines.append(base64.b64decode(value).decode())
        except (binascii.Error, UnicodeDecodeError):
            lines.append(value)
    return "\n".join(lines)


def forms_of(secret: str) -> list[bytes]:
    """Return what ``secret`` looks like in a text: as it is, and within base64 at each of the three offsets."""
    forms = [secret.encode()]
    for before in range(3):
        data = bytes(before) + secret.encode()
        # The characters that hold bits of the secret alone.
        forms.append(base64.b64encode(data)[-(-before * 8 // 6) : len(data) * 8 // 6])
    return forms


def contents(history: History, course: Course) -> Iterator[Violation]:
    """I5: what is stored under a digest hashes to it."""
    for change in history.changes(What.BLOB_STORED, What.MANIFEST_STORED):
        if change.number >= course.since and change.content != change.name:
            text = f"{change.site}/{change.repository} holds {change.content} as {change.name}"
            yield Violation(invariant="I5", text=text, number=change.number)


def pauses(history: History, course: Course) -> Iterator[Violation]:
    """I6: nothing is sent to a host that has asked to be left alone, until its time is over.

    Who gives up a request at the moment of its answer does not know what that asks; such runs are not judged.
    """
    sent = Counter(one.status for one in _exchanges(history, course) if one.is_delivered)
    asking = {one.status for one in _exchanges(history, course) if one.is_delivered and one.pause is not None}
    if course.heard is not None and any(sent[status] > course.heard.get(status, 0) for status in asking):
        return
    until: dict[str, tuple[float, float]] = {}
    pending: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in _exchanges(history, course):
        # An answer counts from when it was ready: what had come in before it could not know.
        for earlier in [one for one in pending[exchange.site] if (one.ended_at or 0.0) <= exchange.at]:
            pending[exchange.site].remove(earlier)
            asked = _binding(earlier)
            begun = earlier.ended_at or 0.0
            if begun + asked > until.get(exchange.site, (0.0, 0.0))[1]:
                until[exchange.site] = begun, begun + asked
        if exchange.pause is not None and exchange.is_delivered:
            pending[exchange.site].append(exchange)
        begun, end = until.get(exchange.site, (0.0, 0.0))
        if begun + course.grace < exchange.at < end - course.grace:
            text = f"sent {end - exchange.at:.2f} s before the end of a pause: {exchange}"
            yield Violation(invariant="I6", text=text, number=exchange.number)


def _binding(exchange: Exchange) -> float:
    """Return the seconds of a pause that a client has to keep."""
    asked = exchange.pause or 0.0
    return asked if LONGEST_PAUSE < asked <= LONGEST_WISH else min(asked, LONGEST_PAUSE)


def requests(history: History, course: Course) -> Iterator[Violation]:
    """I6: no more requests than the budget, and what the faults cost."""
    if course.budget is None:
        return
    made = list(_exchanges(history, course))
    blobs = {digest for one in made for digest in _BLOB_WANTED.findall(one.target)}
    faults = 0
    struck: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for one in made:
        asked = _asked(one)
        if one.fault:
            faults += 1
            struck[asked] += 1
            # What opens an upload or adds to it does not say of which blob.
            most = _most_strikes(one) * (max(1, len(blobs)) if one.step in _NAMELESS else 1)
            if struck[asked] == most + 1:
                text = f"asked again after {most} failures: {one}"
                yield Violation(invariant="I6", text=text, number=one.number)
        elif one.status == 401 and "Authorization" in one.headers and refused[asked] < MOST_REFUSALS:
            # Tokens that are taken back, or have run out in a pause, are refused for all that is under way.
            faults += 1
            refused[asked] += 1
    allowed = course.budget + faults * LADDER_COST
    if len(made) > allowed:
        text = f"{len(made)} requests, where {course.budget} and {LADDER_COST} for each of {faults} faults are allowed"
        yield Violation(invariant="I6", text=text, number=made[-1].number)


def _most_strikes(exchange: Exchange) -> int:
    if exchange.status == 401 and exchange.is_delivered:
        return 2 * MOST_REFUSALS
    if exchange.status in _REDIRECTS:
        return MOST_HOPS
    return MOST_READINGS if exchange.step in (Step.BLOB_GET, Step.STORAGE) else MOST_STRIKES


def _asked(exchange: Exchange) -> str:
    """Return what tells a request from others: of an upload its registry gives the number, so that is no part of it."""
    if exchange.step in (*_IN_SESSION, Step.ABORT):
        digest = exchange.target.rpartition("digest=")[2] if exchange.step is Step.PUT else ""
        return f"{exchange.site} {exchange.step} {exchange.repository} {digest}"
    # A chain of redirects may lead to another address each time.
    target = exchange.target.partition("?")[0] if exchange.status in _REDIRECTS else exchange.target
    return f"{exchange.site} {exchange.step} {target}"


def sessions(history: History, course: Course) -> Iterator[Violation]:
    """I8: every upload that a client knows of ends by a commit or a DELETE, which the registry may refuse."""
    by_number = {exchange.number: exchange for exchange in history.seen}
    opened: dict[str, Change] = {}
    closed: set[str] = set()
    ends = (What.SESSION_COMMITTED, What.SESSION_DELETED, What.SESSION_EXPIRED)
    for entry in history.entries[course.since : course.until]:
        if isinstance(entry, Change):
            if entry.what is What.SESSION_OPENED:
                cause = by_number.get(entry.cause) if entry.cause is not None else None
                if cause is not None and cause.is_success and not cause.fault and entry.site not in closed:
                    opened[f"{entry.site} {entry.name}"] = entry
            elif entry.what in ends:
                opened.pop(f"{entry.site} {entry.name}", None)
        elif entry.step is Step.ABORT or (entry.step in _IN_SESSION and entry.status == 404):
            # Given up; or there is no such upload any more, by the registry's own word.
            opened.pop(f"{entry.site} {entry.reference.rpartition('/')[2]}", None)
        elif _binding(entry) > LONGEST_PAUSE:
            # Nothing more is sent there in this run, not even that.
            closed.add(entry.site)
            opened = {name: change for name, change in opened.items() if change.site != entry.site}
    resting = _resting(history, course) | _given_up(history, course)
    # Whose token service gives no token just now is in the same case.
    resting |= {site.removeprefix("auth.") for site in resting}
    for change in opened.values():
        if change.site in resting:
            continue
        text = f"{change.site}/{change.repository}: {change.name} was left open"
        yield Violation(invariant="I8", text=text, number=change.number)


def _resting(history: History, course: Course) -> set[str]:
    """Return the sites that still want to be left alone when a run that was stopped has ended: it does not wait.

    A 429 that names no time keeps a client away for as long as it thinks fit, which may be all the time it has.
    """
    if course.report is None or course.report.status is not RunStatus.INTERRUPTED or course.until is not None:
        return set()
    now = history.clock()
    return {
        exchange.site
        for exchange in _exchanges(history, course)
        if exchange.is_delivered and (exchange.ended_at or 0.0) + _rest(exchange) > now
    }


def _rest(exchange: Exchange) -> float:
    """Return the seconds for which a client leaves alone who throttles it, asked for or not."""
    if exchange.pause is None:
        return LONGEST_BACKOFF if exchange.status == 429 else 0.0
    pause = max(_binding(exchange), SHORTEST_PAUSE)
    # Who comes back does so a little later, lest all come back at once.
    return pause + 2 * min(1.0, pause / 10)


def _given_up(history: History, course: Course) -> set[str]:
    """Return the sites from which no answer came any more in the end: nobody can delete anything there."""
    missed: Counter[str] = Counter()
    for exchange in _exchanges(history, course):
        missed[exchange.site] = 0 if exchange.is_delivered and exchange.status else missed[exchange.site] + 1
    return {site for site, count in missed.items() if count >= GIVEN_UP}


def agreement(history: History, course: Course) -> Iterator[Violation]:
    """I9: what the run says of each tag, and with which it ends, is what the registries hold."""
    number = len(history.entries) if course.until is None else course.until
    held = held_at(history, course.until)
    moved = _moved_by_others(history, course)
    for event in course.finished:
        if event.digest is None and _REFERRERS_TAG.fullmatch(event.tag):
            # What a list names was brought; where there is a referrers API, no tag is.
            continue
        place = place_of(event.target)
        tag = f"{event.target}:{event.tag}"
        now = held[place].tags.get(event.tag, "")
        if event.outcome in _SUCCESSES and (place, event.tag) not in moved:
            if now != event.digest:
                text = f"{tag} is said to be {event.outcome} as {event.digest}, and is {now or 'not there'}"
                yield Violation(invariant="I9", text=text, number=number)
            elif missing := held[place].hole(now):
                text = f"{tag} is said to be {event.outcome}, and lacks {missing}"
                yield Violation(invariant="I9", text=text, number=number)
        elif event.outcome is TagOutcome.FAILED and _was_told(history, course, held, place, event.tag):
            text = f"{tag} is said to have failed, and was written, and the run could know ({event.error})"
            yield Violation(invariant="I9", text=text, number=number)
    for text in (*inconsistencies(course), *_overlooked(history, course), *_falsely_skipped(history, course)):
        yield Violation(invariant="I9", text=text, number=number)


def _moved_by_others(history: History, course: Course) -> set[tuple[Place, str]]:
    """Return the tags that were set or dropped in the course of the run by no request."""
    return {
        ((change.site, change.repository), change.name)
        for change in history.changes(What.TAG_SET, What.TAG_DROPPED, since=course.since)
        if change.cause is None
    }


def _was_told(history: History, course: Course, held: Mapping[Place, Held], place: Place, tag: str) -> bool:
    """Tell whether a tag was written in this run to what its source is, and an answer said so afterwards."""
    source = course.pairs.get(place)
    if source is None or held[source].tags.get(tag) != held[place].tags.get(tag):
        return False
    causes = [
        change.cause
        for change in history.changes(What.TAG_SET, since=course.since)
        if (change.site, change.repository) == place and change.name == tag and change.cause is not None
    ]
    return bool(causes) and any(
        exchange.is_success and not exchange.fault and exchange.reference == tag
        for exchange in _exchanges(history, course)
        if (exchange.site, exchange.repository) == place and exchange.number >= causes[0]
    )


def inconsistencies(course: Course) -> Iterator[str]:
    """Yield where report, events and exit code do not agree with each other."""
    report = course.report
    assert report is not None
    outcomes = defaultdict(int, dict.fromkeys(TagOutcome, 0))
    for event in course.finished:
        outcomes[event.outcome] += 1
    if course.finished and dict(outcomes) != report.totals.tags:
        yield f"the report counts {report.totals.tags}, and told {dict(outcomes)}"
    is_bad = bool(report.failures) or outcomes[TagOutcome.FAILED] > 0
    is_left = bool(report.deferrals) or outcomes[TagOutcome.DEFERRED] + outcomes[TagOutcome.CANCELLED] > 0
    if report.status is RunStatus.DONE and (is_bad or is_left or report.unfinished):
        yield f"a run is done that has failures, or left {report.unfinished} tags"
    if course.exit_code is not None and (course.exit_code == 0) != (report.status is RunStatus.DONE):
        yield f"the exit code is {course.exit_code}, and the run is {report.status}"


def _overlooked(history: History, course: Course) -> Iterator[str]:
    """Yield the tags that a run which calls itself done has said nothing of."""
    report = course.report
    if not course.is_whole or report is None or report.status is not RunStatus.DONE:
        return
    before, after = held_at(history, course.since), held_at(history, course.until)
    told = {(place_of(event.target), event.tag) for event in course.finished}
    for target, source in course.pairs.items():
        for tag in before[source].tags.keys() & after[source].tags.keys():
            # Where the source has a referrers API, its lists under tags are nothing to copy.
            if (target, tag) not in told and not _REFERRERS_TAG.fullmatch(tag):
                yield f"{source[0]}/{source[1]}:{tag} was overlooked by a run that calls itself done"


def _falsely_skipped(history: History, course: Course) -> Iterator[str]:
    """Yield the tags that are said to have gone from the source, and were there all the time."""
    skipped = [event for event in course.finished if event.outcome is TagOutcome.SKIPPED]
    if not skipped:
        return
    dropped = {(one.site, one.repository, one.name) for one in history.changes(What.TAG_DROPPED, since=course.since)}
    held = held_at(history, course.until)
    for event in skipped:
        source = place_of(event.source)
        if event.tag in held[source].tags and (*source, event.tag) not in dropped:
            yield f"{event.target}:{event.tag} is said to be skipped, and the source has it"


def place_of(name: str) -> Place:
    """Return the place of ``host:port/repository``, as events name it."""
    host, _, repository = name.partition("/")
    return host.partition(":")[0], repository
