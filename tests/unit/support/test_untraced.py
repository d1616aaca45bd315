"""Tests that are marked ``untraced`` are as fast as without coverage, and so is what they start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_TRACED = "import sys; print(sys.gettrace())"


@pytest.mark.untraced
def test_nothing_is_measured() -> None:
    """Neither here, where a worker may measure twice, nor in a process that is started from here."""
    assert sys.gettrace() is None
    assert not [name for name in os.environ if name.startswith("COV")]
    assert subprocess.check_output([sys.executable, "-c", _TRACED], text=True) == "None\n"


def test_it_goes_on_afterwards(request: pytest.FixtureRequest) -> None:
    """The next test is measured as ever."""
    assert (sys.gettrace() is not None) == request.config.pluginmanager.hasplugin("_cov")
