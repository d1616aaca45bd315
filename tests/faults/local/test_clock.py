"""Wall clocks that jump: what lasts is measured by a steady clock, and a date in the future is only a date."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from typing import TYPE_CHECKING

import pytest

from syncer.server import AuthMode
from tests.support.commands import finished
from tests.support.images import image
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

pytestmark = pytest.mark.untraced

PASSWORD = "CANARY-clock"
CONTENT = {f"app{at % 2}:v{at}": image(seed=at, layers=2, size=30_000) for at in range(8)}
#: The command line, with a clock that is put hours forward and back each time that somebody looks at it.
JUMPING = """
import itertools, sys, time
steady, hours = time.time, itertools.cycle([0, 7, -7, 30, -30, 0])
time.time = lambda: steady() + 3600 * next(hours)
from syncer.cli import main
sys.exit(main())
"""
#: The command line, over a year ago.
LATE = """
import sys, time
steady = time.time
time.time = lambda: steady() - 3600 * 24 * 400
from syncer.cli import main
sys.exit(main())
"""


def passwords(tmp_path: Path) -> Path:
    """Write a password file, and credentials for a spec."""
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()  # noqa: S324 - the file's format
    path = tmp_path / "htpasswd"
    path.write_text(f"bob:{{SHA}}{digest}\n")
    return path


@pytest.mark.torture
def test_a_clock_that_jumps_during_a_run(serve: Serve, tmp_path: Path) -> None:
    """Tokens and deadlines do not notice: everything arrives, at the requests of a run whose clock is steady."""
    counts = []
    htpasswd = passwords(tmp_path)
    with serve("source", CONTENT) as source:
        for name, command in (
            ("steady", (sys.executable, "-m", "syncer")),
            ("jumping", (sys.executable, "-c", JUMPING)),
        ):
            with serve(name, auth=AuthMode.TOKEN, htpasswd=htpasswd) as target:
                text = spec_between(source.host, target.host, "from: 'source/*', to: 'target/{path}'")
                head, _, tail = text.partition("  target: {")
                spec = tmp_path / f"{name}.yaml"
                spec.write_text(
                    f"{head}  target: {{credentials: {{username: bob, password: {PASSWORD}}}, {tail}".replace(
                        "./state.db", f"./{name}.db"
                    )
                )
                done = finished("run", spec, "--output", "json", command=command)
                assert done.returncode == 0, done.stderr
                report = json.loads(done.stdout)
                assert report["totals"]["tags"]["copied"] == len(CONTENT)
                assert report["retries"]["total"] == 0
                counts.append(sum(record.path.endswith("token") for record in target.requests))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("command", [LATE, pytest.param(JUMPING, marks=pytest.mark.torture)])
def test_a_state_from_the_future(serve: Serve, syncer: Syncer, tmp_path: Path, command: str) -> None:
    """After the clock was set back by over a year, what the state knows still counts, and nothing is sent again."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, "from: 'source/*', to: 'target/{path}'"))
        assert syncer("run", spec).code == 0
        before = len(target.requests)
        done = finished("run", spec, "--output", "json", command=(sys.executable, "-c", command))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["totals"]["tags"]["in-sync"] == len(CONTENT)
        assert {record.method for record in target.requests[before:]} <= {"GET", "HEAD"}
        status = finished("status", spec, command=(sys.executable, "-c", command))
    assert status.returncode == 0, status.stderr
    assert status.stdout.count("done") == 2
