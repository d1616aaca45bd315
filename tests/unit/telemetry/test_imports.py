"""What telemetry's names cost."""

from __future__ import annotations

import subprocess
import sys


def test_heavy_libraries_wait() -> None:
    """Neither structlog nor rich is imported before there is something to write or draw."""
    code = (
        "import sys, syncer.telemetry as t; [getattr(t, name) for name in t.__all__];"
        "t.LogObserver(t.configure_logging); t.ReportObserver().report();"
        "sys.exit(bool({'structlog', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
