"""Syncer with windows of a fixed size: ``python -m benchmarks.pinned 64 run SPEC``, only to be compared with.

A spec can say how many requests there may be at once, and not that there are to be as many from the start:
nobody who uses Syncer has a reason to.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from syncer.app import declared
from syncer.cli import main

if TYPE_CHECKING:
    from syncer.app.surroundings import Surroundings
    from syncer.registry import RegistrySettings
    from syncer.spec.values import RegistrySpec

_settings_of_spec = declared.settings_of_spec


def pin(size: int) -> None:
    """Let every registry of a spec have windows of ``size``, for requests and for blobs."""

    def pinned(spec: RegistrySpec, surroundings: Surroundings) -> RegistrySettings:
        settings = _settings_of_spec(spec, surroundings)
        return replace(
            settings,
            connections=size,
            data_connections=size,
            bulk_connections=min(size, settings.bulk_connections),
            is_fixed=True,
        )

    declared.settings_of_spec = pinned


if __name__ == "__main__":
    pin(int(sys.argv.pop(1)))
    sys.exit(main())
