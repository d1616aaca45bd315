"""Who hears the events of a command: log lines, and bars or a heartbeat where something moves."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from syncer.cli.rendering import say, tell
from syncer.telemetry.grid import Pipe
from syncer.telemetry.logs import LogLevel, LogObserver, configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from syncer.cli.options import Voice
    from syncer.events import Observer


#: Variables by which rich takes for a terminal what is none, as the logs of some CI systems.
_DRAWN_ALL_THE_SAME = frozenset({"FORCE_COLOR", "TTY_COMPATIBLE"})


def logs(voice: Voice) -> LogObserver:
    """Return the observer that writes log lines to standard error."""
    level = LogLevel.ERROR if voice.quiet else LogLevel(voice.log_level.value)
    return LogObserver(lambda: configure_logging(json=voice.log_format == "json", level=level), level=level)


def listeners(voice: Voice, *, label: str) -> list[Observer]:
    """Return who listens to a command that moves content.

    Bars are for a terminal. Elsewhere a line every ten seconds says that it goes on, unless log lines
    are JSON: then a line of prose between them would break their reader.
    """
    found: list[Observer] = [logs(voice)]
    if voice.quiet or voice.no_progress:
        return found
    if sys.stderr.isatty() and voice.log_format != "json":
        from rich.console import Console  # noqa: PLC0415 - only where there is something to draw on

        from syncer.telemetry.progress import ProgressObserver  # noqa: PLC0415 - same

        found.append(ProgressObserver(Console(stderr=True), label=label))
    elif voice.log_format != "json":
        from syncer.telemetry.heartbeat import HeartbeatObserver  # noqa: PLC0415 - only where no bars are

        found.append(HeartbeatObserver(sys.stderr, label=label))
    return found


def speaker(voice: Voice) -> Callable[[str], None]:
    """Return what tells a person something that is not a result; a JSON object where log lines are such objects."""

    def as_object(text: str) -> None:
        tell(json.dumps({"event": "command.notice", "text": text, "level": "warning"}))

    return as_object if voice.log_format == "json" else say


def console() -> Console | Pipe:
    """Return the console of standard output, for tables."""
    if not sys.stdout.isatty() and not _DRAWN_ALL_THE_SAME & os.environ.keys():
        return Pipe(sys.stdout)
    from rich.console import Console  # noqa: PLC0415 - only where there is something to draw on

    return Console(file=sys.stdout, soft_wrap=False)
