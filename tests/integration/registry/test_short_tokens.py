"""Ten minutes against docker-registry, in seconds: with a password file, and with tokens that live five seconds."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from syncer.errors import NotFound, Side, Unauthorized
from syncer.events import RequestFinished, RequestKind
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials.values import Basic
from tests.support import images
from tests.support.docker_registry import TokenAuth, docker_registry
from tests.support.scripted import Clock, Keys
from tests.support.token_service import ISSUER, SERVICE, Asked, TokenService, token_service
from tests.support.transfer import check, push, push_blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from syncer.events import Event
    from tests.support.docker_registry import Witness

pytestmark = [pytest.mark.witness, pytest.mark.untraced]

USER = Basic(username="u", password="witness")
#: "witness" for the user "u".
HTPASSWD = "u:$2b$05$JDqf1Hw3EG/8Nj.N9Z0dGOk8qyDPuMN1wOeWMJM0fYyitkgJ5Ca0a\n"
MINUTES = 10
LIFETIME = 5


class Ticking:
    """An observer by which every request takes a second of the client's time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.statuses: list[int] = []
        self.kinds: list[RequestKind] = []

    def notify(self, event: Event) -> None:
        """Move the clock on."""
        if isinstance(event, RequestFinished):
            self.clock.now += 1
            self.statuses.append(event.status)
            self.kinds.append(event.kind)


@asynccontextmanager
async def witness(storage: Path, *, htpasswd: str = "", token: TokenAuth | None = None) -> AsyncIterator[Witness]:
    """Run docker-registry beside the loop."""
    with ExitStack() as stack:
        running = docker_registry(storage, htpasswd=htpasswd, token=token)
        yield await to_thread.run_sync(stack.enter_context, running)


def client_of(host: str, ticking: Ticking, credential: Basic = USER) -> RegistryClient:
    """Return a client that lives by the clock of ``ticking``."""
    clock = ticking.clock
    settings = RegistrySettings(host=host, plain_http=True)
    return RegistryClient(settings, Keys(credential), ticking, clock=clock, sleep=clock.sleep, wall_clock=clock)


async def sync_for_minutes(client: RegistryClient, ticking: Ticking) -> int:
    """Push image after image to three repositories, four at a time and with mounts, for ten of its minutes."""
    end = ticking.clock.now + MINUTES * 60
    shared = images.random_bytes(1000, "shared")
    pushed: list[int] = []

    async def fill() -> None:
        while ticking.clock.now < end:
            pushed.append(len(pushed))
            index = pushed[-1]
            repository = client.repository(f"team/app{index % 3}", Side.TARGET)
            sample = images.image(seed=f"{index}", size=200)
            source = f"team/app{(index + 1) % 3}" if index % 5 == 0 else ""
            await push_blob(repository, images.blob(shared), shared, mount_from=source)
            await push(repository, sample, f"t{index}")
            assert (await repository.resolve(f"t{index}")).digest == sample.digest

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(fill)
    await check(client.repository("team/app0"), images.image(seed="0", size=200), "t0")
    return len(pushed)


@pytest.fixture
async def service() -> AsyncIterator[TokenService]:
    """Serve tokens that live five seconds."""
    async with token_service(lifetime=LIFETIME, users={"u": "witness"}) as running:
        yield running


def auth_of(service: TokenService, folder: Path) -> TokenAuth:
    """Return how a registry is told of the service."""
    folder.mkdir(exist_ok=True)
    return TokenAuth(service.realm, SERVICE, ISSUER, service.write_bundle(folder / "bundle.pem"))


async def test_tokens_of_five_seconds(service: TokenService, tmp_path: Path) -> None:
    """A sync of ten minutes asks for at most one token per set of scopes and lifetime, and is refused once in all."""
    ticking = Ticking()
    times: dict[tuple[str, ...], list[float]] = {}

    def note(asked: Asked) -> None:
        times.setdefault(asked.scopes, []).append(ticking.clock.now)

    service.answer = note
    async with (
        witness(tmp_path / "registry", token=auth_of(service, tmp_path / "auth")) as running,
        client_of(running.host, ticking) as client,
    ):
        began = ticking.clock.now
        pushed = await sync_for_minutes(client, ticking)
    elapsed = ticking.clock.now - began
    assert elapsed >= MINUTES * 60
    assert pushed > 30
    assert ticking.kinds.count(RequestKind.TOKEN) == len(service.asked)
    for scopes, asked in times.items():
        assert len(asked) <= elapsed / LIFETIME + 1, scopes
        assert all(later - earlier >= LIFETIME for earlier, later in pairwise(asked)), (scopes, asked)
    # The four that begin at once meet the first challenge together.
    assert ticking.statuses.count(401) <= 4
    assert {asked.status for asked in service.asked} == {200}


async def test_password_file(tmp_path: Path) -> None:
    """With a password file no token is asked for, and only the first requests go out without the password."""
    ticking = Ticking()
    async with witness(tmp_path / "registry", htpasswd=HTPASSWD) as running, client_of(running.host, ticking) as client:
        pushed = await sync_for_minutes(client, ticking)
    assert pushed > 30
    assert RequestKind.TOKEN not in ticking.kinds
    assert RequestKind.PING not in ticking.kinds
    assert ticking.statuses.count(401) <= 4


async def test_less_is_granted_than_was_asked(service: TokenService, tmp_path: Path) -> None:
    """Who may only read does so with a token that was asked for more, and a push is refused once, with the reason."""
    service.granted = {"team/app": {"pull"}}
    sample = images.image(size=200)
    ticking = Ticking()
    bundle = auth_of(service, tmp_path / "auth")
    async with witness(tmp_path / "registry", token=bundle) as running, client_of(running.host, ticking) as client:
        repository = client.repository("team/app", Side.TARGET)
        for _ in range(3):
            with pytest.raises(Unauthorized, match="insufficient_scope"):
                await push(repository, sample, "1")
        with pytest.raises(NotFound):
            await repository.fetch_manifest("1")
    # Each kind of request was refused once, and not three times.
    assert ticking.statuses.count(401) <= 6


async def test_wrong_password_at_the_service(service: TokenService, tmp_path: Path) -> None:
    """A password that the token service refuses is one typed error, for all who ask, after one question."""
    ticking = Ticking()
    wrong = Basic(username="u", password="canary-wrong")
    async with (
        witness(tmp_path / "registry", token=auth_of(service, tmp_path / "auth")) as running,
        client_of(running.host, ticking, wrong) as client,
    ):
        errors: list[Unauthorized] = []

        async def ask(number: int) -> None:
            try:
                await client.repository("team/app").resolve(f"t{number}")
            except Unauthorized as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ask, number)
    assert len(errors) == 20
    assert len(service.asked) == 1
    assert all("canary-wrong" not in f"{error!r}{error.paragraph()}" for error in errors)
