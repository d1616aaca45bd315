"""The model: what the target has to hold after a run that reports success, told without any code of Syncer's."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.support.personalities.store import Stored, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.faults.model import Model
    from tests.support.personalities.store import Repository

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_COMPANION = re.compile(r"sha256-([0-9a-f]{64})(\.[a-z]+)?")


def list_tag(subject: str) -> str:
    """Return the tag of the list of what refers to ``subject`` (distribution-spec "Referrers Tag Schema")."""
    return subject.replace(":", "-")


def subject_of(tag: str) -> str:
    """Return the digest that a companion tag speaks of; empty for any other tag."""
    found = _COMPANION.fullmatch(tag)
    return f"sha256:{found[1]}" if found else ""


def is_list(tag: str) -> bool:
    """Tell whether ``tag`` is that of a list of referrers."""
    return bool(subject_of(tag)) and "." not in tag


class Expectation:
    """What is owed to the target, repository by repository; both sides name them alike.

    Whatever refers to a manifest from before any run saw that manifest travels with it. What is attached
    later is found where the source's tags show it, for images that have a tag; or by a recheck.
    """

    def __init__(self, source: Model, target: Model) -> None:
        self.source = source
        self.target = target
        #: By repository and subject: what was attached before any run saw the subject, and all.
        self.early: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.attached: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._seen: dict[str, set[str]] = defaultdict(set)

    @property
    def repositories(self) -> list[str]:
        """The names of the source's repositories."""
        return sorted(name for name, held in self.source.held.items() if held.manifests)

    def tags(self, repository: str) -> dict[str, str]:
        """Return the source's tags but for lists of referrers, which clients keep for themselves."""
        tags = self.source.repository(repository).tags
        return {tag: digest for tag, digest in tags.items() if not is_list(tag)}

    def due(self, repository: str) -> dict[str, str]:
        """Return the tags that the target has not, or not as the source has them."""
        there = self.target.repository(repository).tags
        return {tag: digest for tag, digest in self.tags(repository).items() if there.get(tag) != digest}

    # ------------------------------------------------------------------ what happens

    def attach(self, repository: str, subject: str, referrer: str, tag: str = "") -> None:
        """Note that ``referrer`` refers to ``subject``: by its own word, or as what ``tag`` of cosign's stands for."""
        is_replaced = tag in self.attached[repository, subject]
        self.attached[repository, subject].add(tag or referrer)
        if is_replaced:
            self.early[repository, subject].discard(tag)
        elif subject not in self._seen[repository]:
            self.early[repository, subject].add(tag or referrer)
        if not tag and not self.source.has_referrers:
            self._list(self.source.repository(repository), subject)

    @staticmethod
    def _list(repository: Repository, subject: str) -> None:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": repository.referrers(subject)}
        raw = json.dumps(document).encode()
        repository.hold_manifest(sha256(raw), Stored.of(raw, OCI_INDEX))
        repository.point(list_tag(subject), sha256(raw))

    def has_run(self) -> None:
        """Note that a run has seen all there is."""
        for name in self.repositories:
            self._seen[name].update(self.source.repository(name).manifests)

    # ------------------------------------------------------------------ what is owed

    def needs(self, repository: str, digest: str, *, is_wide: bool = False, is_bare: bool = False) -> set[str]:
        """Return what has to be there before a tag for ``digest`` may be, with all that is owed beside.

        These are digests, and tags of cosign's.

        Args:
            repository: its name.
            digest: of a manifest at the source.
            is_wide: with everything that was ever attached, owed or not.
            is_bare: with nothing that was attached.
        """
        found: set[str] = set()
        seen: set[str] = set()
        held = self.source.repository(repository)
        waiting = [digest]
        while waiting:
            for manifest in self._manifests(held, waiting.pop()):
                if manifest in seen:
                    continue
                seen.add(manifest)
                found.add(manifest)
                found.update(held.manifests[manifest].links())
                owed = (
                    set() if is_bare else self._owed(repository, manifest, is_top=manifest == digest, is_wide=is_wide)
                )
                found |= owed
                waiting += [held.tags.get(one, one) for one in owed]
        return found

    def _owed(self, repository: str, subject: str, *, is_top: bool, is_wide: bool) -> set[str]:
        if is_wide:
            return self.attached[repository, subject]
        # What came later shows in the source's tags, unless there is an API that lists it.
        told = {one for one in self.attached[repository, subject] if subject_of(one) or not self.source.has_referrers}
        return self.early[repository, subject] | (told if is_top else set())

    @staticmethod
    def _manifests(held: Repository, digest: str) -> Iterator[str]:
        if digest in held.manifests:
            yield digest
            for link in held.manifests[digest].links():
                yield from Expectation._manifests(held, link)

    # ------------------------------------------------------------------ what is wrong

    def shortfalls(self, repository: str, tag: str, *, is_wide: bool = False, is_bare: bool = False) -> Iterator[str]:
        """Yield what the target lacks of a tag that is said to be in step; the arguments as for :meth:`needs`."""
        held, there = self.source.repository(repository), self.target.repository(repository)
        digest = held.tags[tag]
        shown = f"{repository}:{tag}"
        if there.tags.get(tag) != digest:
            yield f"{shown} is {there.tags.get(tag, 'missing')} in the target, and {digest} at the source"
            return
        needed = self.needs(repository, digest, is_wide=is_wide, is_bare=is_bare)
        for one in sorted(needed):
            if subject_of(one):
                if there.tags.get(one) != held.tags[one]:
                    yield f"{shown} is there without {one}"
            elif one not in there.manifests and one not in there.blobs:
                yield f"{shown} is there without {one}"
        for (name, subject), referrers in self.attached.items():
            if name == repository and subject in needed:
                for one in sorted(referrers & needed - self.listed(there, subject)):
                    if not subject_of(one):
                        yield f"{shown}: {one} is not listed as referring to {subject}"

    def listed(self, there: Repository, subject: str) -> set[str]:
        """Return what the target lists as referring to ``subject``, one way or the other."""
        if self.target.has_referrers:
            return {entry["digest"] for entry in there.referrers(subject)}
        found = there.find(list_tag(subject))
        return set(found[1].links()) if found else set()
