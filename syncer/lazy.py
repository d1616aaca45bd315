"""Names of a package that are loaded when they are first used, so that importing it costs next to nothing.

::

    if TYPE_CHECKING:
        from syncer.room.module import Name

    __all__ = ("Name",)
    _HOMES = {"Name": "syncer.room.module"}

    __getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def lazy_names(
    package: str, homes: Mapping[str, str], public: Iterable[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` (PEP 562) of a package.

    Args:
        package: its name.
        homes: the module that each name comes from.
        public: every name that the package shows.
    """

    def load(name: str) -> Any:
        if home := homes.get(name):
            return getattr(importlib.import_module(home), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted(public)
