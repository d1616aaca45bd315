"""State files in bad places and bad shape: what a run does, what it says, and that nothing but time is lost."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from syncer.events import Notice
from syncer.state import StateStore
from syncer.state.schema import APPLICATION_ID
from tests.support.commands import SYNCER, finished
from tests.support.filesystems import read_only
from tests.support.images import image
from tests.support.observing import Recorder
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

CONTENT = {"app:v1": image(seed="state")}
EVERYTHING = "from: source/app, to: target/app"
NO_LOG = "the file system has no shared memory: the state has no log, and 'status' may have to wait"
#: Refuses to map the file that the processes of one SQLite database share, as some network file systems do.
NO_SHARED_MEMORY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
void *mmap64(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    char link[64], path[4096];
    ssize_t size = -1;
    if (!real) real = dlsym(RTLD_NEXT, "mmap64");
    if (file >= 0 && (flags & MAP_SHARED)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        size = readlink(link, path, sizeof path);
    }
    if (size > 4 && !memcmp(path + size - 4, "-shm", 4)) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    return real(at, length, protection, flags, file, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    return mmap64(at, length, protection, flags, file, offset);
}
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile a library under which SQLite's shared memory cannot be mapped; skip where no C compiler is."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("shim")
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(NO_SHARED_MEMORY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def without_shared_memory(shim: Path) -> dict[str, str]:
    """Give an environment in which SQLite's shared memory cannot be mapped."""
    return {**os.environ, "LD_PRELOAD": str(shim)}


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the report of a run that went well."""
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_file_system_without_shared_memory(
    serve: Serve, syncer: Syncer, tmp_path: Path, without_shared_memory: dict[str, str]
) -> None:
    """Where memory cannot be shared the state does without a log, and says so once in each run.

    A file that was used elsewhere before is taken over with all that it holds, and given back with it.
    """
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        assert syncer("run", spec).code == 0
        with closing(sqlite3.connect(tmp_path / "state.db")) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        looked = finished("status", spec, "--output", "json", env=without_shared_memory)
        assert len(report_of(looked)["runs"]) == 1
        # As a process that was killed leaves it: with a log.
        with (tmp_path / "state.db-wal").open("wb") as log:
            log.write(b"\0" * 32)
        looked = finished("status", spec, env=without_shared_memory)
        assert (looked.returncode, "which its file system cannot share. Run 'syncer run' once" in looked.stderr) == (
            1,
            True,
        )
        moved = finished("run", spec, "--output", "json", env=without_shared_memory)
        assert [notice["text"] for notice in report_of(moved)["notices"]] == [NO_LOG]
        assert moved.stderr.count(NO_LOG) == 1
        assert report_of(moved)["totals"]["tags"]["in-sync"] == 1
        with closing(sqlite3.connect(tmp_path / "state.db")) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        back = syncer("run", spec, "--output", "json")
    assert (back.code, json.loads(back.out)["notices"]) == (0, [])
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        assert other.execute("SELECT status FROM runs").fetchall() == [("done",)] * 3


async def test_a_system_that_knows_of_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite itself declines to keep a log, the state works all the same, and says so once."""
    connect = sqlite3.connect

    def without(path: Any, **options: Any) -> sqlite3.Connection:
        text = str(path)
        text = text if text.startswith("file:") else f"file:{text}"
        options["uri"] = True
        connection: sqlite3.Connection = connect(f"{text}{'&' if '?' in text else '?'}vfs=unix-none", **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", without)
    recorder = Recorder()
    async with StateStore.open(tmp_path / "state.db", observer=recorder) as store:
        run = await store.begin_run("spec.yaml")
        assert [known.run for known in await store.runs()] == [run]
        async with StateStore.read(tmp_path / "state.db") as reader:
            assert [known.run for known in await reader.runs()] == [run]
    assert [notice.text for notice in recorder.of(Notice)] == [NO_LOG]


def test_a_read_only_file_system(serve: Serve, syncer: Syncer, tmp_path: Path) -> None:
    """A run needs to write its state, and says what keeps it; plan and status do without."""
    spec, folder = tmp_path / "spec.yaml", tmp_path / "var"
    folder.mkdir()
    with serve("source", CONTENT) as source, serve("target") as target:
        text = spec_between(source.host, target.host, EVERYTHING)
        spec.write_text(text.replace("./state.db", str(folder / "state.db")))
        assert syncer("run", spec).code == 0
        with read_only(folder):
            refused = syncer("run", spec)
            plan, status = syncer("plan", spec), syncer("status", spec)
        assert (refused.code, refused.out) == (2, "")
        assert f"the state file {folder / 'state.db'} cannot be used: Read-only file system" in refused.error
        assert (plan.code, status.code) == (0, 0), plan.err + status.err
        assert sorted(file.name for file in folder.iterdir()) == ["state.db", "state.db.lock"]


@pytest.mark.torture
@pytest.mark.parametrize("forbidden", ["folder", "file", "lock"])
def test_a_user_who_may_not_write(serve: Serve, tmp_path: Path, forbidden: str) -> None:
    """Whichever of folder, file and lock another user left behind unwritable is refused with 2 and a hint."""
    command: tuple[str, ...] = SYNCER
    if os.geteuid() == 0:
        # Root that may not pass over permissions; there need not be another user who can read the interpreter.
        dropped = shutil.which("setpriv")
        if dropped is None:
            pytest.skip("there is no setpriv, and nothing is unwritable for root")
        command = (dropped, "--bounding-set=-dac_override,-dac_read_search", *SYNCER)
    folder = tmp_path / "var"
    folder.mkdir()
    state, spec = folder / "state.db", tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING).replace("./state.db", str(state)))
        report_of(finished("run", spec, "--output", "json", command=command))
        if forbidden == "folder":
            (folder / "state.db.lock").unlink()
        named = {"folder": folder, "file": state, "lock": folder / "state.db.lock"}[forbidden]
        named.chmod(0o555 if named is folder else 0o444)
        try:
            refused = finished("run", spec, command=command)
            status = finished("status", spec, command=command)
        finally:
            named.chmod(0o755)
    assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
    assert str(state) in refused.stderr
    assert "Let this user write" in refused.stderr or "Check the folder, its permissions" in refused.stderr
    assert status.returncode == 0, status.stderr


def damaged(state: Path, how: str) -> bytes:
    """Damage a state file and return what is left of it."""
    raw = state.read_bytes()
    page = 4096
    new = {
        "random": b"\xa5" * len(raw),
        "truncated": raw[: len(raw) // 2],
        "zeros": raw[:page] + bytes(2 * page) + raw[3 * page :],
        "empty": bytes(len(raw)),
    }[how]
    state.write_bytes(new)
    return new


@pytest.mark.parametrize("how", ["random", "truncated", "zeros", "empty"])
def test_a_damaged_file_costs_time_only(serve: Serve, syncer: Syncer, tmp_path: Path, how: str) -> None:
    """It is set aside as it was and told of, the run goes on without it, sends nothing twice, and is remembered."""
    spec, state = tmp_path / "spec.yaml", tmp_path / "state.db"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        assert syncer("run", spec).code == 0
        kept = damaged(state, how)
        status = syncer("status", spec)
        assert (status.code, "is damaged. Run again" in status.error) == (1, True)
        before = len(target.requests)
        ran = syncer("run", spec, "--output", "json")
        report = json.loads(ran.out)
        assert (ran.code, report["totals"]["tags"]["in-sync"]) == (0, 1)
        assert {record.method for record in target.requests[before:]} <= {"GET", "HEAD"}
        (notice,) = report["notices"]
        (aside,) = tmp_path.glob("state.db.corrupt-*")
        assert aside.read_bytes() == kept
        assert str(aside) in notice["text"]
        assert syncer("status", spec).code == 0


def test_a_file_of_a_newer_version(serve: Serve, syncer: Syncer, tmp_path: Path) -> None:
    """It is left alone, with 2 and what to do; nothing was asked of any registry."""
    spec, state = tmp_path / "spec.yaml", tmp_path / "state.db"
    with closing(sqlite3.connect(state)) as other:
        other.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        other.execute("PRAGMA user_version = 999")
        other.execute("VACUUM")
    before = state.read_bytes()
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        for command in ("run", "plan", "status"):
            ran = syncer(command, spec)
            assert (ran.code, ran.out) == (2, "")
            assert "has version 999, written by a newer Syncer" in ran.error
        assert source.requests == target.requests == []
    assert state.read_bytes() == before


@pytest.mark.parametrize("command", ["run", "plan", "status"])
def test_a_directory_in_place_of_the_file(syncer: Syncer, tmp_path: Path, command: str) -> None:
    """A directory is no state file, and nothing is left beside it."""
    spec = tmp_path / "spec.yaml"
    (tmp_path / "state.db").mkdir()
    spec.write_text(spec_between("a.example", "b.example", EVERYTHING))
    ran = syncer(command, spec)
    assert (ran.code, f"the state file {tmp_path / 'state.db'} is a directory" in ran.error) == (2, True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["spec.yaml", "state.db"]


@pytest.mark.parametrize("place", ["state", "layout"])
def test_a_file_system_without_locks(
    serve: Serve, syncer: Syncer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Where the system has no locks (NFS without its lock service), nothing is written, and the way out is told."""
    spec = tmp_path / "spec.yaml"

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        arguments = ("run", spec) if place == "state" else ("copy", f"{source.host}/app:v1", f"oci:{tmp_path}/img:v1")
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", refuse)
            done = syncer(*arguments)
        assert target.requests == []
    assert (done.code, done.out) == (2 if place == "state" else 1, "")
    assert "cannot be locked: No locks available. Put the " in done.error
    assert "on a local disk; this file system has no locks." in done.error
