"""Commands as processes of their own: streams, signals, start-up."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from tests.support.images import image, index
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.cli.conftest import Serve

SYNCER = (sys.executable, "-m", "syncer")


def finished(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*SYNCER, *arguments], capture_output=True, text=True, check=False, timeout=30)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test."""
    process = subprocess.Popen([*SYNCER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(stream: IO[str] | None) -> str:
    """Return the next line of a process."""
    assert stream is not None
    return stream.readline()


def test_the_version_imports_nothing_heavy() -> None:
    """Neither typer nor rich nor pydantic nor aiohttp is needed to print a version."""
    script = (
        "import sys; from syncer.cli import main; main(['--version']); "
        "print(sorted({'typer', 'rich', 'pydantic', 'aiohttp', 'structlog'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[1] == "[]"


def test_the_list_of_commands_imports_none_of_them() -> None:
    """Help is quick: no client, no server, no spec."""
    script = (
        "import sys; from syncer.cli import main; main(['--help']); "
        "print(sorted({'rich', 'aiohttp', 'structlog', 'aiosqlite'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def imported_by(*arguments: str, code: int = 0) -> list[str]:
    """Run a command to its end, and return the modules that it has imported by then, in their order."""
    script = (
        "import sys; from syncer.cli import main; code = main(sys.argv[1:]); print(*sys.modules, file=sys.stderr); "
        "sys.exit(code)"
    )
    # Whoever measures what is covered imports things of its own.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=environ,
    )
    assert ran.returncode == code, ran.stderr
    return ran.stderr.splitlines()[-1].split()


#: What writes lines, draws, reads files of mirrors, and keeps content on this machine.
IDLE = {
    "structlog",
    "rich",
    "tomllib",
    "syncer.telemetry.progress",
    "syncer.registry.registries_conf",
    "syncer.registry.mirrors",
    "syncer.layout",
    "syncer.server",
    "syncer.demo",
}


@pytest.mark.untraced
def test_a_copy_imports_nothing_of_a_run(serve: Serve) -> None:
    """One image between two registries needs no spec, no plan, no state and no report."""
    with serve("source", {"x:v1": image(seed="lean")}) as source, serve("target") as target:
        imported = imported_by("copy", f"{source.host}/x:v1", f"{target.host}/x:v1")
    of_a_run = {
        "ruamel",
        "sqlite3",
        "syncer.spec",
        "syncer.plan",
        "syncer.state",
        "syncer.telemetry.report",
        "syncer.telemetry.redaction",
        "syncer.engine.runs",
        "syncer.engine.repositories",
        "syncer.app.running",
    }
    assert (of_a_run | IDLE) & set(imported) == set()
    # With next to nothing on the stack: our own modules would import it from deep below.
    assert imported.index("aiohttp") < imported.index("syncer.app.copying")


@pytest.mark.untraced
def test_a_run_that_finds_everything_in_sync_imports_nothing_that_moves_content(serve: Serve, tmp_path: Path) -> None:
    """Uploads, downloads and what failures mean are imported when there is one."""
    spec = tmp_path / "spec.yaml"
    with serve("source", {"x:v1": image(seed="lean")}) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, "from: source/x, to: target/y"))
        assert finished("run", str(spec)).returncode == 0
        imported = imported_by("run", str(spec))
    moving = {"syncer.registry.upload", "syncer.registry.download", "syncer.registry.manifests"}
    assert (moving | IDLE) & set(imported) == set()
    assert imported.index("aiohttp") < imported.index("syncer.app.loop")


def test_what_asks_no_registry_imports_no_client(tmp_path: Path) -> None:
    """A status and a look at a spec are quick."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(spec_between("a.example", "b.example", "from: source/x, to: target/y"))
    assert "aiohttp" not in imported_by("spec", "validate", str(spec))
    assert "aiohttp" not in imported_by("status", str(spec), code=2)


def test_errors_go_to_standard_error_and_the_code_to_the_shell() -> None:
    """A usage error exits with 2 and leaves standard output empty."""
    ran = finished("inspect", "UPPER/x")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("syncer: error: invalid reference")


def test_raw_bytes_reach_a_pipe_unchanged(serve: Serve) -> None:
    """A manifest can be hashed by whatever reads the pipe, another syncer for example."""
    sample = index(seed="pipe")
    with serve("source", {"x:v1": sample}) as registry:
        raw = subprocess.run([*SYNCER, "inspect", "--raw", f"{registry.host}/x:v1"], capture_output=True, check=True)
    hashed = subprocess.run([*SYNCER, "manifest-digest", "-"], input=raw.stdout, capture_output=True, check=True)
    assert hashed.stdout.decode() == f"{sample.digest}\n"


def test_a_reader_that_has_seen_enough_is_no_error_message() -> None:
    """When the reader of standard output goes away, the command ends without a word."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        ran = subprocess.run([*SYNCER, "spec", "schema"], stdout=gone, stderr=subprocess.PIPE, check=False, timeout=30)
    assert ran.stderr == b""
    assert ran.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_registry_is_used_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """It prints where it listens, another command finds it there, and a signal ends it with 0."""
    with started("registry", "serve", str(tmp_path / "tree"), "--listen", "127.0.0.1:0", "--output", "json") as process:
        address = json.loads(line_of(process.stdout))["address"]
        assert finished("list-repos", address).returncode == 0
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_an_address_that_is_taken_is_told(serve: Serve, tmp_path: Path) -> None:
    """A second server on one address ends with a usage error."""
    with serve("first") as registry:
        ran = finished("registry", "serve", str(tmp_path / "second"), "--listen", registry.host)
    assert ran.returncode == 2
    assert f"cannot listen on {registry.host}" in ran.stderr


@pytest.mark.untraced
def test_a_run_that_is_stopped_says_so_and_the_next_one_goes_on(serve: Serve, tmp_path: Path) -> None:
    """SIGTERM in the middle exits with 75 and a report; meanwhile a second run is refused, and a status is not."""
    spec = tmp_path / "spec.yaml"
    content = {"x:v1": image(seed="stopped", layers=4, size=300_000)}
    with serve("source", content) as source, serve("target") as target:
        # Slow enough to be met in the middle: a megabyte at fifty kilobytes a second.
        text = spec_between(source.host, target.host, "from: source/x, to: target/y")
        slow = text.replace("plain_http: true}", "plain_http: true, limits: {bandwidth: 50KiB/s}}", 1)
        spec.write_text(slow)
        with started("run", str(spec), "--output", "json", "--log-level", "debug", "--drain", "0.1") as process:
            while "sync.blob_started" not in (line := line_of(process.stderr)):
                assert line, "it ended before it moved anything"
            second = finished("run", str(spec))
            beside = finished("status", str(spec), "--output", "json")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
        spec.write_text(text)
        again = finished("run", str(spec), "--output", "json")
    assert process.returncode == 75, err
    assert json.loads(out)["status"] == "interrupted"
    assert "SIGTERM: finishing what is under way, 0.1 s at most; a second signal stops at once" in err
    assert (second.returncode, second.stdout) == (75, "")
    assert str(process.pid) in second.stderr
    assert json.loads(beside.stdout)["runs"][0]["status"] == "running"
    assert again.returncode == 0
    assert json.loads(again.stdout)["totals"]["tags"]["copied"] == 1


def test_a_copy_that_is_stopped_exits_with_75() -> None:
    """SIGINT while a registry does not answer ends the copy in one paragraph."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with started("copy", f"{address}/x:v1", f"{address}/y:v1") as process:
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
            connection.close()
    assert (process.returncode, out) == (75, "")
    assert "SIGINT: stopping" in err
    assert "syncer: error: stopped before the end. Run it again" in err


def test_a_terminal_is_asked_for_the_password_without_an_echo(serve: Serve, tmp_path: Path) -> None:
    """On a terminal the user name and the password are asked for, and the password does not show."""
    password = "CANARY-typed"
    digest = base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324 - the file's format
    (tmp_path / "htpasswd").write_text(f"bob:{{SHA}}{digest}\n")
    try:
        master, slave = os.openpty()
    except OSError as error:
        pytest.skip(f"there are no terminals here: {error}")
    with serve("locked", auth="basic", htpasswd=tmp_path / "htpasswd") as registry:
        command = [*SYNCER, "login", registry.host, "--authfile", str(tmp_path / "auth.json")]
        with subprocess.Popen(
            command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stderr is not None
            assert process.stdout is not None
            os.write(master, b"bob\n")
            asked = b""
            while b"Password of bob" not in asked:
                asked += process.stderr.read(1)
            # What is typed before echo is off would be thrown away: the prompt ends when it is.
            asked += process.stderr.read(len(f" at {registry.host}: "))
            os.write(master, f"{password}\n".encode())
            out = process.stdout.read().decode()
            err = process.stderr.read().decode()
    echoed = os.read(master, 4096).decode()
    os.close(master)
    os.close(slave)
    assert process.returncode == 0, err
    assert f"Logged in to {registry.host} as bob" in out
    assert "bob" in echoed
    assert "CANARY" not in echoed + out + err


@pytest.mark.untraced
def test_the_demo_keeps_serving_until_it_is_stopped() -> None:
    """With --keep the commands that it suggests work, and Ctrl-C ends it with 0."""
    with started("demo", "--keep") as process:
        while not (line := line_of(process.stdout)).startswith("   syncer list-tags"):
            assert process.poll() is None
        tags = finished(*line.split()[1:])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert tags.stdout.split() == ["1.1", "2.0", "latest", tags.stdout.split()[-1]]
    assert process.returncode == 0, err
    assert "Both registries are stopped" in out


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_obstacle(serve: Serve, closed: str) -> None:
    """Started without standard input, output or error, as some schedulers do, a command ends as it should."""
    with serve("registry", {"app:v1": image()}) as registry:
        command = f"{shlex.join([*SYNCER, 'list-tags', f'{registry.host}/app'])} {closed}"
        done = subprocess.run(["sh", "-c", command], check=False, timeout=30, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_under_standard_output_is_no_bug(serve: Serve) -> None:
    """When what is printed cannot be written, that is said, with the code for it."""
    with serve("registry", {"app:v1": image()}) as registry, Path("/dev/full").open("w") as full:
        command = [*SYNCER, "list-tags", f"{registry.host}/app"]
        done = subprocess.run(command, check=False, timeout=30, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 9
    assert done.stderr.startswith("syncer: error: no space is left where standard output goes.")
