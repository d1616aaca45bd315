"""Windows that find their size: how many requests a registry sees at once."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from syncer.errors import ConnectionFailed, Side, SyncerError
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.network.resolver import system_lookup
from syncer.registry.traffic.limits import LARGE
from syncer.registry.traffic.retry import RetryPolicy
from syncer.registry.upload import UploadSession
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Keys, connected, cut, scripted
from tests.support.uploading import described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.support.scripted import Handler

pytestmark = pytest.mark.untraced

DIGEST = images.blob(b"x").digest
CONTENT = {"Docker-Content-Digest": DIGEST, "Content-Length": "1", "Content-Type": "application/json"}


class Waiting:
    """A registry whose answers wait until the test lets them go, and a client that asks it for many tags at once."""

    def __init__(self, requests: int, *, connections: int = 256, policy: RetryPolicy | None = None) -> None:
        self.requests = requests
        self._policy = policy
        self._connections = connections
        self.clock = Clock()
        self.lookups = 0
        self._started = 0
        self.asked = 0
        self.answered = 0
        self.finished = 0
        self.connections: set[object] = set()
        self._held: list[anyio.Event] = []
        #: How many requests are to be refused, and with what.
        self.refusals = 0
        self.status = 429

    @property
    def held(self) -> int:
        """How many requests wait for their answer."""
        return len(self._held)

    @property
    def left(self) -> int:
        """How many requests have no answer yet."""
        return self.requests - self.finished

    @asynccontextmanager
    async def run(self) -> AsyncIterator[RegistryClient]:
        """Begin to ask, after the registry has answered once."""

        async def lookup(host: str, port: int) -> Sequence[str]:
            self.lookups += 1
            return await system_lookup(host, port)

        async with scripted(self._handle) as server:
            port = server.address.rpartition(":")[2]
            settings = RegistrySettings(
                host=f"localhost:{port}", plain_http=True, connections=self._connections, data_connections=1
            )
            async with (
                RegistryClient(
                    settings,
                    Keys(),
                    Recorder(),
                    clock=self.clock,
                    sleep=self.clock.sleep,
                    lookup=lookup,
                    policy=self._policy,
                ) as client,
                anyio.create_task_group() as group,
            ):
                group.start_soon(self._ask, client, 0)
                await self._until_held(1)
                await self.answer(client, 0.2)
                for at in range(1, self.requests):
                    group.start_soon(self._ask, client, at)
                self._started = self.requests
                await self.settled(client)
                yield client

    async def settled(self, client: RegistryClient) -> None:
        """Wait until what was answered has been read, and all that the window lets out is here."""
        with anyio.fail_after(10):
            while self.finished < self.answered:
                await anyio.lowlevel.checkpoint()
        window = client.limits.control
        await self._until_held(max(min(self._started - self.finished, window.size), window.used))

    async def answer(self, client: RegistryClient, seconds: float, count: int | None = None) -> None:
        """Let the first ``count`` of those that wait go, or all, after ``seconds``."""
        self.clock.now += seconds
        going = self._held[:count]
        del self._held[: len(going)]
        self.answered += len(going)
        for event in going:
            event.set()
        await self.settled(client)

    async def _until_held(self, count: int) -> None:
        with anyio.fail_after(10):
            while len(self._held) < count:
                await anyio.lowlevel.checkpoint()

    async def _ask(self, client: RegistryClient, at: int) -> None:
        with suppress(SyncerError):
            await client.repository("a").resolve(f"v{at}")
        self.finished += 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        self.connections.add(request.transport)
        event = anyio.Event()
        self._held.append(event)
        await event.wait()
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=self.status)
        return web.Response(headers=CONTENT)


async def test_a_far_registry_is_asked_more_and_more() -> None:
    """Of a thousand requests eight go out at first, and twice as many with each round trip, up to the ceiling."""
    registry = Waiting(1000)
    seen: list[int] = []
    async with registry.run() as client:
        while registry.left:
            seen.append(registry.held)
            await registry.answer(client, 0.2)
    assert seen[0] == 8
    assert all(after <= 2 * before for before, after in pairwise(seen))
    assert 256 in seen[:6]
    assert max(seen) == 256
    assert registry.asked == 1000


async def test_what_is_missing_is_an_answer_as_any_other() -> None:
    """Asked for a thousand tags that it does not have, a far registry gets as many requests at once as for others."""
    registry = Waiting(1000)
    registry.status, registry.refusals = 404, 1000
    seen: list[int] = []
    async with registry.run() as client:
        while registry.left:
            seen.append(registry.held)
            await registry.answer(client, 0.2)
    assert seen[0] == 8
    assert 256 in seen[:6]
    assert registry.asked == 1000


async def test_a_look_at_what_answers_take_ends_where_nothing_is_found_any_more() -> None:
    """The window is kept small for a few answers only, whether they are of what is there or of what is not."""
    registry = Waiting(2000, connections=64)
    async with registry.run() as client:
        sizes = [8]
        # It has grown to the ceiling, and is small again.
        while max(sizes) < 64 or sizes[-1] > 8:
            await registry.answer(client, 0.5)
            sizes.append(client.limits.control.size)
        registry.status, registry.refusals = 404, 1000
        for _ in range(6):
            await registry.answer(client, 0.5)
        assert client.limits.control.size == 64
        while registry.left:
            await registry.answer(client, 0.5)


async def test_a_busy_registry_is_not_asked_more() -> None:
    """A registry that answers one after the other gets no more at once than keeps it busy."""
    registry = Waiting(600)
    seen: list[int] = []
    async with registry.run() as client:
        while registry.left:
            seen.append(registry.held)
            await registry.answer(client, 0.01, 1)
    assert min(seen[:500]) >= 8
    assert max(seen) <= 40
    assert registry.asked == 600


async def test_the_ceiling_of_the_spec_holds() -> None:
    """With ``connections: 20`` no more than twenty requests are under way, and no more connections are made."""
    registry = Waiting(300, connections=20)
    seen: list[int] = []
    async with registry.run() as client:
        while registry.left:
            seen.append(registry.held)
            await registry.answer(client, 0.2)
    assert max(seen) == 20
    assert len(registry.connections) == 20
    assert registry.asked == 300


async def test_connections_are_kept_and_names_looked_up_once() -> None:
    """A thousand requests go over no more connections than were under way at once, and the name is looked up once."""
    registry = Waiting(1000)
    async with registry.run() as client:
        while registry.left:
            await registry.answer(client, 0.2)
    assert len(registry.connections) <= 256
    assert registry.lookups == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_overload_halves_what_is_asked_at_once(status: int) -> None:
    """Ten answers of one overload halve the window once, and it does not double again; others leave it alone."""
    registry = Waiting(1000, policy=RetryPolicy(tries=1))
    async with registry.run() as client:
        while registry.held < 64:
            await registry.answer(client, 0.2)
        registry.status, registry.refusals = 409, 10
        await registry.answer(client, 0.0, 10)
        assert registry.held == 64
        registry.status, registry.refusals = status, 10
        await registry.answer(client, 0.0, 10)
        assert client.limits.control.size == 32
        await registry.answer(client, 0.2)
        assert registry.held == 32
        await registry.answer(client, 0.2)
        assert 32 <= registry.held < 40
        while registry.left:
            await registry.answer(client, 0.2)
    assert registry.asked == 1000


async def _answer(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(headers=CONTENT)


async def test_a_registry_that_goes_away_is_asked_less() -> None:
    """One that has answered, and takes no connections any more, gets half as many requests at once when it is back."""
    clock = Clock()
    async with scripted(_answer) as server:
        settings = RegistrySettings(host=server.address, plain_http=True)
        client = RegistryClient(
            settings, Keys(), Recorder(), clock=clock, sleep=clock.sleep, policy=RetryPolicy(tries=1)
        )
        await client.__aenter__()
        await client.repository("a").resolve("v1")
        assert client.limits.control.size == 8
    try:
        # The end of the kept connection is noticed first: that alone would be no overload.
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ConnectionFailed):
            await client.repository("a").resolve("v2")
        assert client.limits.control.size == 4
    finally:
        await client.__aexit__(None, None, None)


async def test_a_registry_that_was_never_there_is_no_overload() -> None:
    """Refusals by one that has not answered yet say nothing of how much it bears."""
    async with scripted(_answer) as server:
        address = server.address
    async with connected(address) as it:
        with pytest.raises(ConnectionFailed):
            await it.client.repository("a").resolve("v1")
        assert it.client.limits.control.size == 8


async def test_a_registry_that_throttles_from_the_start_is_asked_less() -> None:
    """An answer that says "too much" says so whether another came before it or not."""
    answers = iter([429])

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        status = next(answers, 200)
        return await _answer(request) if status == 200 else web.Response(status=status)

    async with scripted(handler) as server, connected(server.address) as it:
        await it.client.repository("a").resolve("v1")
        assert it.client.limits.control.size == 4


async def test_a_kept_connection_that_was_closed_is_no_overload() -> None:
    """Servers close connections that were idle: the request goes out again, and no fewer at once."""
    seen: set[object] = set()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.transport in seen:
            cut(request)
        seen.add(request.transport)
        return await _answer(request)

    async with scripted(handler) as server, connected(server.address) as it:
        for at in range(3):
            await it.client.repository("a").resolve(f"v{at}")
        assert len(server.lines) > 3
        assert it.client.limits.control.size == 8


async def test_a_long_body_is_no_slowness(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an upload took is what passed after its last byte, and a download what passed before its first."""
    data = bytes(range(256)) * (2 * LARGE // 256)
    noted: list[tuple[object, float]] = []
    async with scripted(_store(data)) as server, connected(server.address) as it:
        window = it.client.limits.bulk
        monkeypatch.setattr(window, "answered", lambda kind, seconds: noted.append((kind, seconds)))
        blob = described(data)

        @asynccontextmanager
        async def opener() -> AsyncIterator[AsyncIterator[bytes]]:
            yield slow_chunks()

        async def slow_chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), LARGE):
                it.clock.now += 100.0
                yield data[at : at + LARGE]

        repository = it.client.repository("a", Side.TARGET)
        async with repository.data_slot(blob.size):
            session = await repository.begin_blob(blob)
            assert isinstance(session, UploadSession)
            await session.send(opener)
        async with repository.data_slot(blob.size), repository.fetch_blob(blob) as chunks:
            async for _ in chunks:
                it.clock.now += 100.0
    assert [seconds for _, seconds in noted] == [0.0, 0.0]
    kinds = [kind for kind, _ in noted]
    assert kinds[0] != kinds[1]


async def test_large_blobs_keep_nobody_waiting() -> None:
    """With a slot for a large blob held for good, small blobs and requests go on."""
    settings = RegistrySettings(host="localhost:1", plain_http=True, bulk_connections=1)
    async with connected("localhost:1", settings=settings) as it:
        one, other = it.client.repository("a"), it.client.repository("b")
        async with one.data_slot(LARGE + 1):
            with anyio.fail_after(1):
                async with other.data_slot(LARGE), it.client.limits.request(data=False):
                    pass
            with anyio.move_on_after(0.01) as scope:
                async with other.data_slot(LARGE + 1):
                    pytest.fail("there is one slot only")
        assert scope.cancelled_caught


def _store(data: bytes) -> Handler:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": "/u/1"})
        if request.method == "PUT":
            await request.content.read()
            return web.Response(status=201, headers={"Docker-Content-Digest": described(data).digest})
        return web.Response(body=data)

    return handler
