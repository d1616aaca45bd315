"""Tests that are marked ``untraced`` are as fast as without coverage, and so is what they start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from coverage import Coverage

_MEASURES = "import sys; print('coverage' in sys.modules)"


@pytest.mark.untraced
def test_nothing_is_measured() -> None:
    """Neither here, where a worker may measure twice, nor in a process that is started from here."""
    assert Coverage.current() is None
    assert not [name for name in os.environ if name.startswith("COV")]
    assert subprocess.check_output([sys.executable, "-c", _MEASURES], text=True) == "False\n"


def test_it_goes_on_afterwards(request: pytest.FixtureRequest) -> None:
    """The next test is measured as ever."""
    assert (Coverage.current() is not None) == request.config.pluginmanager.hasplugin("_cov")
