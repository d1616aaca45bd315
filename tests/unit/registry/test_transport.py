"""The pace below which an answer is given up."""

from __future__ import annotations

import pytest

from syncer.registry.network.transport import Headway


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ([(10.0, 1)] * 6, 6),
        ([(0.001, 1)] * 6, None),
        ([(10.0, 100_000)] * 20, None),
        ([(60.0, 1)], 1),
        ([(60.0, 61_440)], None),
        ([(59.0, 1), (0.5, 1), (0.5, 100_000)], None),
        ([(30.0, 100_000), (30.0, 0), (30.0, 10), (30.0, 10)], 4),
    ],
)
def test_headway(waits: list[tuple[float, int]], expected: int | None) -> None:
    """It is too slow once a whole stretch of waiting has brought less than the floor, and not before."""
    headway = Headway(1024, 60.0)
    found = [at for at, (seconds, count) in enumerate(waits, 1) if headway.is_too_slow(seconds, count)]
    assert found == ([] if expected is None else [expected])


def test_no_floor() -> None:
    """Without a floor nothing is too slow."""
    headway = Headway(0, 60.0)
    assert not any(headway.is_too_slow(100.0, 1) for _ in range(10))
