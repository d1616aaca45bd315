"""In which form a blob is sent, and in which other one when that is refused; pure.

The fewest requests first (reference section 7, item 3): one POST for small blobs where the registry
is known to take them so; POST and PUT; POST, one PATCH and PUT; POST, a PATCH for each chunk and
PUT. A form is left for another only on an answer that is about the form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from syncer.registry.capabilities import Capability
from syncer.registry.settings import UploadForm

if TYPE_CHECKING:
    from syncer.registry.capabilities import Capabilities
    from syncer.registry.settings import UploadSettings

#: Bytes up to which a blob may go out in the POST: it is held in memory meanwhile.
SMALL = 1024 * 1024
#: Bytes of a chunk where nothing else is known.
CHUNK = 16 * 1024 * 1024
#: Below this, a registry that still refuses a chunk for its size takes no blobs at all.
SMALLEST_CHUNK = 64 * 1024
#: A registry's wish for large chunks is heeded up to here (reference 1.3).
LARGEST_MINIMUM = 1024 * 1024 * 1024
#: Registries count parts (ECR: 4200), so the chunks of very large blobs grow.
_MOST_CHUNKS = 1000


class Cause(StrEnum):
    """Why a form is given up."""

    #: The body is too large for the registry, or for a proxy before it.
    SIZE = "size"
    #: The request itself is refused: method, headers, or that it has a body.
    REQUEST = "request"
    #: The registry does not keep count of the chunks as we do.
    OFFSET = "offset"


_NEXT = {
    Cause.SIZE: (UploadForm.CHUNKS, UploadForm.STREAM),
    Cause.REQUEST: (UploadForm.PUT, UploadForm.STREAM, UploadForm.CHUNKS),
    Cause.OFFSET: (UploadForm.PUT, UploadForm.STREAM),
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Terms:
    """What of a registry bears on the choice.

    Attributes:
        single_post: a POST with the bytes commits them.
        whole_put: a PUT with the whole blob is not known to be refused.
        stream: nor is a PATCH with the whole blob.
        chunks: nor are several PATCHes.
        largest_body: bytes beyond which a body is known, or likely, to be refused.
        largest_chunk: bytes of the largest chunk that the registry is documented to take.
    """

    single_post: bool = False
    whole_put: bool = True
    stream: bool = True
    chunks: bool = True
    largest_body: int | None = None
    largest_chunk: int | None = None

    @classmethod
    def of(cls, capabilities: Capabilities, settings: UploadSettings) -> Terms:
        """Return what ``capabilities`` and ``settings`` come to: what was observed, then what is set, then guesses."""
        observed = capabilities.observed(Capability.SINGLE_POST)
        wanted = settings.form is UploadForm.SINGLE_POST or capabilities.offers(Capability.SINGLE_POST) is True
        return cls(
            single_post=wanted if observed is None else observed,
            whole_put=capabilities.offers(Capability.WHOLE_PUT) is not False,
            stream=capabilities.offers(Capability.PATCH) is not False,
            chunks=capabilities.offers(Capability.CHUNKS) is not False,
            largest_body=capabilities.largest_body,
            largest_chunk=capabilities.traits.largest_chunk,
        )

    def takes(self, form: UploadForm) -> bool:
        """Tell whether ``form`` may be tried."""
        match form:
            case UploadForm.SINGLE_POST:
                return self.single_post
            case UploadForm.STREAM:
                return self.stream
            case UploadForm.CHUNKS:
                return self.chunks
            case _:
                return self.whole_put


def is_fixed(settings: UploadSettings) -> bool:
    """Tell whether the form is set once and for all, so that no answer changes it."""
    return settings.form not in (UploadForm.AUTO, UploadForm.SINGLE_POST)


def first_form(size: int, settings: UploadSettings, terms: Terms) -> UploadForm:
    """Return the form to begin a blob of ``size`` bytes with."""
    if is_fixed(settings):
        return settings.form
    if terms.single_post and size <= min(SMALL, terms.largest_body or SMALL):
        return UploadForm.SINGLE_POST
    return session_form(size, settings, terms)


def session_form(size: int, settings: UploadSettings, terms: Terms) -> UploadForm:
    """Return the form to feed an open session with."""
    if is_fixed(settings):
        return settings.form
    is_large = terms.largest_body is not None and size > terms.largest_body
    usable = (form for form in _NEXT[Cause.SIZE if is_large else Cause.REQUEST] if terms.takes(form))
    return next(usable, UploadForm.PUT)


def continuing_form(size: int, settings: UploadSettings, terms: Terms) -> UploadForm | None:
    """Return the form to go on with in a session that has bytes from before; None where that cannot be.

    A PUT carries the whole blob, so the rest goes out in one PATCH, or in several.
    """
    if not may_chunk(settings, terms):
        return None
    form = session_form(size, settings, terms)
    if form is not UploadForm.PUT:
        return form
    if is_fixed(settings):
        return None
    return UploadForm.STREAM if terms.stream else UploadForm.CHUNKS


def may_chunk(settings: UploadSettings, terms: Terms) -> bool:
    """Tell whether the registry may be sent a blob in several bodies."""
    return terms.chunks or settings.form is UploadForm.CHUNKS


def next_form(
    cause: Cause, refused: frozenset[UploadForm], settings: UploadSettings, terms: Terms
) -> UploadForm | None:
    """Return the form to go on with when those ``refused`` would not do; None when none is left."""
    if is_fixed(settings):
        return None
    return next((form for form in _NEXT[cause] if form not in refused and terms.takes(form)), None)


def chunk_size(size: int, settings: UploadSettings, terms: Terms, minimum: int = 0) -> int:
    """Return how many bytes each chunk of a blob of ``size`` has; only the last is shorter.

    ``minimum`` is what the registry asks for (OCI-Chunk-Min-Length). A bound that it, or a proxy
    before it, was seen to enforce wins over every wish.
    """
    wanted = settings.chunk or max(CHUNK, -(-size // _MOST_CHUNKS))
    wanted = max(wanted, min(minimum, LARGEST_MINIMUM))
    for bound in (terms.largest_chunk, terms.largest_body):
        if bound is not None:
            wanted = min(wanted, bound)
    return max(wanted, 1)


def bound_after(refused: int) -> int:
    """Return the largest body worth trying after one of ``refused`` bytes was too large.

    A blob far over a chunk's size says little of what is below it; a chunk is halved.
    """
    return refused - 1 if refused > 2 * CHUNK else refused // 2
