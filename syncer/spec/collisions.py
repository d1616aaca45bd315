"""Entries that would write the same target tag, found before any request.

Two entries collide when they have a target registry, a target repository and a tag in common. All
of it is decided with an example, or not at all: what cannot be shown here (two regular expressions,
a template that uses a placeholder twice) is left to the engine, which sees the names themselves.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, islice
from typing import TYPE_CHECKING

from syncer.errors import InvalidReference
from syncer.spec.intersection import common_name
from syncer.spec.routing import Image, image
from syncer.spec.selection import common_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from syncer.spec.globs import Glob
    from syncer.spec.values import LayoutSpec, RegistrySpec, SyncEntry

#: A thousand copies of one entry collide half a million times; a person reads a few.
MAX_COLLISIONS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Collision:
    """``first`` and ``second`` (indices of entries) would both write ``repository:tag``."""

    first: int
    second: int
    repository: str
    tag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """The entry at ``index`` would read what it writes.

    Either ``repository`` would be copied onto itself, or it is a target that the next run would take
    for a source, so that each run adds a copy of the copies (``is_growing``).
    """

    index: int
    repository: str
    is_growing: bool = False


def collisions(entries: Sequence[SyncEntry], registries: Mapping[str, RegistrySpec | LayoutSpec]) -> list[Collision]:
    """Return the pairs of ``entries`` that would write one tag, at most :data:`MAX_COLLISIONS` of them."""
    by_location: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        by_location[registries[entry.target_registry].location].append(index)
    found = (
        collision
        for indices in by_location.values()
        for first, second, repository in _shared_targets(entries, indices)
        if (collision := _collision(entries, first, second, repository))
    )
    return sorted(islice(found, MAX_COLLISIONS), key=lambda collision: (collision.second, collision.first))


def loops(entries: Sequence[SyncEntry], registries: Mapping[str, RegistrySpec | LayoutSpec]) -> list[Loop]:
    """Return the entries that would copy a repository onto itself, or feed on their own copies."""
    found: list[Loop] = []
    for index, entry in enumerate(entries):
        if registries[entry.source_registry].location != registries[entry.target_registry].location:
            continue
        if (repository := _fixed_point(entry)) is not None:
            found.append(Loop(index=index, repository=repository))
        elif (repository := _target_among_sources(entry)) is not None:
            found.append(Loop(index=index, repository=repository, is_growing=True))
    return found


def _collision(entries: Sequence[SyncEntry], first: int, second: int, repository: str) -> Collision | None:
    tag = common_tag(entries[first].tags, entries[second].tags)
    return None if tag is None else Collision(first=first, second=second, repository=repository, tag=tag)


def _shared_targets(entries: Sequence[SyncEntry], indices: Iterable[int]) -> Iterable[tuple[int, int, str]]:
    """Yield pairs of entries with a target repository that both write.

    Entries with one target each are matched by name, so that a spec of a thousand of them stays
    cheap; only globs are held against everything.
    """
    plain: dict[str, list[int]] = defaultdict(list)
    ranges: list[tuple[int, Image]] = []
    for index in indices:
        made = image(entries[index].source, entries[index].target)
        literal = made.globs[0].literal if len(made.globs) == 1 else None
        if literal is not None:
            plain[literal].append(index)
        else:
            ranges.append((index, made))
    for repository, sharing in plain.items():
        for first, second in combinations(sharing, 2):
            yield first, second, repository
    for position, (index, made) in enumerate(ranges):
        for other, its_image in ranges[position + 1 :]:
            if (shared := _overlap(entries, (index, made), (other, its_image))) is not None:
                yield index, other, shared
        for name, sharing in plain.items():
            if made.exact and any(glob.matches(name) for glob in made.globs):
                yield from ((min(index, other), max(index, other), name) for other in sharing)


def _overlap(entries: Sequence[SyncEntry], one: tuple[int, Image], two: tuple[int, Image]) -> str | None:
    (first, left), (second, right) = one, two
    if entries[first].source == entries[second].source and entries[first].target == entries[second].target:
        # The same sources through the same template: whatever the template does, it does it twice.
        return _common(left.globs, left.globs)
    if not (left.exact and right.exact):
        return None
    return _common(left.globs, right.globs)


def _fixed_point(entry: SyncEntry) -> str | None:
    """Return a repository that the entry routes to itself, or None."""
    repository = entry.source.literal
    if repository is not None:
        return repository if entry.target.render(repository) == repository else None
    pieces = entry.target.fixed().pieces
    if pieces == ((True, "path"),):
        return common_name(entry.source.glob, entry.source.glob)
    *before, last = pieces
    prefix = "".join(text for _, text in before)
    if last == (True, "name") and not any(held for held, _ in before) and (not prefix or prefix.endswith("/")):
        # prefix/{name} leads back to itself for what is under prefix/ already.
        return _common((entry.source.glob,), image(entry.source, entry.target).globs)
    return None


def _target_among_sources(entry: SyncEntry) -> str | None:
    """Return a repository that the entry would write and, once it is there, read. A literal source is but one."""
    if entry.source.literal is not None:
        return None
    made = image(entry.source, entry.target)
    shared = _common(made.globs, (entry.source.glob,))
    if made.exact or shared is None:
        return shared
    # What the template makes is known too roughly: only what it does make of an example counts.
    for example in (common_name(entry.source.glob, entry.source.glob), shared):
        if example is not None:
            with suppress(InvalidReference):
                target = entry.target.render(example)
                if entry.source.matches(target):
                    return target
    return None


def _common(left: Sequence[Glob], right: Sequence[Glob]) -> str | None:
    names = [name for one in left for two in right if (name := common_name(one, two)) is not None]
    return min(names, key=len, default=None)
