"""What a run tells the outside: logs, progress, heartbeats and the report, all Observers of the same events.

Names are loaded when they are first used: a command that only formats a size does not pay for the report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.lazy import lazy_names

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
    "HeartbeatObserver": "syncer.telemetry.heartbeat",
    "LogLevel": "syncer.telemetry.logs",
    "LogObserver": "syncer.telemetry.logs",
    "Pace": "syncer.telemetry.tally",
    "ProgressObserver": "syncer.telemetry.progress",
    "Report": "syncer.telemetry.report",
    "ReportObserver": "syncer.telemetry.recorder",
    "Tally": "syncer.telemetry.tally",
    "configure_logging": "syncer.telemetry.logs",
    "render_report": "syncer.telemetry.summary",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
