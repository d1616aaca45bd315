"""Charts without a library."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.chart import Axis, Series, chart

LINES = [
    Series(name="first & last", points=[(1_000, 2.5), (10_000, 24), (100_000, 260)]),
    Series(name="again", points=[(1_000, 0.4), (100_000, 9)]),
]


def test_a_chart_is_well_formed() -> None:
    """Names with special characters do not break the file, and every point is drawn."""
    root = ET.fromstring(chart("Seconds <by> tags", "tags", "seconds", LINES))  # noqa: S314 - our own text
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 5
    assert "first & last" in "".join(root.itertext())


def test_points_stay_within_the_picture() -> None:
    """The axes hold the smallest and the largest value, with ticks at powers of ten."""
    axis = Axis.over([0.4, 260], 300, 40)
    assert axis.ticks == [0.1, 1, 10, 100, 1000]
    assert 40 < axis.at(260) < axis.at(0.4) < 300
    assert axis.at(0.1) == 300


def test_growth_of_one_decade_is_one_step() -> None:
    """On a logarithmic axis equal ratios are equal distances."""
    axis = Axis.over([1, 1000], 0, 300)
    assert [axis.at(value) for value in (1, 10, 100, 1000)] == [0, 100, 200, 300]


def test_a_single_value_has_an_axis() -> None:
    """One point, on a power of ten, is no division by zero."""
    assert "<circle" in chart("t", "x", "y", [Series(name="one", points=[(10, 10)])])


def test_the_same_numbers_make_the_same_file() -> None:
    """The page's test compares bytes."""
    assert chart("t", "x", "y", LINES) == chart("t", "x", "y", LINES)


def test_no_points_are_refused() -> None:
    """An empty chart would hide that something was not measured."""
    with pytest.raises(ValueError, match="no points: t"):
        chart("t", "x", "y", [])
