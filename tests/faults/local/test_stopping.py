"""Signals at every stage of a run: what SIGTERM lets it finish, what it gives up, and that the next does the rest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from syncer.engine.runs import Breadth
from tests.support.commands import PATIENCE, ended, line_of, started, until_line
from tests.support.gate import Gate, gate
from tests.support.images import image
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.integration.cli.conftest import Ran, Serve
    from tests.support.images import Sample

    Syncer = Callable[..., Ran]

pytestmark = pytest.mark.untraced

STOPPED = 75
#: As many images of one target are under way at once.
OPEN_AT_ONCE = Breadth().images
#: More tags than are asked for one by one, so that the target is listed.
TAGS = 5
CONTENT = {f"app:v{at}": image(seed="stopping", layers=2, size=200_000) for at in range(TAGS)}
#: The command line, once an import that it needs has said so and waits.
IMPORTING = """
import sys, time
class Slow:
    def find_spec(self, name, *more):
        if name == "typer":
            print("importing", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
from syncer.cli import main
sys.exit(main())
"""
#: What happens while a module is imported, as a sitecustomize.py: ``python -m`` is to be as it is.
MEANWHILE = """
import os, signal, sys
named = {!r}
class Interrupting:
    def find_spec(self, name, *more):
        global named
        if name == named:
            named = ""
            exec({!r})
sys.meta_path.insert(0, Interrupting())
"""
ASKED = "os.kill(os.getpid(), signal.SIGTERM)\nfor _ in range(1000): pass"
#: Whatever is raised in it is ignored, as in what importlib does about its locks.
ASKED_IN_VAIN = f"class Gone:\n    def __del__(self): exec({ASKED!r})\nGone()"


@pytest.fixture(autouse=True)
def heard_signals() -> Iterator[None]:
    """Let processes hear SIGHUP and SIGINT although these tests may run under nohup, or in a shell's background.

    A signal that is ignored here would be ignored by every process that is started from here.
    """
    former = {one: signal.getsignal(one) for one in (signal.SIGHUP, signal.SIGINT)}
    for one, handler in former.items():
        if handler is signal.SIG_IGN or one is signal.SIGHUP:
            signal.signal(one, lambda _number, _frame: None)
    yield
    for one, handler in former.items():
        signal.signal(one, handler)


@contextmanager
def stage(
    serve: Serve, portal: BlockingPortal, tmp_path: Path, content: dict[str, Sample] = CONTENT
) -> Iterator[tuple[Path, Gate]]:
    """Serve a source with an image, and an empty target behind a gate; give a spec between them, and the gate."""
    with (
        serve("source", content) as source,
        serve("target") as target,
        portal.wrap_async_context_manager(gate(target.host)) as before,
    ):
        spec = tmp_path / "spec.yaml"
        spec.write_text(
            spec_between(source.host, before.address, "from: source/app, to: target/app, tags: {include: ['v*']}")
        )
        yield spec, before


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Write to a state file as somebody else would, so that nothing else can, until this is left."""
    with closing(sqlite3.connect(state, isolation_level=None, timeout=PATIENCE)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def assert_reported(out: str, status: str) -> dict[str, Any]:
    """Check that the report is whole, and says how the run ended."""
    report: dict[str, Any] = json.loads(out)
    assert report["status"] == status
    return report


def assert_goes_on(syncer: Syncer, spec: Path, *options: str) -> dict[str, int]:
    """Check that another run does what is left; return what became of the tags."""
    again = syncer("run", spec, "--output", "json", *options)
    assert again.code == 0, again.err
    tags: dict[str, int] = assert_reported(again.out, "done")["totals"]["tags"]
    if not options:
        assert tags["copied"] + tags["in-sync"] == len(CONTENT)
    return tags


def sessions(tmp_path: Path) -> list[str]:
    """Return the upload sessions that the target still has."""
    return [path.name for path in (tmp_path / "target" / ".syncer" / "uploads").iterdir()]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.torture)]
)
def test_a_signal_before_there_is_anything_to_stop(number: signal.Signals) -> None:
    """While the program is still being imported a signal ends it with 75 and one line, and no trace of Python's."""
    with started("run", "spec.yaml", command=(sys.executable, "-c", IMPORTING)) as process:
        assert line_of(process.stdout) == "importing\n"
        process.send_signal(number)
        out, err = ended(process)
    assert (process.returncode, out, err) == (STOPPED, "", "syncer: stopped\n")


def meanwhile(tmp_path: Path, module: str, happens: str) -> dict[str, str]:
    """Return the environment of a process to which something ``happens`` while it imports ``module``."""
    (tmp_path / "sitecustomize.py").write_text(MEANWHILE.format(module, happens))
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")}


def test_a_signal_within_what_the_interpreter_executes(tmp_path: Path) -> None:
    """Python itself would end the process by SIGINT for a KeyboardInterrupt that has gone through an exec."""
    with started("run", "spec.yaml", env=meanwhile(tmp_path, "typer", ASKED)) as process:
        out, err = ended(process)
    assert (process.returncode, out, err) == (STOPPED, "", "syncer: stopped\n")


@pytest.mark.parametrize(
    "case",
    [pytest.param(("typer", ASKED_IN_VAIN), id="ignored"), pytest.param(("aiosqlite", ASKED), id="on the loop")],
)
def test_a_signal_just_before_the_work_begins(
    serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path, case: tuple[str, str]
) -> None:
    """One that came where errors are ignored, or when the loop is there and nothing is open, stops the run as later."""
    with stage(serve, portal, tmp_path) as (spec, before):
        with started("run", spec, "--output", "json", env=meanwhile(tmp_path, *case)) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == STOPPED, err
        assert "SIGTERM: finishing" in err
        assert_reported(out, "interrupted")
        assert not before.lines
        assert_goes_on(syncer, spec)


def test_a_terminal_that_is_closed(serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path) -> None:
    """Its shell sends SIGHUP, and the kernel sends it once more when that has gone: it is no second wish."""
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"PUT .*/manifests/")
        with started("run", spec, "--output", "json") as process:
            assert before.reached.wait(PATIENCE)
            with locked(tmp_path / "state.db"):
                process.send_signal(signal.SIGHUP)
                until_line(process.stderr, "sync.tag_cancelled")
                process.send_signal(signal.SIGHUP)
            out, err = ended(process)
        assert process.returncode == STOPPED, err
        assert_reported(out, "interrupted")
        portal.call(before.open)
        assert_goes_on(syncer, spec)


def test_a_served_registry_that_is_told_twice_ends_what_is_under_way(tmp_path: Path) -> None:
    """A terminal that is closed says so twice: a request that was being made when it did is answered all the same."""
    with started("registry", "serve", tmp_path / "tree", "--listen", "127.0.0.1:0", "--output", "json") as process:
        host, _, port = json.loads(line_of(process.stdout))["address"].partition(":")
        digest = f"sha256:{hashlib.sha256(b'whole').hexdigest()}"
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = f"POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\n"
            connection.sendall(head.encode() + b"who")
            while not any((tmp_path / "tree" / ".syncer" / "uploads").glob("*")):
                time.sleep(0.01)
            process.send_signal(signal.SIGHUP)
            # Refused, or reset when it came in the last moment.
            with pytest.raises(ConnectionError):
                while True:
                    socket.create_connection((host, int(port)), timeout=20).close()
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
            connection.sendall(b"le")
            assert connection.recv(100).startswith(b"HTTP/1.1 201")
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    "case",
    [
        "SIGTERM (PATCH|PUT) .*/blobs/uploads/",
        "SIGHUP (PATCH|PUT) .*/blobs/uploads/",
        pytest.param("SIGTERM POST .*/blobs/uploads/", marks=pytest.mark.torture),
        pytest.param("SIGTERM PUT .*/manifests/", marks=pytest.mark.torture),
    ],
)
def test_a_signal_while_the_target_does_not_answer(
    serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path, case: str
) -> None:
    """What takes longer than a drain is given up: 75, a whole report, no session left open, and the next goes on."""
    name, watched = case.split(" ", 1)
    number = signal.Signals[name]
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(watched)
        with started("run", spec, "--output", "json", "--drain", "0.05") as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(number)
            out, err = ended(process)
        assert process.returncode == STOPPED, err
        assert f"{number.name}: {'finishing' if number is signal.SIGTERM else 'stopping'}" in err
        assert_reported(out, "interrupted")
        portal.call(before.open)
        if not watched.startswith("POST"):
            # A POST that nobody answered may open its session later; all others were told of theirs.
            assert sessions(tmp_path) == []
        assert_goes_on(syncer, spec)


def test_a_signal_during_a_pause(serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path) -> None:
    """A registry that asks to wait for a minute is not waited for, by a drain that may take half of it neither."""
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"HEAD|GET", lambda: web.Response(status=429, headers={"Retry-After": "60"}))
        with started("run", spec, "--output", "json", "--drain", "30") as process:
            until_line(process.stderr, "registry.retry_scheduled")
            process.send_signal(signal.SIGTERM)
            out, err = ended(process)
        assert process.returncode == STOPPED, err
        assert_reported(out, "interrupted")
        portal.call(before.open)
        assert_goes_on(syncer, spec)


@pytest.mark.torture
def test_sigterm_during_a_pause_of_a_copy(serve: Serve, portal: BlockingPortal, tmp_path: Path) -> None:
    """A single image that would have to wait for a minute is given up at once, and says how to go on."""
    with serve("source", CONTENT) as source, portal.wrap_async_context_manager(gate(source.host)) as before:
        before.hold("GET", lambda: web.Response(status=429, headers={"Retry-After": "60"}))
        with started("copy", f"{before.address}/app:v0", f"oci:{tmp_path / 'copy'}:v0", "--drain", "30") as process:
            until_line(process.stderr, "registry.retry_scheduled")
            process.send_signal(signal.SIGTERM)
            out, err = ended(process)
    assert (process.returncode, out) == (STOPPED, "")
    assert "longer than there was time. Run it again to go on" in err


def test_a_signal_during_a_connect_that_hangs(serve: Serve, tmp_path: Path) -> None:
    """A host that takes no connection, and refuses none, does not hold up a stop."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filling in (one, two):
            filling.settimeout(0)
            filling.connect_ex(full.getsockname())
        address = f"127.0.0.1:{full.getsockname()[1]}"
        spec.write_text(spec_between(source.host, address, "from: source/app, to: target/app, tags: {include: [v0]}"))
        with started("run", spec, "--output", "json", "--log-level", "debug", "--drain", "0.05") as process:
            until_line(process.stderr, "sync.repository_listed")
            process.send_signal(signal.SIGTERM)
            out, err = ended(process)
    assert process.returncode == STOPPED, err
    assert_reported(out, "interrupted")


@pytest.mark.parametrize("command", [pytest.param("run", marks=pytest.mark.torture), "list-tags"])
def test_a_signal_while_a_credential_helper_hangs(serve: Serve, tmp_path: Path, command: str) -> None:
    """The helper is killed along with the command, whether that stops cleanly or just ends."""
    helper, pid = tmp_path / "docker-credential-slow", tmp_path / "pid"
    os.mkfifo(pid)
    helper.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 60\n")
    helper.chmod(0o755)
    spec, authfile = tmp_path / "spec.yaml", tmp_path / "auth.json"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, "from: source/app, to: target/app"))
        authfile.write_text(json.dumps({"credHelpers": {source.host: "slow"}}))
        arguments = ("run", spec) if command == "run" else ("list-tags", f"{source.host}/app")
        if command == "run":
            arguments = (*arguments, "--drain", "0.05")
        environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        with started(*arguments, "--authfile", authfile, env=environ) as process:
            number = int(pid.read_text())
            process.send_signal(signal.SIGTERM)
            _, err = ended(process)
    assert process.returncode == STOPPED, err
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_signal_while_the_state_cannot_be_written(
    serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path
) -> None:
    """A stop waits for the state, which somebody else has locked for a moment, and notes how the run ended."""
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"PUT .*/manifests/")
        with started("run", spec, "--output", "json") as process:
            assert before.reached.wait(PATIENCE)
            with locked(tmp_path / "state.db"):
                process.send_signal(signal.SIGINT)
                until_line(process.stderr, "sync.tag_cancelled")
            out, err = ended(process)
        assert process.returncode == STOPPED, err
        assert_reported(out, "interrupted")
        with closing(sqlite3.connect(tmp_path / "state.db")) as state:
            assert state.execute("SELECT status FROM runs").fetchall() == [("interrupted",)]
        portal.call(before.open)
        assert_goes_on(syncer, spec)


@pytest.mark.parametrize("case", ["SIGINT stopping SIGINT", "SIGTERM finishing SIGINT", "SIGTERM finishing SIGTERM"])
def test_two_signals_end_it_at_once(
    serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path, case: str
) -> None:
    """The second one asks nobody, waits for nothing and writes nothing; the next run goes on from there."""
    first, said, second = case.split()
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"(PATCH|PUT|DELETE) .*/blobs/uploads/")
        with started("run", spec, "--output", "json") as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.Signals[first])
            until_line(process.stderr, f"{first}: {said}")
            while process.poll() is None:
                # One that comes at once is the first one told twice, as timeout(1) does.
                process.send_signal(signal.Signals[second])
                time.sleep(0.05)
            out, err = ended(process)
        assert (process.returncode, out) == (STOPPED, ""), err
        portal.call(before.open)
        assert_goes_on(syncer, spec)


def test_two_signals_while_nobody_reads(serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path) -> None:
    """The first cannot be told of, and the loop waits for that to be read: the second one ends it all the same."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write, b" ")
    os.set_blocking(write, True)
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"PUT .*/manifests/")
        with started("run", spec, "--output", "json", stderr=write) as process:
            assert before.reached.wait(PATIENCE)
            since = time.monotonic()
            while process.poll() is None and time.monotonic() < since + PATIENCE:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.05)
            assert process.poll() == STOPPED
        portal.call(before.open)
        assert_goes_on(syncer, spec)
    os.close(read)
    os.close(write)


def test_sigterm_finishes_the_images_under_way(
    serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path
) -> None:
    """Of more tags than are open at once those under way arrive; the others are not begun, and left to the next run."""
    content = {f"app:v{at:02}": image(seed="draining", layers=1, size=5000) for at in range(OPEN_AT_ONCE + 6)}
    with stage(serve, portal, tmp_path, content) as (spec, before):
        before.hold(r"PUT .*/manifests/")
        with started("run", spec, "--output", "json") as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            said = until_line(process.stderr, "SIGTERM")
            portal.call(before.open)
            out, err = ended(process)
        assert said == "syncer: SIGTERM: finishing what is under way, 7 s at most; a second signal stops at once\n"
        assert process.returncode == STOPPED, err
        report = assert_reported(out, "interrupted")
        assert report["totals"]["selected"] == len(content)
        assert report["totals"]["tags"]["copied"] == report["totals"]["manifests"]["count"] == OPEN_AT_ONCE
        assert report["cut"] == {"entries": 0, "repositories": 1}
        assert sum(line.startswith("PUT") and "/manifests/" in line for line in before.lines) == OPEN_AT_ONCE
        tags = assert_goes_on(syncer, spec, "--retry-failed")
    assert (tags["copied"], tags["in-sync"]) == (6, OPEN_AT_ONCE)


def test_sigterm_when_all_is_under_way(serve: Serve, portal: BlockingPortal, tmp_path: Path) -> None:
    """A run that has begun everything and finishes it in time is done, and exits with 0."""
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"PUT .*/manifests/")
        with started("run", spec, "--output", "json") as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            until_line(process.stderr, "SIGTERM: finishing")
            portal.call(before.open)
            out, err = ended(process)
        assert process.returncode == 0, err
        assert assert_reported(out, "done")["totals"]["tags"]["copied"] == TAGS


def test_sigterm_while_a_list_stalls(serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path) -> None:
    """A list that does not come is waited for no longer, however long the drain is; the next run does what is left."""
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"GET .*/tags/list")
        with started("run", spec, "--output", "json", "--drain", "3600") as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            out, err = ended(process)
        assert process.returncode == STOPPED, err
        report = assert_reported(out, "interrupted")
        assert (report["totals"]["selected"], report["cut"]["repositories"]) == (TAGS, 1)
        portal.call(before.open)
        assert assert_goes_on(syncer, spec, "--retry-failed")["copied"] == TAGS


@pytest.mark.parametrize(("drain", "code"), [("7", 0), ("0.05", STOPPED), ("0", STOPPED)])
def test_sigterm_during_a_copy(serve: Serve, portal: BlockingPortal, tmp_path: Path, drain: str, code: int) -> None:
    """The one image is under way: it is finished in time, or given up, without an upload that is left open."""
    with stage(serve, portal, tmp_path) as (_, before):
        source = next(iter(re.findall(r"source: {host: '([^']+)'", (tmp_path / "spec.yaml").read_text())))
        before.hold(r"(PATCH|PUT) .*/blobs/uploads/")
        with started("copy", f"{source}/app:v0", f"{before.address}/app:v0", "--drain", drain) as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            until_line(process.stderr, "SIGTERM")
            if code == 0:
                portal.call(before.open)
            out, err = ended(process)
        assert process.returncode == code, err
        assert out == (f"{CONTENT['app:v0'].digest}\n" if code == 0 else "")
        assert sessions(tmp_path) == []


@pytest.mark.torture
def test_a_target_that_hangs_at_the_very_end(
    serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path
) -> None:
    """A registry that does not even answer the DELETE of a session holds up a stop for no longer than its deadline."""
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"(PATCH|PUT|DELETE) .*/blobs/uploads/")
        with started("run", spec, "--output", "json", "--drain", "0.05") as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            out, err = ended(process)
        assert process.returncode == STOPPED, err
        assert_reported(out, "interrupted")
        portal.call(before.open)
        assert_goes_on(syncer, spec)


def test_nohup_is_respected(serve: Serve, portal: BlockingPortal, tmp_path: Path) -> None:
    """Where SIGHUP is ignored when a run starts, a terminal that is closed does not stop it."""
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = (sys.executable, "-c", ignoring, "-m", "syncer")
    with stage(serve, portal, tmp_path) as (spec, before):
        before.hold(r"PUT .*/manifests/")
        with started("run", spec, "--output", "json", command=command) as process:
            assert before.reached.wait(PATIENCE)
            process.send_signal(signal.SIGHUP)
            portal.call(before.open)
            out, err = ended(process)
    assert process.returncode == 0, err
    assert_reported(out, "done")
