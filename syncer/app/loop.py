"""Starting the event loop: uvloop where it installs, asyncio elsewhere."""

from __future__ import annotations

import gc
import importlib.util
from typing import TYPE_CHECKING, TypeVar

import anyio

from syncer.app.surroundings import raise_file_limit
from syncer.errors import OUT_OF_FILES_HINT, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
#: Objects made and not yet gone after which garbage is looked for; Python's own 700 cost 3 % of a long run's CPU
#: time. What a run makes refers to itself hardly anywhere, so little waits for a collection.
_THRESHOLD = 50_000
#: Open files without which nothing goes on for long: a loop alone has a dozen.
_FEWEST_FILES = 48


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main`` to its end and return what it returns.

    Raises:
        UsageError: when this process may hardly open a file.
    """
    if (files := raise_file_limit()) < _FEWEST_FILES:
        raise UsageError(f"this process may have {files} files open; it needs {_FEWEST_FILES}", hint=OUT_OF_FILES_HINT)
    # What was imported stays for good: it need not be looked at by every collection.
    gc.freeze()
    gc.set_threshold(_THRESHOLD)
    gc.enable()
    use_uvloop = importlib.util.find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": use_uvloop})
