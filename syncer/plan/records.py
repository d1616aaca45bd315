"""What is remembered of a tag between runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncer.events import TagOutcome
    from syncer.oci.digest import Digest


@dataclass(frozen=True, kw_only=True, slots=True)
class TagRecord:
    """The last that happened to one tag of a target repository.

    ``source`` and ``target`` are ``registry/repository``; ``at`` is seconds since the epoch.
    """

    run: str
    entry: str
    source: str
    target: str
    tag: str
    outcome: TagOutcome
    source_digest: Digest | None = None
    target_digest: Digest | None = None
    error: str = ""
    at: float = 0.0
