"""Every test here runs once for each place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.places import FACTORIES

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.conformance.places import Place


@pytest.fixture(params=FACTORIES)
def place_manager(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractAsyncContextManager[Place]:
    """Return a place, to be entered in the test itself: it may hold a task group."""
    return FACTORIES[request.param](tmp_path)
