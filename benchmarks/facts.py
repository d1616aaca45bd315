"""What a run was made on and with: a number is worth nothing without it."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import version
from benchmarks.provision import find
from benchmarks.workloads import in_memory

if TYPE_CHECKING:
    from collections.abc import Mapping


def facts_of(rounds: int, scale: float) -> dict[str, Any]:
    """Return when a run begins, how large it is, and what it runs on and with."""
    return {
        "when": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "rounds": rounds,
        "scale": scale,
        "machine": {
            "cpus": os.cpu_count(),
            "processor": _processor(),
            "load": os.getloadavg(),
            "in_memory": in_memory() is not None,
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {
            "syncer": version(sys.executable, "-m", "syncer", "--version"),
            "skopeo": version(find("skopeo"), "--version"),
            # It begins with its path, and curl goes on with its libraries.
            "docker-registry": version(find("docker-registry"), "--version").partition(" ")[2],
            "curl": " ".join(version(find("curl"), "--version").split()[:2]),
        },
    }


def _processor() -> str:
    """Return the processor's name, as Linux tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.machine()


def headline(facts: Mapping[str, Any]) -> str:
    """Return the same in two lines."""
    machine = facts["machine"]
    storage = "in memory" if machine["in_memory"] else "on disk"
    return (
        f"{facts['rounds']} rounds, scale {facts['scale']:g}; {machine['cpus']} CPUs, load {machine['load'][0]:.1f};"
        f" storage {storage}\n{'; '.join(facts['versions'].values())}"
    )
