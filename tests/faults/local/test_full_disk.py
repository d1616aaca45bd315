"""Disks without space: exit code 9, words that say where, nothing half-written, and the next run does the rest.

A limit on the size of files (EFBIG) stands for a full disk where nobody may mount a small one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from syncer.errors import StorageFull
from syncer.server import AuthMode
from syncer.state import StateStore
from syncer.state.lock import FileLock
from tests.support.commands import FILE_SIZE, PATIENCE, ended, finished, line_of, started
from tests.support.filesystems import fill, tmpfs
from tests.support.gate import gate
from tests.support.images import image
from tests.support.layouts.reading import assert_valid
from tests.support.observing import Recorder
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

NO_SPACE = 9
SAMPLE = image(seed="full", layers=1, size=300_000)
CONTENT = {f"app:v{at}": image(seed=at, layers=1, size=100_000) for at in range(6)}
EVERYTHING = "from: source/app, to: target/app"


@pytest.mark.parametrize(
    "most",
    [
        pytest.param(0, marks=pytest.mark.torture, id="not a byte"),
        pytest.param(4096, marks=pytest.mark.torture, id="not a page of the log"),
        pytest.param(32768, marks=pytest.mark.torture, id="before the run"),
        pytest.param(60000, id="in the middle"),
    ],
)
def test_a_state_file_that_may_not_grow(serve: Serve, syncer: Syncer, tmp_path: Path, most: int) -> None:
    """Whenever the state can be written no further, the run ends with 9 and says so; the next one goes on."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        done = finished("run", spec, limits={FILE_SIZE: most})
        assert done.returncode == NO_SPACE, done.stderr
        assert f"no space is left for the state file {tmp_path / 'state.db'}." in done.stderr
        again = syncer("run", spec, "--output", "json")
    assert again.code == 0, again.err
    tags = json.loads(again.out)["totals"]["tags"]
    assert tags["copied"] + tags["in-sync"] == len(CONTENT)


@pytest.mark.parametrize("output", ["human", "json"])
def test_what_was_done_is_reported_although_the_state_fails(serve: Serve, tmp_path: Path, output: str) -> None:
    """A run whose state can be written no further prints its report before the error, and writes it as JSON too."""
    spec, file = tmp_path / "spec.yaml", tmp_path / "report.json"
    # Of so many tags the state cannot keep all: it has room for its schema, and the beginning of the run.
    content = {f"app:v{at}": image(seed="many", layers=1, size=1000) for at in range(150)}
    with serve("source", content) as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        arguments = ("run", spec, "--report", file, "--output", output, "--quiet")
        done = finished(*arguments, limits={FILE_SIZE: 90_000}, stderr=subprocess.STDOUT)
    assert done.returncode == NO_SPACE, done.stdout
    report, error = done.stdout.split('{"error"' if output == "json" else "syncer: error: ")
    assert "no space is left for the state file" in error
    written = json.loads(file.read_text())
    assert written["status"] == "failed"
    assert written["totals"]["selected"] == len(content)
    assert written["totals"]["tags"]["copied"] > 0
    if output == "json":
        assert json.loads(report[report.index("{") :]) == written
    else:
        assert f": of {len(content)} tags {written['totals']['tags']['copied']} copied" in report


def test_a_run_that_did_nothing_has_no_report(serve: Serve, tmp_path: Path) -> None:
    """Where the state fails before anything was asked of a registry, the error is all there is to say."""
    spec = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source:
        spec.write_text(spec_between(source.host, source.host, EVERYTHING.replace("target/app", "target/other")))
        done = finished("run", spec, limits={FILE_SIZE: 4096})
    assert (done.returncode, done.stdout) == (NO_SPACE, "")


@pytest.mark.torture
def test_a_state_on_a_disk_that_fills_up(serve: Serve, syncer: Syncer, portal: BlockingPortal, tmp_path: Path) -> None:
    """A disk that is full in the middle of a run, or before it, is told of; once there is room the run is finished."""
    spec = tmp_path / "spec.yaml"
    with (
        tmpfs(tmp_path / "var", "300k") as var,
        serve("source", CONTENT) as source,
        serve("target") as target,
        portal.wrap_async_context_manager(gate(target.host)) as before,
    ):
        text = spec_between(source.host, before.address, EVERYTHING)
        spec.write_text(text.replace("./state.db", str(var / "state.db")))
        before.hold(r"PUT .*/manifests/")
        with started("run", spec) as process:
            assert before.reached.wait(PATIENCE)
            filling = fill(var)
            portal.call(before.open)
            _, err = ended(process)
        assert process.returncode == NO_SPACE, err
        assert f"no space is left for the state file {var / 'state.db'}." in err
        still = syncer("run", spec)
        assert (still.code, "no space is left" in still.error) == (NO_SPACE, True)
        filling.unlink()
        again = syncer("run", spec, "--output", "json")
    assert again.code == 0, again.err


async def test_a_lock_on_a_full_disk_is_let_go(tmp_path: Path) -> None:
    """A state that cannot be opened for want of space does not stay locked by the process that tried."""
    with tmpfs(tmp_path / "var", "300k") as var:
        filling = fill(var)
        with pytest.raises(StorageFull):
            async with StateStore.open(var / "state.db", observer=Recorder()):
                pass
        assert not FileLock.is_held(var / "state.db")
        filling.unlink()
        async with StateStore.open(var / "state.db", observer=Recorder()):
            pass


@pytest.mark.parametrize(
    "kind", ["oci", *(pytest.param(kind, marks=pytest.mark.torture) for kind in ("oci-archive", "dir"))]
)
def test_a_target_that_may_not_grow(serve: Serve, syncer: Syncer, tmp_path: Path, kind: str) -> None:
    """A copy to disk that there is no room for exits with 9, leaves no part of a blob, and can be repeated."""
    place = tmp_path / "images" / "app"
    place.parent.mkdir()
    reference = f"{kind}:{place}" + ("" if kind == "dir" else ":v1")
    with serve("source", {"app:v1": SAMPLE}) as source:
        done = finished("copy", f"{source.host}/app:v1", reference, limits={FILE_SIZE: 100_000})
        assert (done.returncode, done.stdout) == (NO_SPACE, ""), done.stderr
        assert f"no space left at {place}" in done.stderr
        assert "ulimit -f" in done.stderr
        assert not [file for file in place.parent.rglob("*") if file.is_file() and file.stat().st_size > 10_000]
        again = syncer("copy", f"{source.host}/app:v1", reference)
    assert (again.code, again.out) == (0, f"{SAMPLE.digest}\n")
    if kind == "oci":
        assert assert_valid(place) == {".": {"v1": SAMPLE.digest}}


def test_a_run_into_a_layout_on_a_small_disk(serve: Serve, syncer: Syncer, tmp_path: Path) -> None:
    """What fits is there whole, what does not fit is listed, and with more room the rest is brought, and only that."""
    spec = tmp_path / "spec.yaml"
    with tmpfs(tmp_path / "usb", "800k") as usb, serve("source", CONTENT) as source:
        filling = fill(usb, leave=450_000)
        text = spec_between(source.host, source.host, "from: source/app, to: usb/app", layout=str(usb))
        # One blob after the other: side by side, parts of all could take the room of every one of them.
        spec.write_text(text.replace("plain_http: true}", "plain_http: true, limits: {connections: 1}}"))
        done = syncer("run", spec, "--output", "json")
        report = json.loads(done.out)
        assert done.code == NO_SPACE, done.err
        assert {failure["error"] for failure in report["failures"]} == {"StorageFull"}
        ((_, arrived),) = assert_valid(usb).items()
        assert 0 < len(arrived) < len(CONTENT)
        assert len(arrived) + len(report["failures"]) == len(CONTENT)
        filling.unlink()
        again = syncer("run", spec, "--output", "json")
        assert again.code == 0, again.err
        assert json.loads(again.out)["totals"]["tags"]["copied"] == len(report["failures"])
        assert len(assert_valid(usb)["app"]) == len(CONTENT)


def test_a_report_on_a_full_disk(serve: Serve, syncer: Syncer, tmp_path: Path) -> None:
    """A report that cannot be written is 9, after the run was done and shown; an older report stays as it was."""
    spec = tmp_path / "spec.yaml"
    with tmpfs(tmp_path / "var", "64k") as var, serve("source", CONTENT) as source, serve("target") as target:
        (var / "report.json").write_text("of yesterday")
        fill(var)
        spec.write_text(spec_between(source.host, target.host, EVERYTHING))
        done = syncer("run", spec, "--output", "json", "--report", var / "report.json")
        assert done.code == NO_SPACE, done.err
        assert json.loads(done.out)["status"] == "done"
        assert f"{var / 'report.json'} cannot be written: No space left on device" in done.err
        assert (var / "report.json").read_text() == "of yesterday"
        assert sorted(file.name for file in var.iterdir()) == ["filling", "report.json"]


def test_credentials_on_a_full_disk(serve: Serve, tmp_path: Path) -> None:
    """A log-in that cannot be written down is 9, and the credentials that were there are there still."""
    password = "CANARY-full"
    digest = base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324 - the file's format
    (tmp_path / "htpasswd").write_text(f"bob:{{SHA}}{digest}\n")
    before = json.dumps({"auths": {"other.example": {"auth": "eDp5"}}})
    with tmpfs(tmp_path / "home", "64k") as home:
        authfile = home / "auth.json"
        authfile.write_text(before)
        fill(home)
        with serve("locked", auth=AuthMode.BASIC, htpasswd=tmp_path / "htpasswd") as registry:
            options = ("-u", "bob", "--password-stdin", "--authfile", authfile)
            done = finished("login", registry.host, *options, input=password)
        assert done.returncode == NO_SPACE, done.stderr
        assert authfile.read_text() == before
        assert sorted(file.name for file in home.iterdir()) == ["auth.json", "filling"]
    assert "CANARY" not in done.stderr


def test_a_registry_on_a_full_disk(serve: Serve, syncer: Syncer, tmp_path: Path) -> None:
    """Pushes are refused in words that clients understand; what is there is served and can be deleted, which heals."""
    with tmpfs(tmp_path / "disk", "900k") as disk, serve("source", {**CONTENT, "big:v1": SAMPLE}) as source:
        with started("registry", "serve", disk / "tree", "--listen", "127.0.0.1:0") as process:
            address = line_of(process.stdout).split("http://")[1].strip()
            for tag in ("v0", "v1"):
                assert syncer("copy", f"{source.host}/app:{tag}", f"{address}/app:{tag}").code == 0
            filling = fill(disk, leave=200_000)
            refused = syncer("copy", f"{source.host}/big:v1", f"{address}/big:v1")
            assert refused.code == NO_SPACE, refused.err
            assert "507" in refused.error
            assert set(assert_valid(disk / "tree")["app"]) == {"v0", "v1"}
            fill(disk)
            assert syncer("inspect", f"{address}/app:v0").code == 0
            assert syncer("delete", f"{address}/app:v0").code == 0
            filling.unlink()
            assert syncer("copy", f"{source.host}/big:v1", f"{address}/big:v1").code == 0
            process.terminate()
            _, err = ended(process)
        assert process.returncode == 0
        assert "storage.full" in err
        tags = assert_valid(disk / "tree")
        assert (set(tags["app"]), set(tags["big"])) == ({"v1"}, {"v1"})
