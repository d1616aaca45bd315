"""``run``, ``plan``, ``status`` and the demo, against real registries."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.images import image, index
from tests.support.scripted import scripted
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

CONTENT = {"team/api:v1": index(seed="v1"), "team/api:v2": image(seed="v2"), "team/web:v1": image(seed="web")}


@pytest.fixture
def spec(serve: Serve, tmp_path: Path) -> Iterator[Path]:
    """Give a spec between two running registries."""
    path = tmp_path / "spec.yaml"
    with serve("source", CONTENT) as source, serve("target") as target:
        path.write_text(
            spec_between(source.host, target.host, "name: team, from: source/team/*, to: 'target/m/{path}'")
        )
        yield path


def test_plan_run_plan(syncer: Syncer, spec: Path, tmp_path: Path) -> None:
    """A plan shows what is due, a run does it, and the next plan and run find nothing to do."""
    before = syncer("plan", str(spec), "--detailed-exitcode", "-o", str(tmp_path / "plan.json"))
    first = syncer("run", str(spec), "--report", str(tmp_path / "report.json"))
    after = syncer("plan", str(spec), "--detailed-exitcode")
    again = syncer("run", str(spec), "--output", "json")
    assert (before.code, first.code, after.code, again.code) == (3, 0, 0, 0), before.err + first.err + after.err
    assert "3 tags are due" in before.out
    assert len(json.loads((tmp_path / "plan.json").read_text())["actions"]) == 3
    assert json.loads((tmp_path / "report.json").read_text())["totals"]["tags"]["copied"] == 3
    assert "of 3 tags 3 copied" in first.out
    assert "Nothing is due" in after.out
    document = json.loads(again.out)
    assert document["totals"]["tags"]["in-sync"] == 3
    assert document["totals"]["manifests"]["count"] == 0


def test_a_spec_whose_name_is_no_utf8(syncer: Syncer, spec: Path, tmp_path: Path) -> None:
    """A spec may be called as it likes: it is planned, run, noted in the state, reported and shown."""
    odd = spec.rename(tmp_path / os.fsdecode(b"spec-\xff.yaml"))
    planned = syncer("plan", str(odd), "-o", str(tmp_path / "plan.json"))
    ran = syncer("run", str(odd), "--report", str(tmp_path / "report.json"))
    shown = syncer("status", str(odd))
    assert (planned.code, ran.code, shown.code) == (0, 0, 0), planned.err + ran.err + shown.err
    assert json.loads((tmp_path / "plan.json").read_bytes())["spec"] == str(odd)
    assert "spec-\\udcff.yaml" in shown.out


def test_plan_without_the_option_exits_with_0(syncer: Syncer, spec: Path) -> None:
    """Changes that are due are no failure, unless it is asked for; the JSON lists them."""
    ran = syncer("plan", str(spec), "--output", "json")
    document = json.loads(ran.out)
    assert ran.code == 0
    assert document["schema"] == "syncer.plan/1"
    assert document["kinds"]["copy"] == 3
    assert document["failures"] == []


def test_plan_writes_no_state(syncer: Syncer, spec: Path, tmp_path: Path) -> None:
    """A plan leaves nothing behind, not even the state file."""
    syncer("plan", str(spec))
    assert not (tmp_path / "state.db").exists()


def test_status_shows_runs_and_repositories(syncer: Syncer, spec: Path, tmp_path: Path) -> None:
    """The state is found through the spec or by itself, and shown for people or as JSON."""
    syncer("run", str(spec))
    by_spec = syncer("status", str(spec))
    by_file = syncer("status", "--state", str(tmp_path / "state.db"), "--output", "json")
    assert "done" in by_spec.out
    assert "m/team/api" in by_spec.out
    document = json.loads(by_file.out)
    assert [run["status"] for run in document["runs"]] == ["done"]
    assert {repository["tags"]["copied"] for repository in document["repositories"]} == {1, 2}
    assert document["failures"] == []


def test_status_without_a_state_file(syncer: Syncer, tmp_path: Path) -> None:
    """A state file that is not there is named."""
    ran = syncer("status", "--state", str(tmp_path / "none.db"))
    assert ran.code == 2
    assert "none.db" in ran.error


def test_a_failure_is_listed_and_retried_alone(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """What failed is in the report and in the status; --retry-failed looks at nothing else."""
    path = tmp_path / "spec.yaml"
    entry = "from: source/team/api, to: target/api, tags: {include: [v1, gone]}"
    with serve("source", CONTENT) as source, serve("target") as target:
        path.write_text(spec_between(source.host, target.host, entry))
        first = syncer("run", str(path))
        shown = syncer("status", str(path))
        again = syncer("run", str(path), "--retry-failed", "--output", "json")
    assert first.code == 1
    assert "failed: " in first.out
    assert "api:gone" in first.out
    assert f"1 tag not in step: 'syncer run {path} --retry-failed' tries again what the spec still wants." in shown.out
    assert again.code == 1
    assert [failure["tag"] for failure in json.loads(again.out)["failures"]] == ["gone"]
    assert json.loads(again.out)["totals"]["tags"]["in-sync"] == 0


def test_quiet_keeps_standard_error_empty(syncer: Syncer, spec: Path) -> None:
    """Nothing but the result is printed when all goes well."""
    ran = syncer("run", str(spec), "--quiet")
    assert ran.err == ""
    assert ran.out != ""


def test_log_lines_are_json_when_asked_for(syncer: Syncer, spec: Path) -> None:
    """Every line on standard error is an object then, and results stay on standard output."""
    ran = syncer("run", str(spec), "--log-format", "json", "--log-level", "debug", "--output", "json")
    events = [json.loads(line)["event"] for line in ran.err.splitlines()]
    assert "sync.tag_copied" in events
    assert "registry.request_finished" in events
    assert json.loads(ran.out)["status"] == "done"


def test_a_report_that_cannot_be_written_is_told_first(syncer: Syncer, spec: Path, tmp_path: Path) -> None:
    """The run does not start when its report would be lost."""
    ran = syncer("run", str(spec), "--report", str(tmp_path / "no" / "report.json"))
    assert ran.code == 2
    assert "there is no directory" in ran.error
    assert not (tmp_path / "state.db").exists()


def test_the_demo_shows_a_sync_and_that_nothing_is_left(syncer: Syncer) -> None:
    """Everything is copied at first, nothing the second time, and the image arrived with what refers to it."""
    ran = syncer("demo")
    assert ran.code == 0, ran.err
    assert "of 7 tags 7 copied" in ran.out
    assert "Everything is in sync: 7 tags" in ran.out
    assert "0 blobs and 0 manifests were sent" in ran.out
    assert "referrers (2)" in ran.out


def test_the_demo_touches_no_other_registry(syncer: Syncer, tmp_path: Path) -> None:
    """A spec with registries of its own is refused."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "version: 1\nregistries:\n  a: {host: a.example}\n"
        '  b: {host: "${TARGET_REGISTRY}", plain_http: true}\nsync:\n  - {from: a/x, to: b/y}\n'
    )
    ran = syncer("demo", "--spec", str(spec))
    assert ran.code == 2
    assert "none of the demo's own" in ran.error


def test_a_plan_that_a_rate_limit_cut_short(syncer: Syncer, portal: BlockingPortal, tmp_path: Path) -> None:
    """A registry that wants to be left alone for an hour gives no plan: 75, not 0 or 3."""

    async def refuse(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    with portal.wrap_async_context_manager(scripted(refuse)) as server:
        path = tmp_path / "spec.yaml"
        path.write_text(spec_between(server.address, "target.example", "from: source/x, to: usb/x", layout="./usb"))
        ran = syncer("plan", str(path), "--detailed-exitcode", "--output", "json")
    assert ran.code == 75
    assert json.loads(ran.out)["deferrals"][0]["others"] == 1
