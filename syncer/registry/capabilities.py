"""What one registry turned out to offer, learned from definite answers only."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio

from syncer.registry.hosts import Traits

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that an observation is believed: registries are upgraded while a daemon runs.
LIFETIME = 1800.0


class Capability(StrEnum):
    """Something that registries do or do not offer."""

    #: HEAD of a manifest is answered, with a digest.
    MANIFEST_HEAD = "manifest-head"
    #: The referrers API of distribution-spec 1.1.
    REFERRERS = "referrers"
    #: A POST with ``mount`` and ``from`` is at least not refused.
    MOUNT = "mount"
    #: A POST with ``digest`` and the bytes commits a blob.
    SINGLE_POST = "single-post"
    #: A PUT with the whole blob is taken.
    WHOLE_PUT = "whole-put"
    #: A PATCH with the whole blob, streamed, is taken.
    PATCH = "patch"
    #: Several PATCHes with a Content-Range are taken.
    CHUNKS = "chunks"
    #: A blob that it said it had stored, without naming the digest, was there when looked for.
    STORES_BLOBS = "stores-blobs"
    #: The same of a manifest.
    STORES_MANIFESTS = "stores-manifests"
    #: The answer to a HEAD of a blob gives its length.
    BLOB_LENGTH = "blob-length"
    #: A page of tags as large as its name makes likely can be asked for.
    TAG_PAGE = "tag-page"


@dataclass(frozen=True, slots=True, eq=False)
class _Observation:
    offered: bool
    until: float


@dataclass(kw_only=True, slots=True, eq=False)
class Capabilities:
    """What is known of a registry: observed beats guessed, and neither holds for ever.

    Attributes:
        traits: what its name makes likely.
        clock: monotonic, in seconds.
        referrers_probe: held by who asks for the referrers API while nobody knows whether there is one.
        largest_body: bytes of the largest body that it is known to take in one request; None while nothing
            was refused.
        referrers_in_doubt: the referrers API has answered 404 for a manifest that is not there: once may be about that.
        mounts_refused: the repositories from which a mount was refused for want of a right.
    """

    traits: Traits = field(default_factory=Traits)
    clock: Callable[[], float] = time.monotonic
    referrers_probe: anyio.Lock = field(default_factory=anyio.Lock)
    referrers_in_doubt: bool = False
    largest_body: int | None = None
    mounts_refused: set[str] = field(default_factory=set)
    _observed: dict[Capability, _Observation] = field(default_factory=dict)
    #: Repositories for which the referrers API was refused before it had worked for any, and until when that holds.
    _without_referrers: dict[str, float] = field(default_factory=dict)

    def observed(self, capability: Capability) -> bool | None:
        """Return what the registry has shown; None when it has not, or too long ago."""
        seen = self._observed.get(capability)
        if seen is None or seen.until <= self.clock():
            return None
        return seen.offered

    def offers(self, capability: Capability) -> bool | None:
        """Return what to go by: what was observed, else what the name makes likely, else None."""
        observed = self.observed(capability)
        return self._guess(capability) if observed is None else observed

    def learn(self, capability: Capability, *, offered: bool) -> None:
        """Note a definite answer; a timeout or an overload is none."""
        self._observed[capability] = _Observation(offered, self.clock() + LIFETIME)

    def forget(self, capability: Capability) -> None:
        """Drop what was observed: an answer has contradicted it, and the next request asks anew."""
        self._observed.pop(capability, None)

    def refuse_referrers(self, repository: str) -> None:
        """Note that the referrers API was refused for one repository; of the others that says nothing."""
        self._without_referrers[repository] = self.clock() + LIFETIME

    def refuses_referrers(self, repository: str) -> bool:
        """Tell whether the referrers API was refused for the repository, not too long ago."""
        until = self._without_referrers.get(repository)
        if until is not None and until <= self.clock():
            del self._without_referrers[repository]
            return False
        return until is not None

    def _guess(self, capability: Capability) -> bool | None:
        match capability:
            case Capability.SINGLE_POST:
                return self.traits.single_post
            case Capability.CHUNKS:
                return self.traits.chunks
            case Capability.TAG_PAGE:
                return self.traits.tag_page > 0
            case _:
                return None
