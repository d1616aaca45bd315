"""Starting the event loop: uvloop where it installs, asyncio elsewhere."""

from __future__ import annotations

import gc
import importlib.util
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
#: Objects made and not yet gone after which garbage is looked for; Python's own 700 cost 3 % of a long run's CPU
#: time. What a run makes refers to itself hardly anywhere, so little waits for a collection.
_THRESHOLD = 50_000


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main`` to its end and return what it returns."""
    # What was imported stays for good: it need not be looked at by every collection.
    gc.freeze()
    gc.set_threshold(_THRESHOLD)
    gc.enable()
    use_uvloop = importlib.util.find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": use_uvloop})
