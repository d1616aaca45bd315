"""A process that may start no more threads, as in a container with a low limit on pids: it says so, and hangs never."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import finished
from tests.support.images import image
from tests.support.world import spec_between

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.cli.conftest import Serve

pytestmark = pytest.mark.untraced

CONTENT = {f"app:v{at}": image(seed=at) for at in range(2)}
#: The command line, in a process in which so many threads can be started. A real limit counts all that a user
#: runs, and does not hold for root.
FEW_THREADS = """
import sys, threading
start, left = threading.Thread.start, [int(sys.argv.pop(1))]
def limited(thread):
    if not left[0]:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    start(thread)
threading.Thread.start = limited
from syncer.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("threads", [pytest.param(at, marks=() if at == 2 else pytest.mark.torture) for at in range(8)])
def test_a_run_that_may_start_few_threads(serve: Serve, tmp_path: Path, threads: int) -> None:
    """Wherever one is missing, the run ends with 1 and says what to raise, or does without; the next one goes on."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, "from: source/app, to: target/app"))
        done = finished("run", spec, command=(sys.executable, "-c", FEW_THREADS, str(threads)))
        assert done.returncode in (0, 1)
        assert (done.returncode == 0) != ("this process may start no more threads. Raise" in done.stderr), done.stderr
        again = finished("run", spec, "--output", "json")
    assert again.returncode == 0, again.stderr
    tags = json.loads(again.stdout)["totals"]["tags"]
    assert tags["copied"] + tags["in-sync"] == len(CONTENT)
