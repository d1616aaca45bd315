"""Where blobs were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.oci import Digest
from syncer.server.mounts import BlobOrigins

if TYPE_CHECKING:
    import pytest


def test_latest_first_and_bounded() -> None:
    """The latest repository comes first, each once, and only a few are kept."""
    origins, digest = BlobOrigins(), Digest.of(b"x")
    assert origins.candidates(digest) == ()
    for number in range(20):
        origins.note(digest, f"r{number}")
    origins.note(digest, "r15")
    assert origins.candidates(digest) == ("r15", "r19", "r18", "r17", "r16", "r14", "r13", "r12")


def test_forgets_the_oldest_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest that was not seen for longest is forgotten."""
    monkeypatch.setattr("syncer.server.mounts._DIGESTS", 2)
    origins = BlobOrigins()
    first, second, third = (Digest.of(data) for data in (b"1", b"2", b"3"))
    for digest in (first, second, first, third):
        origins.note(digest, "r")
    assert [bool(origins.candidates(digest)) for digest in (first, second, third)] == [True, False, True]
