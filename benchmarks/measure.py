"""Running a tool and measuring what it takes: seconds, CPU seconds, and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.provision import libraries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.servers import Traffic

#: Seconds after which a tool is given up.
_LIMIT = 1800.0


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a command took: ``wall`` and ``cpu`` in seconds, children included.

    ``memory`` is the peak resident size, in bytes, of the largest of its processes.
    """

    wall: float
    cpu: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One tool, one workload, one round; ``facts`` are figures of that workload's own.

    ``served`` are the CPU seconds of the registries meanwhile, of both or of the one that is both sides;
    ``started`` are those of the tool for something tiny in the same round, 0 where that was not measured.
    """

    workload: str
    peer: str
    round: int
    usage: Usage
    source: Traffic
    target: Traffic
    served: float = 0.0
    started: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the plain data: seconds, bytes, and requests by kind."""
        return {
            "workload": self.workload,
            "peer": self.peer,
            "round": self.round,
            **asdict(self.usage),
            "source": self.source.to_json(),
            "target": self.target.to_json(),
            "served": self.served,
            "started": self.started,
            "facts": dict(self.facts),
        }


def measured(command: Sequence[str], folder: Path) -> Usage:
    """Run ``command`` to its end, with ``folder`` as its home, and return what it took.

    A small process stands between: the peak memory of a process counts what it was before it became
    the command, and we may be large.

    Raises:
        RuntimeError: when it fails or takes too long, with the end of what it said.
    """
    said, told = folder / "output.txt", folder / "usage.json"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCH, str(said), str(told), str(_LIMIT), *command],
        env=_environ(folder),
        start_new_session=True,
    )
    try:
        process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    usage = json.loads(told.read_text()) if process.returncode == 0 else {"status": process.returncode}
    if usage["status"]:
        text = said.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command[:6])} … ended with {usage['status']}:\n{text}")
    return Usage(wall=usage["wall"], cpu=usage["cpu"], memory=usage["memory"])


#: Runs a command and writes what it took. wait4 counts the processes that the command waited for in turn, which
#: is all of them; a command that takes too long is killed with them.
_WATCH = """
import json, os, signal, sys, threading, time
said, told, limit, *command = sys.argv[1:]
output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
began = time.monotonic()
child = os.posix_spawnp(command[0], command, os.environ, setpgroup=0, file_actions=[
    (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)])
signal.signal(signal.SIGTERM, lambda *_: os.killpg(child, signal.SIGKILL))
timer = threading.Timer(float(limit), os.killpg, (child, signal.SIGKILL))
timer.daemon = True
timer.start()
_, status, usage = os.wait4(child, 0)
wall = time.monotonic() - began
with open(told, "w") as file:
    json.dump({"status": os.waitstatus_to_exitcode(status), "wall": wall,
               "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}, file)
"""


def version(*command: str) -> str:
    """Return the first line of what a command says of its version."""
    environ = {**os.environ, "LD_LIBRARY_PATH": libraries()}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    return ran.stdout.partition("\n")[0].strip()


def _environ(folder: Path) -> Mapping[str, str]:
    # No credentials, proxies or settings of whoever runs this.
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        # Syncer as it is beside us, not as it may be installed.
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "LD_LIBRARY_PATH": libraries(),
        "CONTAINERS_REGISTRIES_CONF": os.devnull,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        # As root, skopeo keeps what it learns of blobs in one file of the whole system: every run would
        # know what others did. This makes it look at HOME.
        "_CONTAINERS_ROOTLESS_UID": "1000",
    }
