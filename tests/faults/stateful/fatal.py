"""Faults that nobody survives, and whom they hit: so many tags have to be reported as failed, and no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults.stateful.expectation import subject_of
from tests.support.faults import exchanges
from tests.support.personalities.history import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.stateful.expectation import Expectation
    from tests.support.faults.injection import Fault, Injector
    from tests.support.personalities.history import Exchange

#: A repository and a tag; the tag is empty for the repository as a whole.
Item = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Fatal:
    """A fault that lasts as long as the run.

    Attributes:
        kind: one of :data:`KINDS`.
        repository: where.
        tag: an image there.
        number: which part of the image, counted round.
    """

    kind: str
    repository: str = ""
    tag: str = ""
    number: int = 0

    def __repr__(self) -> str:
        said = {"repository": self.repository, "tag": self.tag, "number": self.number}
        return f"Fatal(kind={self.kind!r}{''.join(f', {key}={one!r}' for key, one in said.items() if one)})"


@dataclass
class Verdict:
    """Who must fail, and who may: knowledge that only Syncer has decides about the difference."""

    must: set[Item] = field(default_factory=set)
    may: set[Item] = field(default_factory=set)
    #: What is left for another run is no failure.
    is_deferring: bool = False


def arm(fatal: Fatal, injector: Injector, expected: Expectation, *, is_recheck: bool) -> Verdict:
    """Let ``fatal`` strike from now on, and return whom it hits."""
    return KINDS[fatal.kind](fatal, injector, expected, is_recheck)


def _strike(injector: Injector, steps: tuple[Step, ...], fault: Fault, when: Callable[[Exchange], bool]) -> None:
    for step in steps:
        injector.at(step, fault, times=None, when=when)


def _hit(expected: Expectation, digest: str, *, is_absent: Callable[[str], bool], is_recheck: bool) -> Verdict:
    """Return who needs ``digest`` from the source: surely so where the target has it nowhere."""
    verdict = Verdict()
    for repository in expected.repositories:
        due = expected.due(repository)
        for tag, top in expected.tags(repository).items():
            wide = expected.needs(repository, top, is_wide=True)
            if digest not in wide:
                continue
            if tag in due and is_absent(repository) and digest in expected.needs(repository, top):
                verdict.must.add((repository, tag))
            if tag in due or is_recheck:
                verdict.may.add((repository, tag))
            verdict.may |= {(repository, one) for one in _companions(expected, repository, wide)}
    verdict.may |= verdict.must
    # A companion belongs to its subject: by which name it is told depends on who comes across it first.
    verdict.must = {(repository, tag) for repository, tag in verdict.must if not subject_of(tag)}
    return verdict


def _companions(expected: Expectation, repository: str, subjects: set[str]) -> list[str]:
    tags = expected.source.repository(repository).tags
    return [tag for tag in tags if subject_of(tag) in subjects]


def _blob(fault: Fault, *steps: Step) -> Callable[[Fatal, Injector, Expectation, bool], Verdict]:
    def strike(fatal: Fatal, injector: Injector, expected: Expectation, is_recheck: bool) -> Verdict:  # noqa: FBT001 - as all in KINDS
        held = expected.source.repository(fatal.repository)
        if fatal.tag not in held.tags:
            return Verdict()
        needed = expected.needs(fatal.repository, held.tags[fatal.tag])
        # One bit of nothing cannot be wrong.
        blobs = sorted(digest for digest in needed if held.blobs.get(digest))
        digest = blobs[fatal.number % len(blobs)]
        known = [digest in repository.blobs for repository in expected.target.held.values()]
        hexadecimal = digest.removeprefix("sha256:")
        _strike(injector, steps, fault, lambda exchange: hexadecimal in exchange.target)
        return _hit(expected, digest, is_absent=lambda _: not any(known), is_recheck=is_recheck)

    return strike


def _manifest(fatal: Fatal, injector: Injector, expected: Expectation, is_recheck: bool) -> Verdict:  # noqa: FBT001 - as all in KINDS
    held = expected.source.repository(fatal.repository)
    if fatal.tag not in held.tags:
        return Verdict()
    needed = expected.needs(fatal.repository, held.tags[fatal.tag])
    manifests = sorted(digest for digest in needed if digest in held.manifests)
    digest = manifests[fatal.number % len(manifests)]
    stored = {name: digest in repository.manifests for name, repository in expected.target.held.items()}

    def is_it(exchange: Exchange) -> bool:
        tags = expected.source.repository(exchange.repository).tags
        is_source = exchange.site == expected.source.host
        return is_source and tags.get(exchange.reference, exchange.reference) == digest

    _strike(injector, (Step.MANIFEST_GET,), exchanges.DENIED, is_it)
    return _hit(expected, digest, is_absent=lambda name: not stored.get(name), is_recheck=is_recheck)


def _tag(fatal: Fatal, injector: Injector, expected: Expectation, is_recheck: bool) -> Verdict:  # noqa: FBT001 - as all in KINDS
    _strike(
        injector,
        (Step.MANIFEST_PUT_TAG,),
        exchanges.DENIED,
        lambda exchange: (exchange.repository, exchange.reference) == (fatal.repository, fatal.tag),
    )
    item = (fatal.repository, fatal.tag)
    if fatal.tag in expected.due(fatal.repository):
        return Verdict(must={item}, may={item})
    return Verdict(may={item} if is_recheck else set())


def _uploads(fatal: Fatal, injector: Injector, expected: Expectation, is_recheck: bool) -> Verdict:  # noqa: FBT001 - as all in KINDS
    name = fatal.repository
    _strike(
        injector,
        (Step.POST, Step.MOUNT),
        exchanges.DENIED,
        lambda exchange: (exchange.site, exchange.repository) == (expected.target.host, name),
    )
    held, there = expected.source.repository(name), expected.target.repository(name)
    verdict = Verdict()
    for tag, top in expected.due(name).items():
        wanted = [digest for digest in expected.needs(name, top) if digest in held.blobs]
        if not subject_of(tag) and any(digest not in there.blobs for digest in wanted):
            verdict.must.add((name, tag))
    verdict.may = {(name, tag) for tag in (expected.tags(name) if is_recheck else expected.due(name))}
    verdict.may |= {(name, tag) for tag in held.tags if subject_of(tag)}
    return verdict


def _list(fatal: Fatal, injector: Injector, expected: Expectation, _is_recheck: bool) -> Verdict:  # noqa: FBT001 - as all in KINDS
    if fatal.repository not in expected.repositories:
        return Verdict()
    _strike(
        injector,
        (Step.TAGS,),
        exchanges.INTERNAL,
        lambda exchange: (exchange.site, exchange.repository) == (expected.source.host, fatal.repository),
    )
    items = {(fatal.repository, "")}
    return Verdict(must=items, may=items)


def _hours(fatal: Fatal, injector: Injector, _expected: Expectation, _is_recheck: bool) -> Verdict:  # noqa: FBT001 - as all in KINDS
    step = (Step.BLOB_GET, Step.MANIFEST_GET, Step.MANIFEST_HEAD, Step.PUT, Step.TAGS)[fatal.number % 5]
    injector.at(step, exchanges.TOO_MANY_HOURS, nth=1 + fatal.number // 5, times=None)
    return Verdict(is_deferring=True)


KINDS: dict[str, Callable[[Fatal, Injector, Expectation, bool], Verdict]] = {
    "the source's blob is corrupt": _blob(exchanges.FLIPPED, Step.BLOB_GET, Step.STORAGE),
    "the source's blob is gone": _blob(
        exchanges.answering("404", 404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}'), Step.BLOB_GET
    ),
    "the source's blob fails": _blob(exchanges.INTERNAL, Step.BLOB_GET),
    "the source's manifest is denied": _manifest,
    "the tag is denied": _tag,
    "uploads are denied": _uploads,
    "the list fails": _list,
    "the allowance is used up": _hours,
}
