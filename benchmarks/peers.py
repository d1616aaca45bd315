"""The tools that are compared: how each is told to copy a repository, and what running it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Seconds after which a tool is given up.
_LIMIT = 900.0
#: Processes that ``xargs`` keeps going.
_PROCESSES = 16
_PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a command took; ``memory`` is the peak resident size, in bytes, of its largest process."""

    wall: float
    cpu: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """One repository, from one registry to another; ``folder`` is where a tool may keep its files."""

    source: str
    target: str
    repository: str
    tags: Sequence[str]
    folder: Path


class Peer(Protocol):
    """A tool that copies repositories."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    def command(self, job: Job) -> list[str]:
        """Return the command that does ``job``; the files it needs are written."""
        ...


class SyncerRun:
    """Syncer by a spec, its state in a file that begins empty and is there for W2."""

    name = "syncer run"

    def command(self, job: Job) -> list[str]:
        """Write the spec and return the command."""
        spec = job.folder / "spec.yaml"
        spec.write_text(
            "version: 1\n"
            "state: ./state.db\n"
            "registries:\n"
            f"  source: {{host: '{job.source}', plain_http: true}}\n"
            f"  target: {{host: '{job.target}', plain_http: true}}\n"
            "sync:\n"
            f"  - {{from: source/{job.repository}, to: target/{job.repository}, tags: {{include: ['*']}}}}\n"
        )
        return [sys.executable, "-m", "syncer", "run", str(spec)]


class SkopeoSync:
    """``skopeo sync``, which copies one image after the other."""

    name = "skopeo sync"

    def command(self, job: Job) -> list[str]:
        """Return the command; skopeo appends the repository's last part to the target itself."""
        parent = job.repository.rpartition("/")[0]
        return [
            *("skopeo", "sync", "--src", "docker", "--dest", "docker", "--all", "--keep-going", *_PLAIN),
            *(f"{job.source}/{job.repository}", f"{job.target}/{parent}"),
        ]


class SkopeoCopies:
    """One ``skopeo copy`` for each tag, many at once; it is given the tags, which a script would have to list first."""

    name = f"xargs -P{_PROCESSES} skopeo copy"

    def command(self, job: Job) -> list[str]:
        """Write the list of tags and return the command."""
        tags = job.folder / "tags"
        tags.write_text("".join(f"{tag}\n" for tag in job.tags))
        return [
            *("xargs", "-a", str(tags), f"-P{_PROCESSES}", "-I{}", "skopeo", "copy", "--quiet", "--all", *_PLAIN),
            *(f"docker://{job.source}/{job.repository}:{{}}", f"docker://{job.target}/{job.repository}:{{}}"),
        ]


PEERS: tuple[Peer, ...] = (SyncerRun(), SkopeoSync(), SkopeoCopies())


def measured(command: Sequence[str], folder: Path) -> Usage:
    """Run ``command`` to its end, with ``folder`` as its home, and return what it took.

    Raises:
        RuntimeError: when it fails or takes too long, with the end of what it said.
    """
    said = folder / "output.txt"
    began = time.monotonic()
    with said.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_environ(folder), start_new_session=True
        )
    giving_up = threading.Timer(_LIMIT, os.killpg, (process.pid, signal.SIGKILL))
    giving_up.start()
    try:
        # Counts the processes that it waited for in turn, which is all of them.
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        giving_up.cancel()
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        text = said.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command[:6])} … ended with {process.returncode}:\n{text}")
    return Usage(wall=wall, cpu=usage.ru_utime + usage.ru_stime, memory=usage.ru_maxrss * 1024)


def version(*command: str) -> str:
    """Return the first line of what a command says of its version."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return ran.stdout.partition("\n")[0].strip()


def _environ(folder: Path) -> Mapping[str, str]:
    # No credentials, proxies or settings of whoever runs this.
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder)}
