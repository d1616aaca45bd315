"""What is given up while a registry wants to be left alone is given up all the same, later."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.engine.draining import Drain
from syncer.errors import RateLimitReached, SizeMismatch
from syncer.events import RequestKind, RetryScheduled, RunStatus, TagOutcome
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials.values import Basic
from tests.support import images
from tests.support.faults import exchanges
from tests.support.faults.injection import Fault, Injector, Struck
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced, synced_between
from tests.support.faults.virtual_time import virtually
from tests.support.observing import Recorder
from tests.support.personalities.history import Step, What
from tests.support.personalities.internet import Internet
from tests.support.personalities.sites import refusal
from tests.support.scripted import Clock, Connected, Keys, scripted
from tests.support.uploading import Source, Target, methods, push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from syncer.events import Event
    from syncer.telemetry.report import Report


def pushed(disturb: Callable[[RegistryClient], None]) -> str:
    """Push a blob whose PUT fails once, with a disturbance before it starts over; return the requests' methods."""
    target = Target(trouble={"PUT": [web.Response(status=503)]})

    async def main() -> str:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "HEAD":
                disturb(client)
            return await target.handle(request)

        clock = asyncio.get_running_loop().time
        async with scripted(handle) as server:
            settings = RegistrySettings(host=server.address, plain_http=True, connections=1)
            client = RegistryClient(settings, Keys(), Recorder(), clock=clock)
            async with client:
                await push(Connected(client, Clock(), Recorder()), Source(b"again"))
            return methods(server.lines)

    return virtually(main())


def test_a_session_that_is_replaced_in_a_pause_is_deleted() -> None:
    """An upload that starts over while its registry has asked for a minute of quiet deletes what it leaves behind."""
    # As when another request was told so.
    assert pushed(lambda client: client.limits.pause(60)) == "POST PUT HEAD DELETE POST PUT"


def test_a_session_that_is_replaced_while_others_are_asking_is_deleted() -> None:
    """The DELETE waits for its turn as any other request, and only its answer for no more than two seconds."""

    async def ask(client: RegistryClient) -> None:
        async with client.limits.control.permit():
            await anyio.sleep(30)

    tasks: list[asyncio.Task[None]] = []

    def disturb(client: RegistryClient) -> None:
        tasks.append(asyncio.get_running_loop().create_task(ask(client)))

    assert pushed(disturb) == "POST PUT HEAD DELETE POST PUT"


def test_a_pause_that_begins_while_a_session_is_given_up() -> None:
    """A pause that begins in the moment that a registry gets to notice a cut does not keep it from being deleted."""
    target = Target()

    class Broken(Source):
        async def _chunks(self) -> AsyncIterator[bytes]:
            asyncio.get_running_loop().call_later(0.05, self.pause, 60)
            yield self.data[:-1]

        pause: Callable[[float], None]

    async def main() -> str:
        clock = asyncio.get_running_loop().time
        async with scripted(target.handle) as server:
            settings = RegistrySettings(host=server.address, plain_http=True)
            async with RegistryClient(settings, Keys(), Recorder(), clock=clock) as client:
                source = Broken(b"not all of it")
                source.pause = client.limits.pause
                with pytest.raises(SizeMismatch):
                    await push(Connected(client, Clock(), Recorder()), source)
            return methods(server.lines)

    assert virtually(main()) == "POST DELETE"
    assert not target.sessions


def test_a_session_that_nothing_is_sent_to_is_deleted_after_a_pause(tmp_path: Path) -> None:
    """A blob that the source has lost, while the target has asked for a week of seconds, leaves no upload open."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example")
    lost, other = (images.image(layers=1, seed=seed) for seed in ("lost", "other"))
    missing = str(lost.manifest.layers[0].digest)
    source.keep("app", lost, "lost")
    source.keep("app", other, "other")
    is_throttled = anyio.Event()

    async def throttle(struck: Struck) -> web.StreamResponse | None:
        is_throttled.set()
        return await exchanges.TOO_MANY_SECONDS.act(struck)

    async def lose(_struck: Struck) -> web.StreamResponse:
        await is_throttled.wait()
        await asyncio.sleep(0)
        return refusal(404, "BLOB_UNKNOWN")

    injector = Injector(internet)
    injector.at(Step.BLOB_GET, Fault("lost", lose), times=None, when=lambda one: one.reference == missing)
    injector.at(
        Step.POST,
        Fault("throttled", throttle),
        nth=1,
        when=lambda one: missing.replace(":", "%3A") not in one.target,
    )
    entry = "name: e, from: source/app, to: target/app"
    report = virtually(synced_between(internet, {"source": source, "target": target}, [entry], tmp_path))
    assert report.status is RunStatus.FAILED
    assert [failure.tag for failure in report.failures] == ["lost"]
    assert not internet.violations
    assert not target.sessions
    assert list(internet.history.changes(What.SESSION_DELETED))


@pytest.mark.parametrize("seconds", [60, 3600])
def test_a_pause_is_kept_although_who_was_told_of_it_is_cancelled(seconds: int) -> None:
    """Who is cancelled before all of a 429 has come leaves word of it for the others."""
    is_over = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse(status=429, headers={"Retry-After": str(seconds), "Content-Length": "10"})
        await answer.prepare(request)
        await answer.write(b"{")
        await is_over.wait()
        return answer

    async def main() -> int:
        clock = asyncio.get_running_loop().time
        async with scripted(handle) as server:
            settings = RegistrySettings(host=server.address, plain_http=True)
            async with RegistryClient(settings, Keys(), Recorder(), clock=clock) as client:
                for _ in range(2):
                    with anyio.move_on_after(1), suppress(RateLimitReached):
                        await client.repository("app").fetch_manifest("v1")
            is_over.set()
            return len(server.lines)

    assert virtually(main()) == 1


def test_a_token_that_runs_out_in_a_pause() -> None:
    """Who has waited for minutes shows a token that is good then, and not the one of before the wait."""
    internet = Internet()
    target = Model(internet, "target.example", tokens=True, token_lifetime=60)
    target.keep("app", images.image(), "v1")

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        async with internet.running():
            settings = RegistrySettings(host=target.address, plain_http=True)
            keys = Keys(Basic(username=target.login.user, password=target.login.password))
            async with RegistryClient(settings, keys, Recorder(), clock=clock) as client:
                repository = client.repository("app")
                await repository.resolve("v1")
                client.limits.pause(300)
                await repository.resolve("v1")

    virtually(main())
    asked = [seen.status for seen in internet.seen if seen.site == target.host]
    assert asked == [401, 200, 200]


def test_a_stop_while_a_session_is_given_up(tmp_path: Path) -> None:
    """A run that is stopped just when an upload starts over deletes the session all the same."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example")
    source.keep("app", images.image(seed="large", layers=1, size=16_000_000), "v1")
    injector = Injector(internet)
    # More than all buffers on the way hold.
    injector.at(Step.PUT, exchanges.RESET_AT_ONCE, when=lambda one: int(one.headers["Content-Length"]) > 10_000_000)

    async def main() -> RunStatus:
        stop = anyio.Event()

        class Stopper:
            def notify(self, event: Event) -> None:
                if isinstance(event, RetryScheduled) and event.kind is RequestKind.UPLOAD_PUT:
                    # In the tenth of a second in which the registry may notice that the body was cut off.
                    asyncio.get_running_loop().call_later(event.delay + 0.05, stop.set)

        async with internet.running():
            text = spec_of({"source": source, "target": target}, "name: e, from: source/app, to: target/app")
            return (await synced(internet, text, tmp_path, Stopper(), stop=stop)).status

    assert virtually(main()) is RunStatus.INTERRUPTED
    assert injector.struck
    assert not internet.violations
    assert not target.sessions


@pytest.mark.parametrize(("pause", "outcome"), [(60, TagOutcome.CANCELLED), (3, TagOutcome.COPIED)])
def test_a_pause_that_outlasts_a_drain(tmp_path: Path, pause: int, outcome: TagOutcome) -> None:
    """Who would wait for longer than a drain has time is given up at once, and who would not is finished."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example")
    source.keep("app", images.image(layers=1), "v1")

    async def throttle(_struck: Struck) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": str(pause)})

    Injector(internet).at(Step.MANIFEST_PUT_TAG, Fault("throttled", throttle))

    async def main() -> tuple[Report, float]:
        drain, clock = Drain(7), asyncio.get_running_loop().time
        began = 0.0

        class Drainer:
            def notify(self, event: Event) -> None:
                nonlocal began
                if isinstance(event, RetryScheduled):
                    began = clock()
                    # Once the wait has begun.
                    asyncio.get_running_loop().call_later(0.1, drain.begin)

        async with internet.running():
            text = spec_of({"source": source, "target": target}, "name: e, from: source/app, to: target/app")
            return await synced(internet, text, tmp_path, Drainer(), drain=drain), clock() - began

    report, seconds = virtually(main())
    assert report.totals.tags[outcome] == report.totals.finished == 1
    assert report.status is (RunStatus.INTERRUPTED if outcome is TagOutcome.CANCELLED else RunStatus.DONE)
    # By a clock that nothing but waiting moves.
    assert seconds < 1 if outcome is TagOutcome.CANCELLED else seconds >= pause
    assert not internet.violations
    assert not target.sessions


def test_a_drain_lets_what_is_paused_be_tidied_away(tmp_path: Path) -> None:
    """An upload that fails in the last moments of a drain, while its registry has asked for a second, is deleted."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example")
    source.keep("app", images.image(layers=1, size=16_000_000), "v1")

    async def throttle(_struck: Struck) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "1"})

    Injector(internet).at(Step.PUT, Fault("throttled", throttle), times=None)

    async def main() -> RunStatus:
        drain, stop = Drain(0.5), anyio.Event()

        class Drainer:
            def notify(self, event: Event) -> None:
                if isinstance(event, RetryScheduled) and not drain.has_begun:
                    drain.begin()
                    asyncio.get_running_loop().call_later(drain.seconds, stop.set)

        async with internet.running():
            text = spec_of({"source": source, "target": target}, "name: e, from: source/app, to: target/app")
            return (await synced(internet, text, tmp_path, Drainer(), drain=drain, stop=stop)).status

    assert virtually(main()) is RunStatus.INTERRUPTED
    assert not internet.violations
    assert not target.sessions
