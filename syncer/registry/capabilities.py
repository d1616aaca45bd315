"""What one registry turned out to offer, learned from definite answers only and kept for the run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class Capabilities:
    """What is known of a registry; None where it has not been asked yet.

    Attributes:
        manifest_head: HEAD of a manifest is answered, with a digest.
        referrers: the referrers API of distribution-spec 1.1.
        referrers_refused: the repositories for which that API was refused before it had worked for any.
        mount: a POST with ``mount`` and ``from`` is at least not refused.
    """

    manifest_head: bool | None = None
    referrers: bool | None = None
    referrers_refused: set[str] = field(default_factory=set)
    mount: bool | None = None
