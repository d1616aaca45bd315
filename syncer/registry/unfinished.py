"""Uploads of large blobs that outlive the process: where they go on is noted, for the run after a kill.

A note is written behind, and nobody waits for it: one that is lost, or wrong, costs time and nothing else, since
the registry is asked how far a session is before a byte is sent to it. What is noted is read again from a file, so
it is held to as much as what a registry says (reference 2.5, S5 and S7), and to more: a Location that leads anywhere
but to the registry's own uploads of the repository, or carries what may be a signature, is not kept and not followed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from syncer.errors import ProtocolViolation
from syncer.registry.network.urls import Origin, absolute

if TYPE_CHECKING:
    from collections.abc import Iterable

    from yarl import URL

    from syncer.oci.digest import Digest
    from syncer.plan.records import UnfinishedUpload

#: Bytes from which a blob is worth it. A smaller one is sent again in less time than its session may take to be found
#: gone and opened anew, on a slow link too: two thirds of a second at 100 Mbit/s.
LARGE = 8 * 1024 * 1024
#: The parameters of a Location that are known to be no credential: distribution's ``_state`` is signed, but says only
#: which session it is and how far, and is of no use without the right to push. Whatever else there is may be one.
_HARMLESS_PARAMETERS = frozenset({"_state", "_nouploadcache"})
_PARAMETER = re.compile(r"([A-Za-z0-9_]+)=([A-Za-z0-9._~%+/=-]*)")
#: How a registry names a session: a UUID mostly.
_REFERENCE = re.compile(r"[A-Za-z0-9_.~=-]+")
_LONGEST = 2048


class Notebook(Protocol):
    """Where the notes are kept between runs: the state store. Neither call waits for anything."""

    def record_upload(self, record: UnfinishedUpload) -> None:
        """Remember where an upload goes on, in place of what was known of it."""
        ...

    def forget_upload(self, registry: str, repository: str, digest: Digest) -> None:
        """Forget an upload that has ended, however."""
        ...


class UnfinishedUploads:
    """What an earlier run began and did not end, and the notes of this one."""

    def __init__(self, notebook: Notebook, known: Iterable[UnfinishedUpload] = ()) -> None:
        """Begin with what is ``known`` from the ``notebook``."""
        self._notebook = notebook
        self._known = {(each.registry, each.repository, each.digest): each for each in known}

    def claim(self, registry: str, repository: str, digest: Digest) -> UnfinishedUpload | None:
        """Return the upload that an earlier run began, to one caller only: a session takes one request at a time."""
        return self._known.pop((registry, repository, digest), None)

    def note(self, registry: str, repository: str, digest: Digest, location: URL, offset: int) -> None:
        """Note that the upload goes on at ``location``, where the registry has confirmed ``offset`` bytes."""
        from syncer.plan.records import UnfinishedUpload  # noqa: PLC0415 - a copy of one image notes nothing

        record = UnfinishedUpload(
            registry=registry, repository=repository, digest=digest, location=str(location), offset=offset
        )
        self._notebook.record_upload(record)

    def forget(self, registry: str, repository: str, digest: Digest) -> None:
        """Note that the upload has ended, or that nothing can be gone on with."""
        self._notebook.forget_upload(registry, repository, digest)


def may_be_kept(location: URL, home: Origin, repository: str) -> bool:
    """Tell whether ``location`` is an upload to the repository at the registry's own origin, and no credential.

    Args:
        location: where an upload goes on.
        home: the origin of the registry.
        repository: the name of the repository.
    """
    text = str(location)
    if Origin.of(location) != home or len(text) > _LONGEST:
        return False
    path, _, query = text.partition("://")[2].partition("/")[2].partition("?")
    prefix = f"v2/{repository}/blobs/uploads/"
    reference = path.removeprefix(prefix).removesuffix("/")
    # A dot or two are a step in the tree, and no name.
    if not path.startswith(prefix) or not _REFERENCE.fullmatch(reference) or not reference.strip("."):
        return False
    return not query or all(_is_harmless(pair) for pair in query.split("&"))


def kept_location(record: UnfinishedUpload, home: Origin) -> URL | None:
    """Return where the upload of ``record`` goes on; None when that must not be gone to."""
    try:
        location = absolute(record.location)
    except ProtocolViolation:
        return None
    return location if may_be_kept(location, home, record.repository) else None


def _is_harmless(pair: str) -> bool:
    match = _PARAMETER.fullmatch(pair)
    return not pair or (match is not None and match[1] in _HARMLESS_PARAMETERS)
