"""What ``index.json`` says, in memory: tags, manifests without a tag, and who refers to whom.

Pure: no files. The state changes only by :meth:`LayoutIndex.apply`, and a change says what is to
be rather than what to do, so that a journal of changes may be applied again, from its start, to a
state that holds them already: that is what happens after a crash between writing ``index.json``
and emptying the journal.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncer.errors import ContentError, InvalidReference, LayoutError, MalformedManifest
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import parse_object
from syncer.oci.reference import is_tag
from syncer.oci.referrers import is_companion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: image-spec annotations.md: where an entry of index.json keeps its tag.
REF_NAME = "org.opencontainers.image.ref.name"
#: Entries of index.json that are made into text at once; the interpreter lock is free between.
_BATCH = 500
#: New tags that wait unsorted until somebody lists them, at least.
_UNSORTED = 1024
#: Levels of the members that others have put into index.json.
_DEEPEST = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Put:
    """A manifest is here: under ``tag``, or by digest only.

    ``covers`` are manifests that need no entry of their own from now on: this one lists them.
    ``referrer`` is how this manifest is shown among the referrers of ``subject``.
    """

    descriptor: Descriptor
    tag: str = ""
    covers: tuple[Digest, ...] = ()
    subject: Digest | None = None
    referrer: Descriptor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Untag:
    """A tag is gone; its manifest stays."""

    tag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Remove:
    """A manifest is gone, and its tags; ``orphans`` are those it covered, which need entries now."""

    digest: Digest
    orphans: tuple[Descriptor, ...] = ()


Change = Put | Untag | Remove


class LayoutIndex:
    """The entries of one layout."""

    def __init__(self, *, members: Mapping[str, Any] | None = None) -> None:
        #: Members of index.json besides its entries, kept for whoever wrote them.
        self._members = dict(members or {})
        self._tags: dict[str, Descriptor] = {}
        self._listed: dict[Digest, Descriptor] = {}
        self._names: dict[Digest, set[str]] = {}
        #: One of the descriptors of each manifest that has a tag.
        self._named: dict[Digest, Descriptor] = {}
        self._subjects: dict[Digest, dict[Digest, Descriptor]] = {}
        self._subject_of: dict[Digest, Digest] = {}
        # Sorted tags, and fresh ones that are not sorted yet. The loop's thread reads while a worker changes them, so
        # the pair is replaced as one, and each list is changed only by calls that are one step to the interpreter.
        self._order: tuple[list[str], list[str]] = ([], [])
        #: False while somebody else's manifests have not been searched for subjects.
        self.knows_subjects = False

    # ---------------------------------------------------------------- reading

    def tags(self) -> list[str]:
        """Return the tags in lexical order; names that are no tags by the grammar are left out."""
        ordered, fresh = self._order
        return sorted([*ordered, *fresh]) if fresh else list(ordered)

    def tag_digests(self, tags: Iterable[str]) -> dict[str, Digest]:
        """Return what each of ``tags`` stands for, without those that are gone."""
        return {tag: found.digest for tag in tags if (found := self._tags.get(tag)) is not None}

    def find(self, reference: str) -> Descriptor | None:
        """Return the plain descriptor of a tag or digest that has an entry."""
        found = self._tags.get(reference)
        if found is None and ":" in reference:
            found = self._find_digest(Digest(reference))
        return None if found is None else _plain(found)

    def _find_digest(self, digest: Digest) -> Descriptor | None:
        return self._named.get(digest) or self._listed.get(digest)

    def has_tag(self, tag: str) -> bool:
        """Tell whether there is such a tag."""
        return tag in self._tags

    def is_listed(self, digest: Digest) -> bool:
        """Tell whether the manifest has an entry without a tag."""
        return digest in self._listed

    def referrers(self, digest: Digest) -> list[Descriptor]:
        """Return the known manifests whose subject is ``digest``, in the order they came."""
        return list(self._subjects.get(digest, {}).values())

    def digests(self) -> list[Digest]:
        """Return the digest of every entry, each once."""
        return [*self._names, *self._listed]

    def is_companion(self, digest: Digest) -> bool:
        """Tell whether the manifest has tags, and each of them says that it belongs to another one."""
        names = self._names.get(digest, ())
        return bool(names) and all(is_companion(name) for name in names)

    def holds(self, change: Put) -> bool:
        """Tell whether ``change`` would change nothing."""
        digest = change.descriptor.digest
        known = self._tags.get(change.tag) if change.tag else self._find_digest(digest)
        if known is None or known.digest != digest or known.media_type != change.descriptor.media_type:
            return False
        if change.subject is not None and digest not in self._subject_of:
            return False
        return not any(child in self._listed for child in change.covers)

    # ---------------------------------------------------------------- changing

    def apply(self, change: Change) -> None:
        """Make ``change`` true; applied again it changes nothing."""
        match change:
            case Put():
                self._put(change)
            case Untag():
                self._untag(change.tag)
            case Remove():
                self._remove(change)

    def refer(self, subject: Digest, referrer: Descriptor) -> None:
        """Take note that the manifest ``referrer`` refers to ``subject``."""
        self._subjects.setdefault(subject, {})[referrer.digest] = referrer
        self._subject_of[referrer.digest] = subject

    def _put(self, change: Put) -> None:
        descriptor = change.descriptor
        if change.tag:
            self._tag(change.tag, descriptor)
        elif descriptor.digest in self._names:
            self._retype(descriptor)
        else:
            known = self._listed.get(descriptor.digest)
            if known is None or known.media_type != descriptor.media_type:
                self._listed[descriptor.digest] = descriptor
        for child in change.covers:
            self._listed.pop(child, None)
        if change.subject is not None and change.referrer is not None:
            self.refer(change.subject, change.referrer)

    def _tag(self, tag: str, descriptor: Descriptor) -> None:
        known = self._tags.get(tag)
        if known is not None and (known.digest, known.media_type) == (descriptor.digest, descriptor.media_type):
            return
        if known is not None and known.digest != descriptor.digest:
            self._release(tag, known)
        self._tags[tag] = descriptor
        self._names.setdefault(descriptor.digest, set()).add(tag)
        self._named.setdefault(descriptor.digest, descriptor)
        self._listed.pop(descriptor.digest, None)
        self._retype(descriptor)
        if known is None and is_tag(tag):
            ordered, fresh = self._order
            fresh.append(tag)
            if len(fresh) > max(_UNSORTED, len(ordered) // 8):
                self._order = (self.tags(), [])

    def _retype(self, descriptor: Descriptor) -> None:
        # One digest has one media type: the one it was pushed with last.
        if self._named[descriptor.digest].media_type == descriptor.media_type:
            return
        self._named[descriptor.digest] = descriptor
        for name in self._names[descriptor.digest]:
            if self._tags[name].media_type != descriptor.media_type:
                self._tags[name] = descriptor

    def _release(self, tag: str, descriptor: Descriptor) -> None:
        names = self._names[descriptor.digest]
        names.discard(tag)
        if not names:
            del self._names[descriptor.digest], self._named[descriptor.digest]
            self._listed[descriptor.digest] = descriptor

    def _untag(self, tag: str) -> None:
        known = self._tags.pop(tag, None)
        if known is None:
            return
        self._release(tag, known)
        self._forget(tag)

    def _remove(self, change: Remove) -> None:
        self._listed.pop(change.digest, None)
        self._named.pop(change.digest, None)
        for name in self._names.pop(change.digest, set()):
            del self._tags[name]
            self._forget(name)
        subject = self._subject_of.pop(change.digest, None)
        if subject is not None:
            self._subjects[subject].pop(change.digest, None)
            if not self._subjects[subject]:
                del self._subjects[subject]
        for orphan in change.orphans:
            if orphan.digest not in self._names:
                self._listed.setdefault(orphan.digest, orphan)

    def _forget(self, tag: str) -> None:
        ordered, fresh = self._order
        at = bisect_left(ordered, tag)
        if at < len(ordered) and ordered[at] == tag:
            del ordered[at]
        elif tag in fresh:
            fresh.remove(tag)

    # ---------------------------------------------------------------- index.json

    @classmethod
    def parse(cls, raw: bytes, *, where: str) -> LayoutIndex:
        """Read the bytes of ``index.json``; where a tag is given twice, the first counts (image-spec).

        Raises:
            LayoutError: when it is not an image index, or what else is in it is nested too deep.
        """
        try:
            document = parse_object(raw, is_rewritten=True)
            entries = document.pop("manifests", None)
            if not isinstance(entries, list):
                raise LayoutError(f"{where} has no list of manifests", hint="Is this an OCI image layout?")
            _require_shallow(document)
            index = cls(members=document)
            for at, entry in enumerate(entries):
                index._add_entry(Descriptor.from_json(entry, where=f"manifests[{at}]"))
        except (ContentError, InvalidReference) as error:
            text = error.message.replace("the manifest", "the index")
            raise LayoutError(f"{where} cannot be read: {text}", hint="Restore it, or copy the images again.") from None
        index.knows_subjects = not entries
        index._order = (index.tags(), [])
        return index

    def _add_entry(self, descriptor: Descriptor) -> None:
        tag = descriptor.annotations.get(REF_NAME, "")
        if not tag:
            if descriptor.digest not in self._names:
                self._listed.setdefault(descriptor.digest, descriptor)
            return
        if tag in self._tags:
            return
        rest = {key: value for key, value in descriptor.annotations.items() if key != REF_NAME}
        known = None if rest or descriptor.platform else self._find_digest(descriptor.digest)
        # One object for all tags of a digest: a repository may have a hundred thousand of them.
        self._tag(tag, known if known == _with(descriptor, rest) else _with(descriptor, rest))

    def serialise(self) -> Iterator[bytes]:
        """Yield ``index.json`` in parts of bounded size."""
        members = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, **self._members}
        head = json.dumps(members, separators=(",", ":"))
        yield f'{head[:-1]},"manifests":['.encode()
        batch: list[str] = []
        separator = ""
        for entry in self._entries():
            batch.append(json.dumps(entry, separators=(",", ":")))
            if len(batch) == _BATCH:
                yield (separator + ",\n".join(batch)).encode()
                batch, separator = [], ",\n"
        if batch:
            yield (separator + ",\n".join(batch)).encode()
        yield b"]}\n"

    def _entries(self) -> Iterator[dict[str, Any]]:
        for tag, descriptor in self._tags.items():
            entry = descriptor.to_json()
            entry["annotations"] = {**descriptor.annotations, REF_NAME: tag}
            yield entry
        for descriptor in self._listed.values():
            yield descriptor.to_json()

    def subjects(self) -> Iterator[tuple[Digest, Descriptor]]:
        """Yield each subject with one of its referrers."""
        for subject, referrers in self._subjects.items():
            for referrer in referrers.values():
                yield subject, referrer


def _require_shallow(members: Any) -> None:
    """Refuse what could be read here and not be written again, from where the interpreter's stack is less empty."""
    pending = [(members, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > _DEEPEST:
            raise MalformedManifest("the manifest is nested too deep")
        if isinstance(value, dict | list):
            pending += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]


def _plain(descriptor: Descriptor) -> Descriptor:
    return Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)


def _with(descriptor: Descriptor, annotations: Mapping[str, str]) -> Descriptor:
    return Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        platform=descriptor.platform,
        artifact_type=descriptor.artifact_type,
        annotations=annotations,
        urls=descriptor.urls,
    )
