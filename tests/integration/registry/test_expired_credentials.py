"""Credentials that end during a long run: the helper that gave them is asked again, once."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.errors import CredentialsError, Side, Unauthorized
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials import Helpers, Keychain
from tests.support import images
from tests.support.guarded import SAMPLE, guarded_registry
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Scripted, scripted
from tests.support.token_service import token_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


class Machine:
    """A home with a helper that gives out what ``secret`` says at the time, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.programs = folder / "bin"
        for path in (self.home / ".docker", self.programs):
            path.mkdir(parents=True)
        (self.home / ".docker" / "config.json").write_text(json.dumps({"credsStore": "cloud"}))
        self.say('cat > /dev/null; cat "$0.secret"')
        self.secret("first")

    def say(self, script: str) -> None:
        """Let the helper do something else."""
        path = self.programs / "docker-credential-cloud"
        path.write_text(f"#!/bin/sh\necho $1 >> $0.calls\n{script}\n")
        path.chmod(0o755)

    def secret(self, secret: str, username: str = "AWS") -> None:
        """Change what is given out."""
        (self.programs / "docker-credential-cloud.secret").write_text(
            json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
        )

    @property
    def calls(self) -> int:
        """How often the helper was asked."""
        path = self.programs / "docker-credential-cloud.calls"
        return len(path.read_text().split()) if path.exists() else 0

    def client(self, host: str, clock: Clock) -> RegistryClient:
        """Return a client that knows what this machine knows."""
        environ = {"PATH": f"{self.programs}:/usr/bin:/bin"}
        keys = Keychain(
            environ=environ, home=self.home, helpers=Helpers(environ, timeout=5, clock=clock), uid=4_000_000_000
        )
        settings = RegistrySettings(host=host, plain_http=True)
        return RegistryClient(settings, keys, Recorder(), clock=clock, sleep=clock.sleep, random=lambda: 1.0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine."""
    return Machine(tmp_path)


class Cloud:
    """A registry with Basic credentials of which one password is valid at a time."""

    def __init__(self) -> None:
        self.valid = "first"
        self.server = Scripted("")
        #: Answers to a password that has ended, where it is not refused with a challenge.
        self.ended: Callable[[], web.Response] | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        expected = base64.b64encode(f"AWS:{self.valid}".encode()).decode()
        shown = request.headers.get("Authorization")
        if shown and shown != f"Basic {expected}" and self.ended:
            return self.ended()
        if shown != f"Basic {expected}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="cloud"'})
        if request.method == "POST":
            return web.Response(status=202, headers={"Location": f"{request.path}1"})
        return web.Response(
            content_type=SAMPLE.manifest.media_type,
            headers={"Docker-Content-Digest": SAMPLE.digest, "Content-Length": str(len(SAMPLE.manifest.raw))},
        )


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    """Serve the registry."""
    it = Cloud()
    async with scripted(it.handle) as server:
        it.server = server
        yield it


async def many(client: RegistryClient, count: int = 20) -> None:
    """Ask for many tags at once."""
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(client.repository("a").resolve, f"t{number}")


async def test_password_that_ends(machine: Machine, cloud: Cloud) -> None:
    """A registry that refuses a helper's password has it asked again, once for all who are under way (ECR)."""
    clock = Clock()
    async with machine.client(cloud.server.address, clock) as client:
        await many(client)
        assert machine.calls == 1
        cloud.valid = "second"
        machine.secret("second")
        await many(client)
    assert machine.calls == 2


@pytest.mark.parametrize("status", [400, 403])
async def test_password_whose_end_is_told_without_a_challenge(machine: Machine, cloud: Cloud, status: int) -> None:
    """ECR says in words, with 403, that a password has ended: the helper is asked again."""
    told = {"errors": [{"code": "DENIED", "message": "Your authorization token has expired. Reauthenticate."}]}
    cloud.ended = lambda: web.json_response(told, status=status)
    clock = Clock()
    async with machine.client(cloud.server.address, clock) as client:
        repository = client.repository("a", Side.TARGET)
        await repository.resolve("1")
        cloud.valid = "second"
        machine.secret("second")
        assert not isinstance(await repository.begin_blob(images.blob(b"x")), str)
    assert machine.calls == 2


async def test_password_that_stays_wrong(machine: Machine, cloud: Cloud) -> None:
    """A helper that gives the same again is asked twice in all, however many are refused, for a minute."""
    cloud.valid = "other"
    clock = Clock()
    async with machine.client(cloud.server.address, clock) as client:
        with pytest.raises(Unauthorized) as caught:
            await client.repository("a").resolve("1")
        for _ in range(5):
            with pytest.raises(Unauthorized):
                await client.repository("a").resolve("1")
        assert machine.calls == 2
        cloud.valid = "first"
        clock.now += 61
        await client.repository("a").resolve("1")
    assert "first" not in f"{caught.value!r}{vars(caught.value)}"


async def test_days_of_running(machine: Machine, cloud: Cloud) -> None:
    """A run of three days, whose password changes every twelve hours, is never refused for good."""
    clock = Clock()
    async with machine.client(cloud.server.address, clock) as client:
        for hour in range(72):
            cloud.valid = f"period-{hour // 12}"
            machine.secret(cloud.valid)
            await client.repository("a").resolve(f"t{hour}")
            clock.now += 3600


async def test_token_service_that_refuses(machine: Machine) -> None:
    """A token service that refuses a helper's password has it asked again, once, and then gets the new one."""
    clock = Clock()
    async with (
        token_service(users={"AWS": "first"}) as service,
        guarded_registry(service) as registry,
        machine.client(registry.server.address, clock) as client,
    ):
        await many(client)
        service.users = {"AWS": "second"}
        machine.secret("second")
        clock.now += 271
        await many(client)
    assert [asked.status for asked in service.asked] == [200, 401, 200]
    assert machine.calls == 2


async def test_identity_token_of_a_helper(machine: Machine) -> None:
    """An identity token that ends is asked for again like a password."""
    machine.secret("first", "<token>")
    clock = Clock()
    async with (
        token_service(users={"": "first"}) as service,
        guarded_registry(service) as registry,
        machine.client(registry.server.address, clock) as client,
    ):
        await many(client)
        service.users = {"": "second"}
        machine.secret("second", "<token>")
        clock.now += 271
        await many(client)
    assert [(asked.method, asked.secret, asked.status) for asked in service.asked] == [
        ("POST", "first", 200),
        ("POST", "first", 401),
        ("GET", "first", 401),
        ("POST", "second", 200),
    ]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sleep 600", "gave no answer"),
        ("echo canary; echo canary >&2; exit 1", "exit status 1"),
        ("echo canary", "no credentials in its answer"),
        ("sleep 600 & echo canary", "gave no answer"),
    ],
    ids=["hangs", "fails", "garbage", "grandchild"],
)
async def test_helper_that_fails_is_the_outcome(machine: Machine, cloud: Cloud, script: str, words: str) -> None:
    """A helper that hangs, fails, talks nonsense or leaves a child on its output is a typed error, and no request."""
    machine.say(script)
    environ = {"PATH": f"{machine.programs}:/usr/bin:/bin"}
    keys = Keychain(environ=environ, home=machine.home, helpers=Helpers(environ, timeout=0.2), uid=4_000_000_000)
    settings = RegistrySettings(host=cloud.server.address, plain_http=True)
    async with RegistryClient(settings, keys, Recorder()) as client:
        with pytest.raises(CredentialsError, match=words) as caught:
            await client.repository("a").resolve("1")
    assert cloud.server.seen == []
    assert caught.value.hint
    assert "canary" not in f"{caught.value!r}{caught.value.paragraph()}"
    assert machine.calls == 1
