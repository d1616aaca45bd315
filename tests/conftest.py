"""What every test gets: a clean environment, and a guard on the event loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.assertion import rewrite
from blockbuster import BlockBuster
from coverage import Coverage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Numbers for folders. pytest finds the next one by listing all that there are: milliseconds, for thousands of them.
_numbers = itertools.count()

#: CPU seconds that one callback may take before the loop counts as blocked, on a machine that takes so many for
#: :func:`_sum`: on one that is slower just now, so much more.
LOOP_BUDGET, _SUM_SECONDS = 0.1, 0.004
_KEPT = (
    "PATH",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "SYNCER_TEST_CACHE",
)


@contextmanager
def _untraced() -> Iterator[None]:
    """Stop measuring coverage, which makes Python two to three times slower, in the block.

    There may be two measurements: a worker of xdist is also a subprocess that counts.
    """
    stopped: list[Coverage] = []
    while one := Coverage.current():
        one.stop()
        stopped.append(one)
    try:
        yield
    finally:
        for one in reversed(stopped):
            one.start()


# To rewrite the asserts of all tests takes twice as long where it is measured.
rewrite._rewrite_test = _untraced()(rewrite._rewrite_test)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Do not measure coverage while a test runs that is marked ``untraced``, nor in what it starts."""
    if item.get_closest_marker("untraced"):
        with _untraced():
            return (yield)
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the long tests tell of themselves: those that record a property ``told``."""
    reports = [report for found in ("passed", "failed") for report in terminalreporter.getreports(found)]
    told = [str(value) for report in reports for name, value in report.user_properties if name == "told"]
    if told:
        terminalreporter.section("what the long tests tell")
        terminalreporter.write_line("\n".join(dict.fromkeys(line for text in told for line in text.splitlines())))


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty folder of the test's own, like pytest's fixture of that name."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return tmp_path_factory.mktemp(f"{name}-{next(_numbers)}", numbered=False)


@pytest.fixture(autouse=True)
def clean_environ(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Leave no credential file, proxy or setting of the developer within a test's reach."""
    kept = ("PYTEST",) if request.node.get_closest_marker("untraced") else ("PYTEST", "COV")
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith(kept):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp(f"home{next(_numbers)}", numbered=False)))


class _Clock(threading.local):
    """The CPU time of each thread, without what it spends on collecting garbage; a callback of ``gc``."""

    def __init__(self) -> None:
        self._collecting = 0.0
        self._began = 0.0
        #: The time, and the CPU time, when this thread last asked for it: which is a slow system call.
        self.seen = (time.perf_counter(), self.now())

    def __call__(self, phase: str, _info: dict[str, int]) -> None:
        """Take the time at both ends of a collection."""
        if phase == "start":
            self._began = time.thread_time()
        else:
            self._collecting += time.thread_time() - self._began

    def now(self) -> float:
        """Return the seconds spent so far."""
        return time.thread_time() - self._collecting


def _sum() -> int:
    total = 0
    for number in range(100_000):
        total += number
    return total


def _budget() -> float:
    """Return :data:`LOOP_BUDGET` as it is on this machine, at this moment."""
    took = []
    for _ in range(3):
        before = time.thread_time()
        _sum()
        took.append(time.thread_time() - before)
    return LOOP_BUDGET * max(1.0, min(took) / _SUM_SECONDS)


@pytest.fixture(scope="session")
def slow_callbacks() -> Iterator[list[str]]:
    """Guard the event loops of all tests, and return where callbacks that computed for too long are told of."""
    slow: list[str] = []
    run = asyncio.events.Handle._run
    clock = _Clock()

    def timed(self: asyncio.Handle) -> Any:
        began = time.perf_counter()
        if began - clock.seen[0] > LOOP_BUDGET / 10:
            clock.seen = (began, clock.now())
        try:
            return run(self)
        finally:
            if time.perf_counter() - began > LOOP_BUDGET:
                spent = clock.now() - clock.seen[1] - (began - clock.seen[0])
                if spent > LOOP_BUDGET and spent > _budget():
                    slow.append(f"{spent * 1000:.0f} ms in {self!r}")

    asyncio.events.Handle._run = timed  # type: ignore[method-assign]
    gc.callbacks.append(clock)
    guard = BlockBuster("syncer")
    # Not our code's: the lock of coverage, which traces threads as well.
    guard.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", "lock_data")
    guard.activate()
    try:
        yield slow
    finally:
        guard.deactivate()
        gc.callbacks.remove(clock)
        asyncio.events.Handle._run = run  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def loop_guard(request: pytest.FixtureRequest, slow_callbacks: list[str]) -> Iterator[None]:
    """Fail a test whose code blocks the event loop.

    Two guards: a blocking call (sleep, file or socket I/O) on the loop raises where it is made, and a
    callback that computes for over 100 ms (or 110, after an idle loop) fails the test. CPU time is what is
    measured, and by how fast the machine is just then, so that a busy one cannot fail a test; garbage
    collections are left out: they take long in a process that holds thousands of tests.
    """
    slow_callbacks.clear()
    yield
    # An attack that is not defended against may be one on the loop.
    is_allowed = request.node.get_closest_marker("undefended") is not None
    assert is_allowed or not slow_callbacks, f"the event loop was blocked: {slow_callbacks}"
