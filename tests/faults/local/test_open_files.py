"""A process that may open few files, or no more: it does with less, or says so, and loses nothing."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from syncer.errors import OUT_OF_FILES_HINT, StateFailed
from syncer.registry.network.resolver import system_lookup
from syncer.state import StateStore
from tests.support.commands import FILES, ROOT, ended, finished, line_of, started
from tests.support.images import image
from tests.support.observing import Recorder
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.cli.conftest import Serve

pytestmark = pytest.mark.untraced

#: Enough to ask for more at once than there are files.
CONTENT = {f"app{at % 4}:v{at}": image(seed=at, layers=3, size=20_000) for at in range(24)}
EVERYTHING = "from: 'source/*', to: 'target/{path}'"


@pytest.mark.parametrize("files", [48, pytest.param(64, marks=pytest.mark.torture)])
def test_a_run_does_with_few_files(serve: Serve, tmp_path: Path, files: int) -> None:
    """Where only so many files may be open, less is asked at once, and everything arrives without a single retry."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        done = finished("run", spec, "--output", "json", limits={FILES: files})
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["totals"]["tags"]["copied"] == len(CONTENT)


def test_a_process_that_may_open_next_to_nothing(tmp_path: Path) -> None:
    """Below what a loop and a state need, a run is refused before it asks for anything, and says how many it needs."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(spec_between("127.0.0.1:1", "127.0.0.1:2", EVERYTHING))
    done = finished("run", spec, limits={FILES: 30})
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: this process may have 30 files open; it needs 48" in done.stderr
    assert OUT_OF_FILES_HINT in done.stderr


def test_the_limit_is_raised_as_far_as_it_may_be() -> None:
    """A low soft limit, as most sessions have, is raised to the hard one."""
    script = (
        "import resource; from syncer.app.surroundings import raise_file_limit; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 640)); "
        "print(raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "640 (640, 640)\n"


@pytest.fixture
def exhausted() -> Iterator[ExitStack]:
    """Take every file that this process may open; closing the stack gives them back."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - the numbers, not paths
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 20, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        while True:
            try:
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield stack


async def test_a_state_without_a_file_to_spare(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What SQLite calls unable to open is told as what it is; later the state is as it was."""
    path = tmp_path / "state.db"
    async with StateStore.open(path, observer=Recorder()) as store:
        await store.begin_run("spec.yaml")
    stack: ExitStack = request.getfixturevalue("exhausted")
    with pytest.raises(StateFailed, match="too many open files") as caught:
        async with StateStore.open(path, observer=Recorder()):
            pass
    assert caught.value.hint == OUT_OF_FILES_HINT
    stack.close()
    async with StateStore.open(path, observer=Recorder()) as store:
        assert len(await store.runs()) == 1


async def test_a_name_that_nobody_can_look_up(request: pytest.FixtureRequest) -> None:
    """Without a file to spare the C library knows no name at all; that is not said of the registry."""
    await system_lookup("localhost", 80)
    request.getfixturevalue("exhausted")
    with pytest.raises(OSError, match="Too many open files"):
        await system_lookup("localhost", 80)


def test_a_registry_without_a_file_to_spare(tmp_path: Path) -> None:
    """The embedded registry answers 503 while it can open no file, in one log line, and serves again afterwards."""
    with started("registry", "serve", tmp_path / "tree", "--listen", "127.0.0.1:0", limits={FILES: 48}) as process:
        address = line_of(process.stdout).split("http://")[1].strip()
        host, _, port = address.partition(":")
        with ExitStack() as stack:
            idle = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(60)]
            asking = b"POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            answer = "HTTP/1.1 202 "
            while answer.startswith("HTTP/1.1 202 "):
                # Connections are there before the registry has taken them: it may have files to spare for a moment.
                idle[0].sendall(asking)
                answer = idle[0].recv(4096).decode()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "Retry-After: 1\r\n" in answer
        listed = finished("list-repos", address)
        assert (listed.returncode, listed.stdout) == (0, "")
        process.terminate()
        _, err = ended(process)
    assert process.returncode == 0
    assert err.count("files.exhausted") == 1
