"""The command line: modules that call :mod:`syncer.app`, print, and set the exit code.

What is imported before the command is known is kept small: ``syncer --version`` needs nothing but
this module, and a command does not pay for its neighbours.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from syncer.app.interrupting import interruptible

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

#: ExitCode.STOPPED, before anything is imported.
_STOPPED = 75


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (the process's own by default) and return the exit code."""
    _fill_standard_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from syncer import __version__  # noqa: PLC0415 - the fast path is explicit about what it imports

        sys.stdout.write(f"syncer {__version__}\n")
        return 0
    # Imports make many objects and no garbage: collecting between them costs a tenth of the start-up.
    # app.loop turns collection on again when the work begins.
    gc.disable()
    # The interpreter looks for garbage once more as it ends, through all that was imported; the system
    # takes the memory back anyway.
    atexit.register(gc.freeze)
    with interruptible():
        try:
            from syncer.cli.dispatch import dispatch  # noqa: PLC0415 - typer is not needed for the version

            return dispatch(arguments)
        except KeyboardInterrupt:
            # Half-way through an import, or while the last words were said.
            with suppress(OSError):
                sys.stderr.write("syncer: stopped\n")
            return _STOPPED


def _fill_standard_streams() -> None:
    """Open /dev/null where standard input, output or error is closed, as some schedulers start a process.

    Otherwise the next files and sockets get their numbers, and the event loop's library aborts on that.
    """
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is the one that is missing; it stays open as long as the process.
            os.open(os.devnull, os.O_RDWR)
            stream = os.fdopen(number, mode, closefd=False)
            setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
