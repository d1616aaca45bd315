"""Starting the event loop: uvloop where it installs, asyncio elsewhere."""

from __future__ import annotations

import gc
import importlib.util
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main`` to its end and return what it returns."""
    # What was imported stays for good: it need not be looked at by every collection.
    gc.freeze()
    gc.enable()
    use_uvloop = importlib.util.find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": use_uvloop})
