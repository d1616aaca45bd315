"""What a process holds on to: memory, open files, threads, tasks; and whether that grows."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import threading
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What a process holds at one moment; ``memory`` is its resident set in bytes."""

    memory: int
    files: int
    threads: int
    tasks: int
    objects: int

    @classmethod
    def now(cls) -> Held:
        """Return what this process holds, once garbage is gone."""
        gc.collect()
        return cls(
            memory=memory_of(os.getpid()),
            files=files_of(os.getpid()),
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
            objects=len(gc.get_objects()),
        )


def memory_of(pid: int) -> int:
    """Return the resident set of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def files_of(pid: int) -> int:
    """Return how many files a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def slope(values: list[int]) -> float:
    """Return by how much ``values`` grow from one to the next: the median of the slopes of all pairs (Theil-Sen).

    Outliers, a buffer that was there at the moment of a look, change nothing of it.
    """
    slopes = [
        (later - earlier) / (at - before)
        for at, later in enumerate(values)
        for before, earlier in enumerate(values[:at])
    ]
    return statistics.median(slopes)


def growth(looks: list[Held]) -> dict[str, float]:
    """Return the slope of everything held over ``looks``, by name."""
    return {each.name: slope([getattr(look, each.name) for look in looks]) for each in fields(Held)}
