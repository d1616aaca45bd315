"""The few request headers whose grammar is ours to read: ranges and entity tags."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: distribution-spec "Pushing a blob in chunks": inclusive, and without a unit.
_CONTENT_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
_BYTE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A run of bytes: where it starts and how many there are; none of them when it cannot be met."""

    start: int
    length: int

    @property
    def last(self) -> int:
        """The offset of the last byte."""
        return self.start + self.length - 1


def parse_content_range(text: str) -> Span | None:
    """Return the span of an upload's Content-Range, or None when it breaks the grammar."""
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[2]) < int(match[1]):
        return None
    return Span(start=int(match[1]), length=int(match[2]) - int(match[1]) + 1)


def parse_range(text: str, size: int) -> Span | None:
    """Return what a Range header asks for of ``size`` bytes.

    None means that the header is to be ignored (another unit, several ranges, RFC 9110 section
    14.2). A span of no bytes means 416. A range that ends before it starts is answered with 416
    too: the RFC would have it ignored, but a client that asked for a part wants no whole layer.
    """
    match = _BYTE_RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return Span(start=size - length, length=length)
    start = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    return Span(start=start, length=max(0, last - start + 1))


def tag_matches(header: str, digest: str) -> bool:
    """Tell whether an If-None-Match or If-Range header names the entity ``digest``.

    Quoted, weak, in a list, or bare as some clients send it (distribution accepts that as well).
    """
    candidates = (part.strip().removeprefix("W/").strip('"') for part in header.split(","))
    return any(candidate in ("*", digest) for candidate in candidates)
