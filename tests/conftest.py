"""What every test gets: a clean environment, and a guard on the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import BlockBuster

if TYPE_CHECKING:
    from collections.abc import Iterator

#: CPU seconds that one callback may take before the loop counts as blocked.
LOOP_BUDGET = 0.1
_KEPT = (
    "PATH",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "SYNCER_TEST_CACHE",
)


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave no credential file, proxy or setting of the developer within a test's reach."""
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith(("PYTEST", "COV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


class _Collections:
    """Adds up the CPU time that this thread spends on collecting garbage; a callback of ``gc``."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _info: dict[str, int]) -> None:
        """Take the time at both ends of a collection."""
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.seconds += time.thread_time() - self._began


@pytest.fixture(autouse=True)
def loop_guard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test whose code blocks the event loop.

    Two guards: a blocking call (sleep, file or socket I/O) on the loop raises where it is made, and a
    callback that computes for over 100 ms fails the test. CPU time is what is measured, so that a busy
    machine cannot fail a test, and garbage collections are left out: they take long in a process that
    holds thousands of tests.
    """
    slow: list[str] = []
    run = asyncio.events.Handle._run
    collecting = _Collections()

    def timed(self: asyncio.Handle) -> Any:
        before = time.thread_time() - collecting.seconds
        try:
            return run(self)
        finally:
            spent = time.thread_time() - collecting.seconds - before
            if spent > LOOP_BUDGET:
                slow.append(f"{spent * 1000:.0f} ms in {self!r}")

    monkeypatch.setattr(asyncio.events.Handle, "_run", timed)
    gc.callbacks.append(collecting)
    guard = BlockBuster("syncer")
    guard.activate()
    try:
        yield
    finally:
        guard.deactivate()
        gc.callbacks.remove(collecting)
    # An attack that is not defended against may be one on the loop.
    assert not slow or request.node.get_closest_marker("undefended"), f"the event loop was blocked: {slow}"
