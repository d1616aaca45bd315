"""How far an upload has come, as registries say it; pure.

distribution-spec says ``Range: 0-<last byte>``. Seen besides (reference 1.3 and 3.1): ``0-0`` for no
byte and for one (distribution), ``bytes=0--1`` for none and, in the answer to a status request,
``bytes=0-N`` for N bytes (Quay).
"""

from __future__ import annotations

import re

_RANGE = re.compile(r"(?P<unit>bytes[= ])?0-(?P<last>-1|[0-9]{1,18})")


def offset_in_status(text: str, acknowledged: int = 0) -> int | None:
    """Return how many bytes a session has by the Range of its status; None when that cannot be told.

    ``acknowledged`` is what it had confirmed before, and cannot have lost.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    last = int(match["last"])
    # Quay's count is one too high; who means the last byte by it loses a byte of headway at most.
    offset = last if match["unit"] == "bytes=" and last + 1 != acknowledged else last + 1
    if last == 0 and acknowledged != 1:
        offset = 0
    return max(0, offset)


def confirms(text: str, offset: int) -> bool:
    """Tell whether the Range in the answer to a PATCH agrees that the session has ``offset`` bytes now.

    No Range, or one that makes no sense, is no contradiction.
    """
    match = _RANGE.fullmatch(text.strip())
    return match is None or int(match["last"]) in (offset - 1, offset) or (offset <= 1 and int(match["last"]) <= 0)


def chunk_minimum(text: str) -> int:
    """Return the bytes of OCI-Chunk-Min-Length; 0 when it is absent or no number."""
    text = text.strip()
    return int(text[:18]) if text.isascii() and text.isdigit() else 0
