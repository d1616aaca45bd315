"""Reading stacks."""

from __future__ import annotations

from benchmarks.profile import shares_of_stacks

STACKS = [
    "run (syncer/app/loop.py:23);send (syncer/registry/client.py:9);update (libcrypto.so.3) 50",
    "run (syncer/app/loop.py:23);feed (loop.c:10);write (libc.so.6) 20",
    "run (syncer/app/loop.py:23);copy (syncer/engine/images.py:7);0x7f0011 (libc.so.6) 20",
    "<module> (syncer/__main__.py:1);_find_and_load (<frozen importlib._bootstrap>:1027);__init__ (re.py:5) 10",
    "Thread.run (threading.py:982);PyThread_acquire_lock_timed (libpython3.11.so.1.0);0x7f (libc.so.6) 900",
]


def test_waiting_threads_are_no_work() -> None:
    """Shares are of the samples that worked; those of an import are told apart."""
    shares = dict(shares_of_stacks(STACKS)["where"])
    assert shares == {"OpenSSL": 0.5, "read and write": 0.2, "syncer/engine": 0.2, "imports": 0.1}


def test_frames_without_symbols_count_for_their_caller() -> None:
    """An address says nothing to a reader."""
    shares = dict(shares_of_stacks(STACKS)["function"])
    assert shares["copy (syncer/engine/images.py)"] == 0.2
    assert shares["update (libcrypto.so.3)"] == 0.5
    assert not any(name.startswith("0x") for name in shares)


def test_nothing_sampled_is_nothing() -> None:
    """A run that was too short for a sample has empty tables."""
    assert shares_of_stacks([]) == {"where": [], "function": []}
