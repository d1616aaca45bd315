"""Uploads that are not needed any more are deleted, whatever the registry is busy with (invariant I8)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.events import RunStatus
from syncer.registry import RegistryClient, RegistrySettings
from syncer.telemetry.report import Report
from tests.faults.test_invariants import World
from tests.support import images
from tests.support.careless import send
from tests.support.faults import exchanges, invariants
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced
from tests.support.faults.virtual_time import virtually
from tests.support.observing import Recorder
from tests.support.personalities.history import Step
from tests.support.personalities.internet import Internet
from tests.support.scripted import Clock, Connected, Keys, scripted
from tests.support.uploading import Source, Target, methods, push

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = "name: e, from: source/app, to: target/app"


def test_a_blob_that_is_there_already(tmp_path: Path) -> None:
    """A commit fails, and the blob is there from before: what was sent once more is deleted."""
    internet = Internet()
    # Without mounts, a blob that is there is sent again by a recheck.
    source, target = Model(internet, "source.example"), Model(internet, "target.example", mounts=False)
    source.keep("app", images.image(layers=1), "v1")

    async def main() -> RunStatus:
        async with internet.running():
            spec = spec_of({"source": source, "target": target}, ENTRY)
            await synced(internet, spec, tmp_path)
            Injector(internet).at(Step.PUT, exchanges.REQUEST_TIMEOUT, times=None)
            return (await synced(internet, spec, tmp_path, recheck=True)).status

    assert virtually(main()) is RunStatus.DONE
    assert not internet.violations
    assert not target.sessions


def test_a_registry_that_is_busy_with_others() -> None:
    """Who starts over while all that may be asked at once is asked by others has deleted its session before."""
    target = Target(trouble={"PUT": [web.Response(status=405)]})

    async def main() -> str:
        async def hold() -> None:
            # As a request that is not answered would.
            async with client.limits.request(data=False):
                await anyio.sleep(60)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "PUT" and not holding:
                holding.append(asyncio.create_task(hold()))
            return await target.handle(request)

        holding: list[asyncio.Task[None]] = []
        clock = asyncio.get_running_loop().time
        async with scripted(handle) as server:
            settings = RegistrySettings(host=server.address, plain_http=True, connections=1)
            client = RegistryClient(settings, Keys(), Recorder(), clock=clock)
            async with client:
                await push(Connected(client, Clock(), Recorder()), Source(b"again"))
            await asyncio.gather(*holding)
            return methods(server.lines)

    assert virtually(main()) == "POST PUT DELETE POST PATCH PUT"


def test_a_registry_that_leaves_others_without_an_answer() -> None:
    """Who is stopped deletes what it has opened, though all that may be asked at once has hung for a minute."""
    target = Target()

    async def main() -> str:
        async def hang() -> None:
            async with client.limits.request(data=False):
                await anyio.sleep(60)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "PUT":
                tasks.start_soon(hang)
                pushing.cancel()
            return await target.handle(request)

        clock = asyncio.get_running_loop().time
        async with scripted(handle) as server:
            settings = RegistrySettings(host=server.address, plain_http=True, connections=1)
            async with (
                RegistryClient(settings, Keys(), Recorder(), clock=clock) as client,
                anyio.create_task_group() as tasks,
            ):
                with anyio.CancelScope() as pushing:
                    await push(Connected(client, Clock(), Recorder()), Source(b"never"))
                tasks.cancel_scope.cancel()
            return methods(server.lines)

    assert virtually(main()) == "POST PUT DELETE"


@pytest.mark.parametrize(("answers_after", "expected", "lasts"), [(1.4, "POST DELETE", 2.5), (1.6, "POST", 1.5)])
def test_a_stop_takes_two_seconds_and_a_half(answers_after: float, expected: str, lasts: float) -> None:
    """A POST that is answered late opens what is deleted at once, and neither is waited for without end."""
    target = Target()

    async def main() -> tuple[str, float]:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "DELETE":
                await anyio.sleep(60)
            pushing.cancel()
            await anyio.sleep(answers_after)
            return await target.handle(request)

        clock = asyncio.get_running_loop().time
        async with scripted(handle) as server:
            settings = RegistrySettings(host=server.address, plain_http=True)
            async with RegistryClient(settings, Keys(), Recorder(), clock=clock) as client:
                began = clock()
                with anyio.CancelScope() as pushing:
                    await push(Connected(client, Clock(), Recorder()), Source(b"never"))
                return methods(server.lines), clock() - began

    sent, lasted = virtually(main())
    assert sent == expected
    assert lasted == pytest.approx(lasts, abs=0.3)


@pytest.mark.parametrize(("waited", "broken"), [(0.0, set()), (12.0, {"I8"})])
def test_a_registry_that_turns_a_stopped_run_away(waited: float, broken: set[str]) -> None:
    """A 429 that names no time excuses an open upload for as long as a client then keeps away, and no longer."""
    world = World()

    async def open_and_ask(world: World) -> None:
        await send("POST", f"{world.at}/blobs/uploads/", body=b"")
        Injector(world.internet).at(Step.TAGS, exchanges.TOO_MANY_BARE)
        await send("GET", f"{world.at}/tags/list")
        await anyio.sleep(waited)

    course = world.play(open_and_ask)
    assert {one.invariant for one in invariants.sessions(world.internet.history, course)} == {"I8"}
    stopped = replace(course, report=Report(started=datetime.now(UTC), status=RunStatus.INTERRUPTED))
    assert {one.invariant for one in invariants.sessions(world.internet.history, stopped)} == broken
