"""Syncer and its peers on the same servers, in the same minutes: ``python -m benchmarks``, or ``make bench``.

Debian's docker-registry runs on loopback over a file system in memory, and each tool does the same work
with it: see ``benchmarks.workloads``. The tools take turns, another one begins in each round, and what
arrived is checked every time. ``python -m benchmarks publish FILE…`` makes docs/performance.md of the
results. Nothing here is part of the tests.
"""
