"""Standard streams that are closed, full, or have lost their reader: work and exit code do not depend on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from tests.support.commands import PATIENCE, ended, finished, started
from tests.support.gate import gate
from tests.support.images import image
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.from_thread import BlockingPortal

    from tests.integration.cli.conftest import Serve

pytestmark = pytest.mark.untraced

TERMINAL = pytest.param("terminal", marks=pytest.mark.torture)
TERMINAL_FAILED = pytest.param("terminal", 1, marks=pytest.mark.torture)
CONTENT = {"app:v1": image(seed="streams")}


@contextmanager
def unwritable(kind: str) -> Iterator[IO[str]]:
    """Give a stream that cannot be written to: on a full disk, a pipe that nobody reads, a terminal that is gone."""
    if kind == "full":
        with Path("/dev/full").open("w") as full:
            yield full
        return
    reader, writer = os.pipe() if kind == "pipe" else os.openpty()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


@pytest.mark.parametrize("kind", [pytest.param("full", marks=pytest.mark.torture), "pipe", TERMINAL])
def test_a_run_whose_words_nobody_hears(serve: Serve, portal: BlockingPortal, tmp_path: Path, kind: str) -> None:
    """With standard error gone a run is done all the same, and stops cleanly, with its report on standard output."""
    spec = tmp_path / "spec.yaml"
    with (
        serve("source", CONTENT) as source,
        serve("target") as target,
        portal.wrap_async_context_manager(gate(target.host)) as before,
        unwritable(kind) as gone,
    ):
        spec.write_text(spec_between(source.host, before.address, "from: source/app, to: target/app"))
        before.hold(r"PUT .*/manifests/")
        with started("run", spec, "--output", "json", stderr=gone) as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            stopped, _ = ended(process)
        assert (process.returncode, json.loads(stopped)["status"]) == (75, "interrupted")
        portal.call(before.open)
        done = finished("run", spec, "--output", "json", "--log-level", "debug", stderr=gone)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "done")


@pytest.mark.parametrize("kind", ["full", pytest.param("pipe", marks=pytest.mark.torture), TERMINAL])
def test_an_error_that_nobody_hears_has_its_code(tmp_path: Path, kind: str) -> None:
    """The exit code of an error does not depend on whether its words could be written."""
    with unwritable(kind) as gone:
        assert finished("run", tmp_path / "missing.yaml", stderr=gone).returncode == 2
        assert finished("nosuch", "--output", "json", stderr=gone).returncode == 2


@pytest.mark.parametrize(
    ("kind", "code"), [("full", 9), pytest.param("pipe", 1, marks=pytest.mark.torture), TERMINAL_FAILED]
)
def test_a_report_that_nobody_reads(serve: Serve, tmp_path: Path, kind: str, code: int) -> None:
    """A run whose report cannot be printed was done, and keeps it in its file: 9 where the disk is full, else 1."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, "from: source/app, to: target/app"))
        with unwritable(kind) as gone:
            done = finished("run", spec, stdout=gone)
            kept = ("--report", tmp_path / "report.json")
            # Not kept in a buffer until the end, as a long report is not either.
            unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1"}
            silent = finished("run", spec, "--output", "json", *kept, stdout=gone, stderr=gone, env=unbuffered)
        assert (done.returncode, silent.returncode) == (code, code), done.stderr
        assert "bug" not in done.stderr
        assert json.loads((tmp_path / "report.json").read_text())["status"] == "done"
        status = finished("status", spec, "--output", "json")
    assert [run["status"] for run in json.loads(status.stdout)["runs"]] == ["done", "done"]


def test_a_closed_standard_input(serve: Serve, tmp_path: Path) -> None:
    """Nothing is asked of who is not there: a run needs no standard input, and a log-in says what it misses."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, "from: source/app, to: target/app"))
        assert finished("run", spec, stdin=subprocess.DEVNULL).returncode == 0
        login = finished("login", source.host, "--authfile", tmp_path / "auth.json", stdin=subprocess.DEVNULL)
    assert login.returncode == 2
    assert "syncer: error: " in login.stderr
