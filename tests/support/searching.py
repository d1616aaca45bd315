"""How long hypothesis looks: quickly and the same way each time, or thoroughly with HYPOTHESIS_PROFILE=thorough."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", bound="Callable[..., Any]")

_QUICK = settings(deadline=None, derandomize=True, max_examples=60, database=None)
_THOROUGH = settings(deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow], database=None)

#: Read at import, as hypothesis needs it.
_IS_THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
#: For tests that change some of it.
SEARCH = _THOROUGH if _IS_THOROUGH else _QUICK
#: Seconds after which a search has got stuck.
_SECONDS = 600 if _IS_THOROUGH else 60


def searched(test: T) -> T:
    """Decorate a property test, which ``make torture`` runs again with many more examples."""
    found: T = SEARCH(test)
    marked: T = pytest.mark.searched(pytest.mark.timeout(_SECONDS)(found))
    return marked
