"""Ranges and entity tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.server.headers import Span, parse_content_range, parse_range, tag_matches


@given(text=st.text(alphabet="bytes=0123456789- ,", max_size=20), size=st.integers(0, 1000))
def test_range_stays_in_the_blob(text: str, size: int) -> None:
    """Whatever a Range says, what is sent lies within the blob."""
    span = parse_range(text, size)
    if span is not None and span.length:
        assert 0 <= span.start <= span.last < size


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0-0", Span(start=0, length=1)),
        ("5-9", Span(start=5, length=5)),
        ("9-5", None),
        ("bytes 0-1", None),
        ("0-1/2", None),
        ("", None),
        ("0-" + "9" * 30, None),
    ],
)
def test_content_range(text: str, span: Span | None) -> None:
    """An upload's Content-Range is FIRST-LAST and nothing else."""
    assert parse_content_range(text) == span


@pytest.mark.parametrize("size", [0, 1])
def test_range_of_nothing(size: int) -> None:
    """Of an empty blob, or none of its bytes, no range can be met."""
    span = parse_range("bytes=-0" if size else "bytes=0-", size)
    assert span is not None
    assert span.length == 0


@pytest.mark.parametrize(
    ("header", "matches"),
    [('"d"', True), ("d", True), ('W/"d"', True), ('"a", "d"', True), ("*", True), ('"a"', False), ("", False)],
)
def test_entity_tags(header: str, *, matches: bool) -> None:
    """A digest is recognised quoted, bare, weak and in a list."""
    assert tag_matches(header, "d") is matches
