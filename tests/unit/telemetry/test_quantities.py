"""Sizes, rates, durations and counts for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.telemetry.quantities import format_count, format_duration, format_rate, format_share, format_size

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (int(3.1 * 1024**3), "3.1 GiB"),
        (210 * MIB, "210 MiB"),
        (99.96 * MIB, "100 MiB"),
        (MIB - 1, "1.0 MiB"),
        (-2048, "-2.0 KiB"),
        (5000 * 1024**6, "5000 EiB"),
    ],
)
def test_size(count: float, expected: str) -> None:
    """A size has a binary unit, and a decimal only where it tells something."""
    assert format_size(count) == expected


@given(st.integers(min_value=0, max_value=2**60))
def test_size_is_short(count: int) -> None:
    """No size is wider than eight characters, so columns stay narrow."""
    assert len(format_size(count)) <= 8


def test_rate() -> None:
    """A rate is a size per second."""
    assert format_rate(210 * MIB) == "210 MiB/s"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0 ms"),
        (0.085, "85 ms"),
        (0.9996, "1.0 s"),
        (4.21, "4.2 s"),
        (9.96, "10 s"),
        (23.4, "23 s"),
        (59.6, "1 min 00 s"),
        (245, "4 min 05 s"),
        (3599.6, "1 h 00 min"),
        (2 * 3600 + 5 * 60, "2 h 05 min"),
        (86399, "1 d 00 h"),
        (3 * 86400 + 4 * 3600, "3 d 04 h"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    """A duration has the unit, or the two units, that a person would use."""
    assert format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (12345, "", "12,345"),
        (1, "tag", "1 tag"),
        (0, "tag", "0 tags"),
        (1234, "repository", "1,234 repositories"),
    ],
)
def test_count(number: int, noun: str, expected: str) -> None:
    """A count has separators, and a noun in the right number."""
    assert format_count(number, noun) == expected


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 0, "0 %"), (71, 100, "71 %"), (999, 1000, "99 %"), (1, 1000, "1 %"), (5, 5, "100 %"), (0, 9, "0 %")],
)
def test_share(part: int, whole: int, expected: str) -> None:
    """Only the whole is 100 %, and only nothing is 0 %."""
    assert format_share(part, whole) == expected
