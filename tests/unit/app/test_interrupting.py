"""Which signals ask for anything new."""

from __future__ import annotations

from signal import SIGHUP, SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING

import pytest

from syncer.app.interrupting import Wishes

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("came", "asked"),
    [
        pytest.param([(0.0, SIGTERM), (0.001, SIGTERM)], 1, id="timeout(1) tells its command, and then its group"),
        pytest.param([(0.0, SIGINT), (0.6, SIGINT)], 2, id="somebody is impatient"),
        pytest.param([(0.0, SIGTERM), (0.001, SIGINT)], 2, id="another signal is another wish"),
        pytest.param([(0.0, SIGHUP), (0.1, SIGHUP), (3.0, SIGHUP)], 1, id="a terminal is closed"),
        pytest.param([(0.0, SIGTERM), (0.001, SIGHUP)], 1, id="systemd ends a session"),
        pytest.param([(0.0, SIGHUP), (1.0, SIGTERM)], 2, id="a machine is shut down after its terminals"),
    ],
)
def test_wishes(came: Sequence[tuple[float, Signals]], asked: int) -> None:
    """What is told twice is one wish."""
    now = 100.0
    wishes = Wishes(lambda: now)
    noted = 0
    for at, number in came:
        now = 100.0 + at
        noted += wishes.note(number)
    assert noted == asked
    assert wishes.first == came[0][1]
    wishes.forget()
    assert wishes.note(SIGHUP)
