"""Lengths of time and floors of speed, as a spec writes them."""

from __future__ import annotations

import pytest

from syncer.errors import SpecError
from syncer.spec.quantities import parse_duration, parse_floor


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("1.5 h", 5400.0), ("250ms", 0.25)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    """A number and a unit are seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "-1s", "1d", "0s", "25h", "1e3s", "nan s", "9" * 20 + "s"])
def test_what_is_no_length_of_time(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(SpecError, match="length of time"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "rate"), [("none", 0), ("100B/s", 100), ("16 KiB/s", 16384)])
def test_floors(text: str, rate: int) -> None:
    """A floor is a rate, or there is none."""
    assert parse_floor(text) == rate


@pytest.mark.parametrize("text", ["0", "0B/s", "2GiB/s", "fast", "1KiB"])
def test_what_is_no_floor(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(SpecError, match="none"):
        parse_floor(text)
