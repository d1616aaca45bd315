"""Syncer and skopeo on the same servers, in the same minutes: ``python -m benchmarks``, or ``make bench``.

Two of Debian's docker-registry run on loopback over a file system in memory. Each tool brings one
repository from the first to the second, empty one (W1), and then again with nothing changed (W2).
The tools take turns within every round, and what arrived is checked after each W1. Nothing here is
part of the tests.
"""
