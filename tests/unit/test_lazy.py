"""Packages whose names are loaded when they are first used show exactly those names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import syncer
import syncer.registry.credentials
import syncer.telemetry

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize(
    "package", [syncer, syncer.registry.credentials, syncer.telemetry], ids=lambda package: package.__name__
)
def test_names(package: ModuleType) -> None:
    """Every public name has a home, and can be had from the package; no other can, and that is said as usual."""
    assert {*package._HOMES} == {*package.__all__} - {"__version__"}
    assert tuple(dir(package)) == tuple(sorted(package.__all__)) == package.__all__
    for name in package._HOMES:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing
