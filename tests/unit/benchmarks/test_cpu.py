"""What the registries spend."""

from __future__ import annotations

import os
from collections import Counter

from benchmarks import workloads
from benchmarks.servers import Traffic, cpu_seconds, seconds_of_stat

STAT = "77 (a (b) c) S 1 77 77 0 -1 4194560 1234 0 0 0 250 150 900 800 20 0 9 0 12345 1000000 2000 18446744073709551615"


def test_user_and_system_time_are_added() -> None:
    """Children that were waited for are not in it, and a name with spaces and parentheses moves no field."""
    assert seconds_of_stat(STAT, 100) == 4.0


def test_a_process_is_known_by_the_kernel() -> None:
    """What is read of this process lies between what it says of itself before and after, to a tick."""
    before = sum(os.times()[:2])
    told = cpu_seconds(os.getpid())
    after = sum(os.times()[:2])
    assert before - 0.011 <= told <= after + 0.011


def test_a_process_that_is_not_there_has_spent_nothing() -> None:
    """Where the kernel does not say, nothing is claimed."""
    assert cpu_seconds(2**30) == 0.0


def test_one_registry_that_is_both_sides_is_counted_once() -> None:
    """Two processes are added; one process told twice is one."""
    asked, told = Traffic(requests=Counter(), cpu=1.5), Traffic(requests=Counter(), cpu=2.0)
    assert workloads.served(asked, told, is_within=False) == 3.5
    assert workloads.served(told, told, is_within=True) == 2.0
