"""How long hypothesis looks: quickly and the same way each time, or thoroughly with HYPOTHESIS_PROFILE=thorough."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_QUICK = settings(deadline=None, derandomize=True, max_examples=60, database=None)
_THOROUGH = settings(deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow], database=None)

#: Decorates a property test; read at import, as hypothesis needs it.
searched = _THOROUGH if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else _QUICK
