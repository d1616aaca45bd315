"""Whole runs in a world full of secrets: none is seen by anyone but the origin that it is for, and none is kept."""

from __future__ import annotations

import base64
import io
import json
import logging
import traceback
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread
from rich.console import Console

from syncer.app.running import run_spec
from syncer.app.surroundings import Surroundings
from syncer.errors import SyncerError
from syncer.spec import parse_spec
from syncer.telemetry.logs import LogLevel, LogObserver, configure_logging
from syncer.telemetry.redaction import redact
from syncer.telemetry.summary import render_report
from tests.security.internet import BAD, GOOD, SECRETS, THIRD, Internet, hidden
from tests.security.stage import Wire, wire
from tests.support.observing import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from syncer.telemetry.report import Report

_SPEC = """
version: 1
state: ./state.db
registries:
  source:
    host: source.test
    plain_http: true
    credentials: {username: robot, password: "${SOURCE_PASSWORD}"}
  third: {host: third.test, plain_http: true}
  target: {host: target.test, plain_http: true}
sync:
  - {name: one, from: source/app, to: target/app}
  - {name: two, from: third/app, to: target/third}
"""
_HELPER = """#!/bin/sh
tr '\\0' ' ' < /proc/$$/cmdline >> {folder}/arguments
cat >> {folder}/arguments
echo '{{"Username": "bot", "Secret": "canary-target-password"}}'
"""


class World:
    """What a run in this world left behind."""

    def __init__(self) -> None:
        self.internet = Internet()
        self.recorder = Recorder()
        self.logs: dict[str, str] = {}
        self.report: Report | None = None
        self.server = Wire()


def surroundings(folder: Path, proxy: str) -> Surroundings:
    """Return an environment with secrets in every place that can hold one."""
    helper = folder / "bin" / "docker-credential-keeper"
    helper.parent.mkdir()
    helper.write_text(_HELPER.format(folder=folder))
    helper.chmod(0o755)
    unused = base64.b64encode(b"u:canary-unused-password").decode()
    auths = {
        "auths": {"third.test": {"identitytoken": "canary-identity"}, "unused.test": {"auth": unused}},
        "credHelpers": {"target.test": "keeper"},
    }
    (folder / "auth.json").write_text(json.dumps(auths))
    environ = {
        "PATH": f"{helper.parent}:/usr/bin:/bin",
        "http_proxy": f"http://p:canary-proxy-password@{proxy}",
        "SOURCE_PASSWORD": "canary-source-password",
    }
    return Surroundings(environ=environ, home=folder / "home", etc=folder / "etc", authfile=str(folder / "auth.json"))


@asynccontextmanager
async def lived(folder: Path) -> AsyncIterator[World]:
    """Run the spec, heard by logs of every level, as text and as JSON."""
    world = World()
    streams = {"text": io.StringIO(), "json": io.StringIO()}
    async with wire(world.internet) as server:
        world.server = server
        around = await to_thread.run_sync(surroundings, folder, server.address)
        spec = await to_thread.run_sync(
            lambda: parse_spec(_SPEC, file="spec.yaml", base=folder, environ=around.environ)
        )
        for form, stream in streams.items():
            # The logger is one for the process: two runs, the second with nothing new but the failures.
            opener = partial(configure_logging, json=form == "json", level=LogLevel.DEBUG, stream=stream, colors=False)
            observer = LogObserver(opener, level=LogLevel.DEBUG)
            world.report = await run_spec(spec, surroundings=around, observers=[observer, world.recorder])
    world.logs = {form: stream.getvalue() for form, stream in streams.items()}
    yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Live once."""
    async with lived(tmp_path) as it:
        yield it


def secrets_in(text: str | bytes | bytearray) -> list[str]:
    """Return the secrets that are in ``text``, plain or as Basic credentials."""
    data = text.encode() if isinstance(text, str) else bytes(text)
    return [secret for secret in SECRETS if any(form.encode() in data for form in hidden(secret))]


async def test_the_world_works(world: World) -> None:
    """What can be copied is copied, by credentials of every kind, and what cannot fails for its own reasons."""
    assert world.report is not None
    stored = world.internet.target.manifests
    assert stored[GOOD.digest][1] == GOOD.manifest.raw if GOOD.digest in stored else stored["v1"][1]
    assert {str(digest) for digest in GOOD.blobs} <= set(world.internet.target.blobs)
    assert {str(digest) for digest in THIRD.blobs} <= set(world.internet.target.blobs)
    assert sorted(failure.tag for failure in world.report.failures) == ["bad", "denied"]
    basic = base64.b64encode(b"p:canary-proxy-password").decode()
    assert world.internet.shown_to_proxy == {f"Basic {basic}"}
    assert BAD.digest not in stored


async def test_no_secret_reaches_another_origin(world: World) -> None:
    """Every byte that any origin got is searched for every secret that is not its own."""
    assert {
        "source.test",
        "auth.test",
        "storage.test",
        "third.test",
        "oauth.test",
        "target.test",
        "upload.test",
    } == set(world.internet.received)
    leaks = {
        (host, secret)
        for host, data in world.internet.received.items()
        for secret in secrets_in(data)
        if host not in SECRETS[secret]
    }
    # A word that contains another one is not the other one.
    leaks -= {("third.test", "canary-identity")}
    assert leaks == set()


async def test_no_secret_is_in_logs(world: World) -> None:
    """Lines of every level, as text and as JSON, hold none; and the failures are in them."""
    for form, text in world.logs.items():
        assert text.count("registry.request_finished") > 5, form
        assert secrets_in(text) == [], form


async def test_no_secret_is_in_reports(world: World) -> None:
    """Neither the report for people nor the one for machines holds one."""
    report = world.report
    assert report is not None
    screen = io.StringIO()
    render_report(report, Console(file=screen, width=200))
    assert "bad" in screen.getvalue()
    assert secrets_in(screen.getvalue()) == []
    assert secrets_in(json.dumps(report.to_json(), default=str)) == []
    assert secrets_in(repr(report)) == []


async def test_no_secret_is_in_the_state(world: World, tmp_path: Path) -> None:
    """No byte of the state, with its journal, is of a secret."""
    assert world.report is not None
    found = await to_thread.run_sync(
        lambda: {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("state.db")}
    )
    assert found
    assert {name: secrets_in(data) for name, data in found.items()} == {name: [] for name in found}


async def test_no_secret_is_in_events_and_exceptions(world: World) -> None:
    """Events and the errors in them show none by str, repr, their members, or a traceback."""
    for event in world.recorder.events:
        assert secrets_in(repr(event)) == []
        error = getattr(event, "error", None)
        if isinstance(error, SyncerError):
            trace = "".join(traceback.format_exception(error))
            assert secrets_in(f"{error} {error!r} {error.hint} {vars(error)} {trace}") == []


async def test_no_secret_is_in_arguments_of_programs(world: World, tmp_path: Path) -> None:
    """The command line of a credential helper, and what it is asked, hold none."""
    assert world.report is not None
    arguments = await to_thread.run_sync((tmp_path / "arguments").read_text)
    assert "keeper get target.test" in arguments.replace("docker-credential-", "")
    assert secrets_in(arguments) == []


async def test_no_cookie_travels(world: World) -> None:
    """What one origin sets is not sent to any."""
    assert b"sid=storage" not in bytes(world.server.raw)


async def test_surroundings_and_settings_show_no_secret(tmp_path: Path) -> None:
    """The values that a run is made of can be printed."""
    around = await to_thread.run_sync(surroundings, tmp_path, "127.0.0.1:1")
    spec = await to_thread.run_sync(lambda: parse_spec(_SPEC, file="s", base=tmp_path, environ=around.environ))
    assert secrets_in(f"{around!r} {spec!r} {spec}") == []


async def test_a_key_that_cannot_be_used_is_not_shown(tmp_path: Path) -> None:
    """The path of a client key may be shown, its content may not (S12)."""
    key = tmp_path / "client.key"
    await to_thread.run_sync(lambda: key.write_text("-----BEGIN PRIVATE KEY-----\ncanary-source-password\n"))
    text = _SPEC.replace("plain_http: true\n    credentials", f"tls: {{cert: {key}, key: {key}}}\n    credentials", 1)
    around = Surroundings(
        environ={"SOURCE_PASSWORD": "x"}, home=tmp_path / "home", etc=tmp_path / "etc", registries_conf="off"
    )
    recorder = Recorder()
    spec = await to_thread.run_sync(lambda: parse_spec(text, file="s", base=tmp_path, environ=around.environ))
    shown: list[Any] = []
    try:
        report = await run_spec(spec, surroundings=around, observers=[recorder])
        shown += [report.to_json(), recorder.events]
    except SyncerError as error:
        shown += [error, vars(error), "".join(traceback.format_exception(error))]
    assert "client.key" in str(shown)
    assert secrets_in(str(shown)) == []


def test_the_search_finds_secrets() -> None:
    """The search of these tests is not blind: it finds what is there, in the forms that are used."""
    for secret in SECRETS:
        assert secret in secrets_in(f"xx{secret}yy")
        assert secret in secrets_in(b"Basic " + base64.b64encode(f"robot:{secret}".encode()))
    assert logging.getLogger().level >= logging.DEBUG
    assert redact("Authorization: Bearer canary-source-token") != "Authorization: Bearer canary-source-token"
