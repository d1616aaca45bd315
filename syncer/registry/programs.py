"""Programs of others: started without a shell, bounded in time and output, ended with all they started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import Process

#: Bytes of output that a program may produce.
MAX_OUTPUT = 1024 * 1024


class Ending(StrEnum):
    """How a program came to its end."""

    #: By itself; its exit status tells the rest.
    EXITED = "exited"
    #: There is no such program on the PATH.
    ABSENT = "absent"
    #: It is there and cannot be started.
    UNSTARTABLE = "unstartable"
    #: It gave no answer in time, and was killed.
    HUNG = "hung"
    #: It printed more than it may, and was killed.
    TALKATIVE = "talkative"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What became of a program.

    Attributes:
        status: the exit status; the negative number of the signal that ended it; 0 when it did not end by itself.
        output: what it printed.
        reason: the system's words when it could not be started.
    """

    ending: Ending
    status: int = 0
    output: bytes = b""
    reason: str = ""


async def run_program(
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 - the program is killed after it, which a scope around the call would not do
    request: bytes = b"",
    keeps_errors: bool = False,
    most: int = MAX_OUTPUT,
) -> Ended:
    """Run the program ``arguments[0]`` of the PATH of ``environ``, give it ``request`` and read what it prints.

    When it does not end by itself, or this call is cancelled, its whole process group is killed.

    Args:
        arguments: the program and its arguments.
        environ: its whole environment.
        timeout: seconds it has.
        request: what it is given on stdin.
        keeps_errors: read its stderr too, mixed into the output, in place of dropping it.
        most: bytes it may print.
    """
    path = environ.get("PATH", os.defpath)
    found = await to_thread.run_sync(lambda: shutil.which(arguments[0], path=path))
    if found is None:
        return Ended(ending=Ending.ABSENT)
    try:
        # asyncio loses the pipes, and we the group, of a process whose start is cancelled half-way.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                [found, *arguments[1:]],
                stderr=subprocess.STDOUT if keeps_errors else subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
            )
    except OSError as error:
        return Ended(ending=Ending.UNSTARTABLE, reason=error.strerror or type(error).__name__)
    ended = Ended(ending=Ending.HUNG)
    try:
        with anyio.move_on_after(timeout):
            ended = await _converse(process, request, most)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, by_itself=ended.ending is Ending.EXITED)
    return ended


async def _converse(process: Process, request: bytes, most: int) -> Ended:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        return Ended(ending=Ending.UNSTARTABLE, reason="it has no pipes")
    # A program that does not read its request is judged by its answer. What a closed pipe raises depends
    # on the loop and the moment: anyio's own error, the system's, or uvloop's RuntimeError.
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError, RuntimeError):
        await stdin.send(request)
    await stdin.aclose()
    output = bytearray()
    async for chunk in stdout:
        output += chunk
        if len(output) > most:
            return Ended(ending=Ending.TALKATIVE)
    return Ended(ending=Ending.EXITED, status=await process.wait(), output=bytes(output))


async def _end(process: Process, *, by_itself: bool) -> None:
    if not by_itself:
        # Programs start others (gpg, a cloud's tool): the group goes, or they would live on.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    await process.aclose()
