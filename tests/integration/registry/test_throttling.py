"""Registries that say "too many requests", in whatever form, while many tasks ask them."""

from __future__ import annotations

import heapq
import json
import time
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from aiohttp import web

from syncer.errors import CertificateError, ConnectionFailed, RateLimited, RateLimitReached, ServerFailure, Side
from syncer.events import RequestFinished, RetryScheduled
from syncer.registry import RegistryClient, RegistrySettings, TlsSettings
from syncer.registry.credentials.values import Basic
from syncer.registry.standing import Standing, Standings
from syncer.registry.traffic.allowance import Allowance
from tests.support import images
from tests.support.authority import Authority
from tests.support.observing import Recorder
from tests.support.scripted import Keys, connected, scripted
from tests.support.uploading import Source, Target, push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from anyio.abc import SocketStream

    from syncer.registry import RegistryRepository
    from tests.support.scripted import Scripted

DIGEST = images.blob(b"x").digest
CONTENT = {"Docker-Content-Digest": DIGEST, "Content-Length": "1", "Content-Type": "application/json"}


class HeldClock:
    """A clock that stands still until it is moved; who sleeps waits for that."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved by ``seconds``."""
        self._count += 1
        event = anyio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, event))
        await event.wait()

    def move(self, seconds: float) -> None:
        """Move on, and wake who has slept enough."""
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            heapq.heappop(self._sleepers)[2].set()


class Throttling:
    """A registry that answers everything until it is told to hold its answers, and throttles one of those it held."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.arrived = 0
        self.is_held = False
        self.waiting = 0
        self.throttle = anyio.Event()
        self.release = anyio.Event()
        self.is_throttled = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.arrived += 1
        if self.is_held:
            self.waiting += 1
            if not self.is_throttled:
                self.is_throttled = True
                await self.throttle.wait()
                return web.Response(status=429, headers=self.headers)
            await self.release.wait()
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": "/u/1"})
        if "/blobs/" in request.path:
            return web.Response(body=b"x")
        return web.Response(headers=CONTENT)


@asynccontextmanager
async def client_of(server: Scripted, clock: HeldClock, recorder: Recorder) -> AsyncIterator[RegistryClient]:
    """Give a client that lives by ``clock``, and that begins with as many requests at once as it may ever send."""
    settings = RegistrySettings(
        host=server.address, plain_http=True, connections=32, data_connections=16, is_fixed=True
    )
    async with RegistryClient(
        settings, Keys(), recorder, clock=clock, sleep=clock.sleep, wall_clock=clock, random=lambda: 0.5
    ) as client:
        yield client


async def until(claim: Callable[[], bool]) -> None:
    """Wait until ``claim`` holds; what it looks at tells nobody when it changes."""
    while not claim():  # noqa: ASYNC110 - see above
        await anyio.sleep(0.001)


async def settled() -> None:
    """Give sockets and tasks the time to do what they are about to do."""
    for _ in range(4):
        await anyio.sleep(0.01)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": formatdate(1_000_007, usegmt=True), "Date": formatdate(1_000_000, usegmt=True)}, 7.0),
        ({"Retry-After": formatdate(999_000, usegmt=True), "Date": formatdate(1_000_000, usegmt=True)}, 1.0),
        ({"Retry-After": "1000000000"}, 300.0),
        ({"Retry-After": "-5"}, 1.0),
        ({"Retry-After": "after lunch"}, 1.0),
        ({}, 1.0),
    ],
    ids=["seconds", "date", "past", "absurd", "negative", "garbage", "absent"],
)
async def test_nothing_is_sent_in_a_pause(headers: dict[str, str], pause: float) -> None:
    """Of 200 parallel requests of every kind one is throttled: none is sent in the pause, and then all are done."""
    registry = Throttling(headers)
    clock = HeldClock()
    recorder = Recorder()
    done = 0

    async with scripted(registry.handle) as server, client_of(server, clock, recorder) as client:
        repository = client.repository("a", Side.TARGET)

        async def head(at: int) -> None:
            nonlocal done
            await repository.resolve(f"v{at}")
            done += 1

        async def read(_at: int) -> None:
            nonlocal done
            async with repository.data_slot(), repository.fetch_blob(images.blob(b"x")) as chunks:
                assert [chunk async for chunk in chunks] == [b"x"]
            done += 1

        async def begin(_at: int) -> None:
            nonlocal done
            await repository.begin_blob(images.blob(b"x"))
            done += 1

        await repository.resolve("first")
        registry.is_held = True
        async with anyio.create_task_group() as group:
            for at in range(200):
                group.start_soon((head, read, begin, head, head)[at % 5], at)
            # Both windows are full: nothing that was sent is still on its way.
            await until(lambda: registry.waiting >= 32 + 16)
            await settled()
            assert registry.waiting == 32 + 16
            registry.throttle.set()
            await until(client.limits.is_paused)
            sent = registry.arrived
            registry.is_held = False
            registry.release.set()
            await settled()
            clock.move(pause - 0.001)
            await settled()
            in_the_pause = registry.arrived - sent
            assert in_the_pause == 0
            while done < 200:
                clock.move(0.5)
                await anyio.sleep(0.002)
    assert registry.arrived == 1 + 200 + 1
    assert [event.attempt for event in recorder.of(RetryScheduled)] == [1]


async def test_who_waited_comes_back_one_by_one() -> None:
    """After a pause those who waited go on at times of their own, all within a tenth of it."""
    chances = iter(at / 50 for at in range(1000))
    moments: list[float] = []
    clock = HeldClock()
    standing = Standing(
        RegistrySettings(host="r.example"), clock=clock, sleep=clock.sleep, random=lambda: next(chances)
    )
    standing.limits.pause(5.0)

    async def one() -> None:
        await standing.limits.wait_pause()
        moments.append(round(clock.now, 3))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
        await settled()
        for _ in range(60):
            clock.move(0.1)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
    assert len(set(moments)) >= 5
    assert 1005.0 <= min(moments) <= max(moments) <= 1005.7


async def test_a_pause_that_begins_while_connecting(tmp_path: Path) -> None:
    """A request that waits for its connection when a pause begins is not sent before the end of it."""
    clock = HeldClock()
    accepted = anyio.Event()
    authority = Authority(tmp_path)

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers=CONTENT)

    async with scripted(handler, tls=authority.server("127.0.0.1")) as server:
        host, _, onward_port = server.address.partition(":")

        async def relay(stream: SocketStream) -> None:
            async with stream, await anyio.connect_tcp(host, int(onward_port)) as onward:
                client.limits.pause(5.0)
                accepted.set()
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    async with anyio.create_task_group() as pumps:
                        pumps.start_soon(_pump, onward, stream)
                        await _pump(stream, onward)
                        pumps.cancel_scope.cancel()

        async with await anyio.create_tcp_listener(local_host=host, local_port=0) as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's, and not Django's
            address = f"{host}:{port}"
            settings = RegistrySettings(host=address, tls=TlsSettings(ca=str(authority.ca)))
            client = RegistryClient(settings, Keys(), Recorder(), clock=clock, sleep=clock.sleep, wall_clock=clock)
            async with client, anyio.create_task_group() as group:
                group.start_soon(listener.serve, relay)
                async with anyio.create_task_group() as asking:
                    asking.start_soon(client.repository("a").resolve, "v1")
                    await accepted.wait()
                    await settled()
                    assert server.lines == []
                    clock.move(6.0)
                group.cancel_scope.cancel()
    assert server.lines == ["HEAD /v2/a/manifests/v1"]


async def test_a_pause_that_begins_while_the_source_is_slow() -> None:
    """An upload that has leave to go, and waits for its first bytes, does not break into a pause with them."""
    arrived: list[float] = []
    target = Target()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "PUT":
            arrived.append(it.clock.now)
        return await target.handle(request)

    class Slow(Source):
        async def _chunks(self) -> AsyncIterator[bytes]:
            it.client.limits.pause(60)
            yield self.data

    async with scripted(handle) as server, connected(server.address) as it:
        began = it.clock.now
        await push(it, Slow(b"late"))
    assert [seconds >= began + 60 for seconds in arrived] == [True]


async def _pump(source: SocketStream, target: SocketStream) -> None:
    async for data in source:
        await target.send(data)


async def test_token_requests_to_a_paused_host_wait() -> None:
    """A token service on the registry's own host is left alone in a pause, too."""
    clock = HeldClock()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": "t"})
        if not request.headers.get("Authorization", "").startswith("Bearer"):
            challenge = f'Bearer realm="{server.url}/token",service="s",scope="repository:{request.path[4]}:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(headers=CONTENT)

    async with scripted(handler) as server, client_of(server, clock, Recorder()) as client:
        await client.repository("a").resolve("v1")
        client.limits.pause(5.0)
        async with anyio.create_task_group() as group:
            for name in "bcd":
                group.start_soon(client.repository(name).resolve, "v1")
            await settled()
            before = len(server.lines)
            clock.move(4.9)
            await settled()
            assert len(server.lines) == before == 3
            clock.move(2.0)
    assert sum(line.startswith("GET /token") for line in server.lines) == 4


async def test_a_throttled_token_service_pauses_itself_only() -> None:
    """A token service elsewhere that throttles is left alone; the registry is asked on, and the token got later."""
    asked = 0

    async def tokens(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.Response(status=429, headers={"Retry-After": "20"})
        return web.json_response({"token": "t"})

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if not request.headers.get("Authorization", "").startswith("Bearer"):
            challenge = f'Bearer realm="{service.url}/token",service="s",scope="repository:a:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(headers=CONTENT)

    async with scripted(tokens) as service, scripted(handler) as server, connected(server.address) as it:
        await it.client.repository("a").resolve("v1")
        assert not it.client.limits.is_paused()
    assert it.clock.slept[0] >= 20.0
    assert asked == 2


async def test_a_wish_for_hours_is_for_another_run() -> None:
    """A Retry-After of an hour ends what is asked of that registry at once: one request, and no waiting."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async with scripted(handler) as server, connected(server.address) as it:
        for at in range(50):
            with pytest.raises(RateLimitReached) as caught:
                await it.client.repository("a", Side.SOURCE).resolve(f"v{at}")
            assert caught.value.side is Side.SOURCE
            assert caught.value.registry == it.client.host
            assert caught.value.resets_in == pytest.approx(3600.0, abs=1)
        it.clock.now += 3600.0
        with pytest.raises(RateLimitReached):
            await it.client.repository("a").resolve("later")
    assert len(server.lines) == 2
    assert it.clock.slept == []


async def test_without_end() -> None:
    """A registry that throttles every time is asked six times, pause by pause, and then it is said."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=429)

    async with scripted(handler) as server, connected(server.address) as it:
        with pytest.raises(RateLimited) as caught:
            await it.client.repository("a").resolve("v1")
    assert len(server.lines) == 6
    assert "6 times" in caught.value.hint


class Hub:
    """Counts GETs of manifests as the Docker Hub does."""

    def __init__(self, left: int, *, is_late: bool = False) -> None:
        self.left = left
        self.is_late = is_late
        self.pulls = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        status = 200
        if request.method == "GET" and "/manifests/" in request.path:
            if self.left == 0:
                status = 429
            self.pulls += 1
            self.left = max(0, self.left - 1)
        shown = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": f"{self.left};w=21600"}
        if self.is_late and status == 200:
            shown = {}
        if status == 429:
            body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]}).encode()
            return web.Response(status=429, headers=shown, body=body)
        image = images.image(seed="x")
        headers = {"Content-Type": image.manifest.media_type, "Docker-Content-Digest": image.manifest.digest} | shown
        return web.Response(headers=headers, body=image.manifest.raw)


async def pulled(repository: RegistryRepository, count: int) -> tuple[int, int]:
    """Pull many images at the same time; return how many came, and how many were deferred."""
    outcomes: list[bool] = []

    async def pull(at: int) -> None:
        try:
            await repository.fetch_manifest(f"v{at}")
            outcomes.append(True)
        except RateLimitReached:
            outcomes.append(False)

    async with anyio.create_task_group() as group:
        for at in range(count):
            group.start_soon(pull, at)
    return outcomes.count(True), outcomes.count(False)


async def test_no_pull_is_sent_that_is_not_left() -> None:
    """Of 60 parallel pulls with 25 left, 25 go out; the others end without a request, and HEADs go on."""
    hub = Hub(25)
    async with scripted(hub.handle) as server, connected(server.address) as it:
        repository = it.client.repository("library/a", Side.SOURCE)
        await repository.resolve("latest")
        assert await pulled(repository, 60) == (25, 35)
        await repository.resolve("latest")
    assert hub.pulls == 25
    assert it.clock.slept == []


class Metered(Standing):
    """How things stand with a registry by any name that is known to count pulls."""

    def __init__(self, settings: RegistrySettings) -> None:
        super().__init__(settings)
        self._pulls = Allowance(settings.host, metered_pulls=True, clock=time.monotonic)

    def allowance(self, place: str = "") -> Allowance:
        """Return what the registry still allows."""
        return super().allowance(place) if place else self._pulls


async def test_a_refusal_tells_nothing_of_the_pulls_left() -> None:
    """With one pull left, and a token to be had first, one of twenty parallel pulls goes out with the token."""
    hub = Hub(1)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": "t", "expires_in": 300})
        if request.headers.get("Authorization") != "Bearer t":
            challenge = f'Bearer realm="http://{request.host}/token",service="hub"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return await hub.handle(request)

    async with scripted(handle) as server:
        settings = RegistrySettings(host=server.address, plain_http=True)
        async with RegistryClient(settings, Keys(), Recorder(), standing=Metered(settings)) as client:
            assert await pulled(client.repository("library/a", Side.SOURCE), 20) == (1, 19)
    assert hub.pulls == 1


async def test_the_answer_that_says_that_nothing_is_left() -> None:
    """A 429 that names the allowance as used up is not waited for: the window has hours."""
    hub = Hub(0, is_late=True)
    async with scripted(hub.handle) as server, connected(server.address) as it:
        for _ in range(5):
            with pytest.raises(RateLimitReached, match="none of the 100 is left"):
                await it.client.repository("library/a").fetch_manifest("v1")
    assert hub.pulls == 1
    assert it.clock.slept == []


async def test_a_short_reset_is_waited_for() -> None:
    """Where every request counts and there are new ones in 30 s, the next request goes out after that."""
    left = 2

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return web.Response(headers={**CONTENT, "RateLimit-Remaining": str(max(left, 0)), "RateLimit-Reset": "30"})

    async with scripted(handler) as server, connected(server.address) as it:
        for at in range(3):
            await it.client.repository("a").resolve(f"v{at}")
    assert len(server.lines) == 3
    assert sum(it.clock.slept) == pytest.approx(31.0)


async def test_two_clients_of_one_registry_share_a_pause() -> None:
    """What one client is told holds for another that reaches the same registry in another way."""
    standings = Standings()
    fast = RegistrySettings(host="r.example", connections=20, bandwidth=1000)
    slow = RegistrySettings(host="r.example", connections=5, requests_per_second=3.0)
    one = RegistryClient(fast, Keys(), Recorder(), standing=standings.of(fast))
    two = RegistryClient(slow, Keys(Basic(username="u", password="p")), Recorder(), standing=standings.of(slow))
    one.limits.pause(10.0)
    assert two.limits.is_paused()
    assert one.limits.control.size == 5
    assert one.capabilities is two.capabilities
    assert one.fallback_tags is two.fallback_tags
    assert standings.of(RegistrySettings(host="other.example")).budget is one.standing.budget


async def test_the_budget_of_a_run_bounds_what_is_tried_again() -> None:
    """Of 300 requests that all fail in passing, a run tries no more again than its budget has, and says so."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=502)

    hints: list[str] = []
    async with scripted(handler) as server, connected(server.address) as it:
        repository = it.client.repository("a")

        async def one(at: int) -> None:
            with pytest.raises(ServerFailure) as caught:
                await repository.resolve(f"v{at}")
            hints.append(caught.value.hint)

        async with anyio.create_task_group() as group:
            for at in range(300):
                group.start_soon(one, at)
    sent = len(server.lines)
    # 100 and a fifth of all that was sent, where a policy alone would make 1,800 of it.
    assert 300 + 100 <= sent <= (300 + 100) / 0.8 + 1
    assert len(it.recorder.of(RetryScheduled)) == sent - 300
    assert sum("is not any more" in hint for hint in hints) > 100


async def test_a_dead_registry_and_two_hundred_tasks() -> None:
    """Nobody listens: all who ask are told the same, with the number of tries, after a dozen connections at most."""
    async with scripted(lambda _: pytest.fail("nobody is asked")) as server:
        address = server.address
    errors: list[ConnectionFailed] = []
    async with connected(address) as it:

        async def one(at: int) -> None:
            with pytest.raises(ConnectionFailed) as caught:
                await it.client.repository("a", Side.SOURCE).resolve(f"v{at}")
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            for at in range(200):
                group.start_soon(one, at)
    assert len(errors) == 200
    assert {error.message for error in errors} == {f"cannot connect to {address}: connection refused"}
    assert {error.side for error in errors} == {Side.SOURCE}
    assert all("5 times" in error.hint for error in errors)
    assert len(it.recorder.of(RequestFinished)) <= 12


async def test_a_certificate_that_is_not_trusted_is_asked_for_once(tmp_path: Path) -> None:
    """A registry whose certificate is not trusted is fatal for the host: no storm of handshakes."""
    authority = Authority(tmp_path)

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers=CONTENT)

    async with scripted(handler, tls=authority.server("127.0.0.1")) as server:
        settings = RegistrySettings(host=server.address)
        async with connected(server.address, settings=settings) as it:

            async def one(at: int) -> None:
                with pytest.raises(CertificateError):
                    await it.client.repository("a").resolve(f"v{at}")

            async with anyio.create_task_group() as group:
                for at in range(100):
                    group.start_soon(one, at)
    # The first few go out together.
    assert len(it.recorder.of(RequestFinished)) <= 4
    assert it.clock.slept == []
