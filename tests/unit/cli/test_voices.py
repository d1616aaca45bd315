"""Who tells what on standard error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from syncer.cli.options import LogFormat, Voice
from syncer.cli.voices import speaker

if TYPE_CHECKING:
    import pytest


def test_a_remark_is_an_object_among_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said beside log lines in JSON is JSON too, and prose otherwise."""
    speaker(Voice(log_format=LogFormat.JSON))("SIGTERM: stopping")
    assert json.loads(capsys.readouterr().err) == {
        "event": "command.notice",
        "text": "SIGTERM: stopping",
        "level": "warning",
    }
    speaker(Voice())("SIGTERM: stopping")
    assert capsys.readouterr().err == "syncer: SIGTERM: stopping\n"
