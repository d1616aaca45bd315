"""What a run tells the outside: logs, progress, heartbeats and the report, all Observers of the same events.

Names are loaded when they are first used: a command that only formats a size does not pay for the report.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncer.telemetry.heartbeat import HeartbeatObserver
    from syncer.telemetry.logs import LogLevel, LogObserver, configure_logging
    from syncer.telemetry.progress import ProgressObserver
    from syncer.telemetry.recorder import ReportObserver
    from syncer.telemetry.report import Report
    from syncer.telemetry.summary import render_report
    from syncer.telemetry.tally import Pace, Tally

__all__ = (
    "HeartbeatObserver",
    "LogLevel",
    "LogObserver",
    "Pace",
    "ProgressObserver",
    "Report",
    "ReportObserver",
    "Tally",
    "configure_logging",
    "render_report",
)

_HOMES = {
    "HeartbeatObserver": "heartbeat",
    "LogLevel": "logs",
    "LogObserver": "logs",
    "Pace": "tally",
    "ProgressObserver": "progress",
    "Report": "report",
    "ReportObserver": "recorder",
    "Tally": "tally",
    "configure_logging": "logs",
    "render_report": "summary",
}


def __getattr__(name: str) -> Any:
    if home := _HOMES.get(name):
        return getattr(importlib.import_module(f"syncer.telemetry.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
