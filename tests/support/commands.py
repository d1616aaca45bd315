"""Syncer as a process: run to its end or beside the test, under limits and from a prepared start."""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYNCER = (sys.executable, "-m", "syncer")
ROOT = Path(__file__).parents[2]
#: Seconds that no command here takes, however busy the machine is.
PATIENCE = 50


def finished(
    *arguments: object,
    limits: Mapping[int, int] | None = None,
    command: tuple[str, ...] = SYNCER,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        arguments: of the command.
        limits: the most of each resource (``resource.RLIMIT_…``) that the process may use.
        command: what is run.
        options: of ``subprocess.run``, in place of the usual.
    """
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        under([*command, *map(str, arguments)], limits), check=False, timeout=PATIENCE, **{**usual, **options}
    )
    assert "Traceback" not in f"{done.stdout}{done.stderr}", done.stderr
    return done


@contextmanager
def started(
    *arguments: object,
    limits: Mapping[int, int] | None = None,
    command: tuple[str, ...] = SYNCER,
    **options: Any,
) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test; it is killed at the end of the block. Arguments as for :func:`finished`."""
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    process: subprocess.Popen[str] = subprocess.Popen(
        under([*command, *map(str, arguments)], limits), **{**usual, **options}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for a command that was started; return what it printed, which holds no traceback."""
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in f"{out}{err}", err
    return out, err


def line_of(stream: IO[str] | None) -> str:
    """Return the next line of a process."""
    assert stream is not None
    return stream.readline()


def until_line(stream: IO[str] | None, words: str) -> str:
    """Read the lines of a process up to the one that holds ``words``; return it.

    Raises:
        AssertionError: when it ends before.
    """
    seen = []
    while words not in (line := line_of(stream)):
        seen.append(line)
        assert line, f"it ended before it said {words!r}: {''.join(seen)}"
    return line


def under(arguments: list[str], limits: Mapping[int, int] | None) -> list[str]:
    """Return a command that sets ``limits`` and then is ``arguments``, the same process."""
    if not limits:
        return arguments
    # Not preexec_fn: this process has threads.
    # Not measured for coverage either: that writes files of its own, which the limits hold for as well.
    script = (
        "import os, resource, sys\n"
        "for name in ('COVERAGE_PROCESS_START', 'COVERAGE_PROCESS_CONFIG'):\n"
        "    os.environ.pop(name, None)\n"
        f"for which, most in {dict(limits)!r}.items():\n"
        "    resource.setrlimit(which, (most, most))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    return [sys.executable, "-c", script, *arguments]


#: Most bytes of a file; beyond, a write fails with EFBIG, as for anybody without root.
FILE_SIZE = resource.RLIMIT_FSIZE
#: Most open files.
FILES = resource.RLIMIT_NOFILE
