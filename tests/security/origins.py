"""Attacks that lead elsewhere: to another origin, to plain HTTP, to a token service of the attacker's."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from anyio import to_thread

from syncer.errors import ProtocolViolation, Side, SyncerError, Unauthorized
from syncer.registry import RegistrySettings, TlsSettings
from syncer.registry import client as client_module
from syncer.registry.auth.memory import AuthMemory
from syncer.registry.auth.origins import OriginTokens
from syncer.registry.client import RegistryClient
from syncer.registry.credentials.values import Anonymous, Basic, IdentityToken
from syncer.registry.network.transport import Transport
from syncer.registry.network.urls import Origin, absolute
from tests.security.stage import Heard, Outcome, Row, Wire, reply, rewritten, said, wire
from tests.support import images
from tests.support.certificates import make_pem, serving
from tests.support.observing import Recorder
from tests.support.scripted import connected
from tests.support.transfer import push_blob, read_blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import pytest
    from yarl import URL

    from syncer.registry import RegistryRepository
    from syncer.registry.credentials.values import Credential
    from tests.security.stage import Answer

DATA = images.random_bytes(2000, "origins")
BLOB = images.blob(DATA)
USER = Basic(username="u", password="canary-password")
_DEMAND = reply(401, WWW_Authenticate='Basic realm="registry"')


class Trap:
    """A registry that wants Basic credentials, and turns on who has shown them."""

    def __init__(self, turn: Callable[[Heard, str], Answer | None]) -> None:
        self._turn = turn
        self.elsewhere = ""

    def __call__(self, heard: Heard) -> Answer:
        if not heard.authorization:
            return _DEMAND
        answer = self._turn(heard, self.elsewhere)
        return reply(404) if answer is None else answer


class HostKeys:
    """Knows the credential of one host, as credential files do."""

    def __init__(self, host: str, credential: Credential = USER) -> None:
        self._host = host
        self._credential = credential

    async def get(self, registry: str, repository: str) -> Credential:
        """Return the credential, for the host that it is for."""
        del repository
        return self._credential if registry == self._host else Anonymous()

    async def renew(self, registry: str, repository: str, refused: Credential) -> Credential:
        """Return the credential: there is no other."""
        del refused
        return await self.get(registry, repository)


@asynccontextmanager
async def known(host: str, *, of: str = "", credential: Credential = USER) -> AsyncIterator[RegistryClient]:
    """Give a client of ``host`` that knows a credential for it, or for the host ``of`` alone."""
    settings = RegistrySettings(host=host, plain_http=True)
    async with RegistryClient(settings, HostKeys(of or host, credential), Recorder(), random=lambda: 0.0) as client:
        yield client


@asynccontextmanager
async def trapped(
    turn: Callable[[Heard, str], Answer | None], attacker: Callable[[Heard], Answer] | None = None
) -> AsyncIterator[tuple[RegistryRepository, Wire, Wire]]:
    """Give a repository of a :class:`Trap`, the trap's server, and that of the attacker."""
    trap = Trap(turn)
    async with wire(attacker or (lambda _: reply(200, DATA))) as evil, wire(trap) as home:
        trap.elsewhere = evil.url
        async with connected(home.address, credential=USER) as it:
            yield it.client.repository("app", Side.TARGET), home, evil


def one_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every origin for the registry's own."""
    monkeypatch.setattr(Origin, "__eq__", lambda _self, _other: True)


def one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell origins by their host alone, as CVE-2020-15157's successors did."""
    monkeypatch.setattr(Origin, "__eq__", lambda self, other: self.host == other.host)


# ---------------------------------------------------------------------------------- S1, S5, S6, S8: credentials


async def foreign_realm(_tmp_path: Path) -> Outcome:
    """Redirect a layer to a host that answers 401 and names a token service of its own."""

    def attacker(heard: Heard) -> Answer:
        if heard.path == "/token":
            return reply(200, b'{"token": "t"}')
        return reply(401, WWW_Authenticate=f'Bearer realm="http://{heard.headers["Host"]}/token",service="s"')

    async with (
        wire(attacker) as evil,
        wire(lambda _: reply(307, Location=f"{evil.url}/layer")) as home,
        known(home.address) as client,
    ):
        error = await said(read_blob(client.repository("app"), BLOB), SyncerError)
        shown = [header for header in evil.authorizations if header.startswith("Basic")]
        return Outcome(loot=" ".join(shown), error=error)


async def upload_location(_tmp_path: Path) -> Outcome:
    """Open an upload at another origin."""

    def turn(heard: Heard, there: str) -> Answer | None:
        return reply(202, Location=f"{there}/up?x=1") if heard.method == "POST" else None

    async with trapped(turn, lambda _: reply(201, Docker_Content_Digest=BLOB.digest)) as (
        repository,
        _,
        evil,
    ):
        error = await said(push_blob(repository, BLOB, DATA), SyncerError)
        assert any(line.startswith("PUT /up") for line in evil.lines)
        return Outcome(loot=" ".join(evil.authorizations), error=error)


async def abort_location(_tmp_path: Path) -> Outcome:
    """Open an upload at another origin that fails, so that it is asked about and given up there."""

    def turn(heard: Heard, there: str) -> Answer | None:
        return reply(202, Location=f"{there}/up?x=1") if heard.method == "POST" else None

    async with trapped(turn, lambda _: reply(400)) as (repository, _, evil):
        error = await said(push_blob(repository, BLOB, DATA), SyncerError)
        assert any(line.startswith("DELETE /up") for line in evil.lines)
        shown = [heard.method for heard in evil.heard if heard.authorization]
        return Outcome(loot=" ".join(shown), error=error)


async def other_port(_tmp_path: Path) -> Outcome:
    """Redirect to the registry's own host, at a port of the attacker's."""
    async with trapped(lambda _, there: reply(307, Location=f"{there}/x")) as (repository, home, evil):
        assert home.address.partition(":")[0] == evil.address.partition(":")[0]
        error = await said(read_blob(repository, BLOB), SyncerError)
        return Outcome(loot=" ".join(evil.authorizations), error=error)


async def redirect(_tmp_path: Path) -> Outcome:
    """Redirect a blob to another origin."""
    async with trapped(lambda _, there: reply(302, Location=f"{there}/x")) as (repository, _, evil):
        error = await said(read_blob(repository, BLOB), SyncerError)
        assert evil.heard
        return Outcome(loot=" ".join(evil.authorizations), error=error)


async def there_and_back(_tmp_path: Path) -> Outcome:
    """Redirect to the attacker, who redirects back to a place at the registry that he chose."""

    def turn(heard: Heard, there: str) -> Answer | None:
        if heard.path.startswith("/v2/app/blobs/"):
            return reply(307, Location=f"{there}/x?back=http://{heard.headers['Host']}")
        return reply(200, DATA)

    def attacker(heard: Heard) -> Answer:
        return reply(307, Location=f"{heard.query['back'][0]}/v2/private/secret")

    async with trapped(turn, attacker) as (repository, home, _):
        error = await said(read_blob(repository, BLOB), SyncerError)
        reached = [heard for heard in home.heard if heard.path == "/v2/private/secret"]
        assert reached
        return Outcome(loot=" ".join(heard.authorization for heard in reached), error=error)


# ---------------------------------------------------------------------------------- S6: down to plain HTTP


@asynccontextmanager
async def secure(
    tmp_path: Path, turn: Callable[[Heard, str], Answer]
) -> AsyncIterator[tuple[RegistryRepository, Wire]]:
    """Give a repository of a registry over TLS that answers by ``turn``, and the attacker's plain server."""
    pem = await to_thread.run_sync(make_pem, tmp_path)
    context: ssl.SSLContext = await to_thread.run_sync(serving, pem)
    async with (
        wire(lambda _: reply(201, b'{"token": "t"}')) as evil,
        wire(lambda heard: turn(heard, evil.url), tls=context) as home,
    ):
        settings = RegistrySettings(host=home.address, tls=TlsSettings(ca=str(pem)))
        async with connected(home.address, credential=USER, settings=settings) as it:
            yield it.client.repository("app", Side.TARGET), evil


def follow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve a Location as RFC 3986 says, and ask no more."""

    def naive(_self: RegistryClient, base: URL, location: str) -> URL:
        return absolute(urljoin(str(base), location))

    monkeypatch.setattr(RegistryClient, "resolve", naive)


async def plain_download(tmp_path: Path) -> Outcome:
    """Redirect a blob from https to http, where anyone on the way reads the URL and the bytes."""
    async with secure(tmp_path, lambda _, there: reply(307, Location=f"{there}/x?signature=1")) as (repository, evil):
        error = await said(read_blob(repository, BLOB), SyncerError)
        return Outcome(loot=" ".join(evil.lines), error=error)


async def plain_upload(tmp_path: Path) -> Outcome:
    """Open an upload over http from a registry over https."""
    async with secure(tmp_path, lambda _, there: reply(202, Location=f"{there}/up")) as (repository, evil):
        error = await said(push_blob(repository, BLOB, DATA), SyncerError)
        return Outcome(loot=" ".join(evil.lines), error=error)


async def plain_realm(tmp_path: Path) -> Outcome:
    """Name a token service over http from a registry over https."""

    def turn(_heard: Heard, there: str) -> Answer:
        return reply(401, WWW_Authenticate=f'Bearer realm="{there}/token",service="s"')

    async with secure(tmp_path, turn) as (repository, evil):
        error = await said(repository.resolve("1"), SyncerError)
        return Outcome(loot=" ".join(evil.authorizations), error=error)


async def client_certificate(tmp_path: Path) -> Outcome:
    """Redirect to another origin over TLS that asks for a client certificate."""
    pem = await to_thread.run_sync(make_pem, tmp_path)
    context: ssl.SSLContext = await to_thread.run_sync(serving, pem, ssl.CERT_OPTIONAL)
    async with (
        wire(lambda _: reply(200, DATA), tls=context) as evil,
        wire(lambda _: reply(307, Location=f"{evil.url}/x"), tls=context) as home,
    ):
        tls = TlsSettings(ca=str(pem), cert=str(pem), key=str(pem))
        async with connected(home.address, settings=RegistrySettings(host=home.address, tls=tls)) as it:
            error = await said(read_blob(it.client.repository("app"), BLOB), SyncerError)
        assert home.certificates
        return Outcome(loot=f"{evil.certificates} certificate" if evil.certificates else "", error=error)


# ---------------------------------------------------------------------------------- S7: leads that stay at home


async def token_redirect(_tmp_path: Path) -> Outcome:
    """Let the token service redirect a request that carries an identity token in its body."""
    async with wire(lambda _: reply(200, b'{"token": "t"}')) as evil:

        def answer(heard: Heard) -> Answer:
            if heard.path == "/token":
                return reply(307, Location=f"{evil.url}/token")
            realm = f"http://{heard.headers['Host']}/token"
            return reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')

        token = IdentityToken(token="canary-identity")
        async with wire(answer) as home, known(home.address, credential=token) as client:
            error = await said(client.repository("app").resolve("1"), SyncerError)
            return Outcome(loot="the identity token" if b"canary-identity" in evil.raw else "", error=error)


async def link(_tmp_path: Path) -> Outcome:
    """Continue a list of tags at another origin."""

    def turn(_heard: Heard, there: str) -> Answer:
        return reply(200, b'{"tags": ["a"]}', Link=f'<{there}/v2/app/tags/list?last=a>; rel="next"')

    async def listed(repository: RegistryRepository) -> None:
        assert [tag async for tag in repository.tags()]

    async with trapped(turn, lambda _: reply(200, b'{"tags": ["evil"]}')) as (repository, _, evil):
        error = await said(listed(repository), SyncerError)
        return Outcome(loot=" ".join(evil.lines), error=error)


def _any_link(monkeypatch: pytest.MonkeyPatch) -> None:
    from syncer.registry import paging  # noqa: PLC0415 - only here

    rewritten(monkeypatch, paging, "_next", "if Origin.of(url) != Origin.of(reply.url):", "if False:")


def one_keychain(patch: pytest.MonkeyPatch) -> None:
    """Answer every origin with what is kept for the registry; each of two defences alone still holds."""
    patch.setattr(client_module, "may_see_credentials", lambda *_: True)
    rewritten(patch, OriginTokens, "met", "str(origin).partition", "str(self.home).partition")


ROWS = [
    Row(
        name="S1-challenge",
        threat="the host of a redirected layer answers 401 and gets the registry's credentials",
        defence="syncer.registry.auth.origins.OriginTokens.met",
        attack=foreign_realm,
        switch_off=one_keychain,
        refusal=Unauthorized,
    ),
    Row(
        name="S5-location",
        threat="the Location of an upload at another origin gets the credentials",
        defence="syncer.registry.network.urls.Origin.__eq__",
        attack=upload_location,
        switch_off=one_origin,
    ),
    Row(
        name="S5-abort",
        threat="the status and the deletion of an upload at another origin carry the credentials",
        defence="syncer.registry.network.urls.Origin.__eq__",
        attack=abort_location,
        switch_off=one_origin,
        refusal=SyncerError,
    ),
    Row(
        name="S5-certificate",
        threat="another origin is shown the client certificate",
        defence="syncer.registry.network.transport.Transport._is_home",
        attack=client_certificate,
        switch_off=lambda patch: patch.setattr(Transport, "_is_home", lambda _self, _origin: True),
    ),
    Row(
        name="S6-port",
        threat="a redirect to the same host at another port keeps the credentials",
        defence="syncer.registry.network.urls.Origin.__eq__",
        attack=other_port,
        switch_off=one_host,
    ),
    Row(
        name="S6-plain-download",
        threat="a redirect leads from https to http",
        defence="syncer.registry.client.RegistryClient.resolve",
        attack=plain_download,
        switch_off=follow_down,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S6-plain-upload",
        threat="the Location of an upload leads from https to http",
        defence="syncer.registry.client.RegistryClient.resolve",
        attack=plain_upload,
        switch_off=follow_down,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S7-plain-realm",
        threat="a registry over https names a token service over http, which gets the password",
        defence="syncer.registry.auth.memory.AuthMemory._check",
        attack=plain_realm,
        switch_off=lambda patch: rewritten(
            patch, AuthMemory, "_check", "if self._home.is_secure and not origin.is_secure:", "if False:"
        ),
        refusal=ProtocolViolation,
    ),
    Row(
        name="S7-token-redirect",
        threat="a token service redirects a request with the password in it",
        defence="syncer.registry.client.RegistryClient._fetch_token",
        attack=token_redirect,
        switch_off=lambda patch: rewritten(
            patch, RegistryClient, "_fetch_token", "is_redirectable=False", "is_redirectable=True"
        ),
        refusal=ProtocolViolation,
    ),
    Row(
        name="S7-link",
        threat="a list continues at another origin",
        defence="syncer.registry.paging._next",
        attack=link,
        switch_off=_any_link,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S8-redirect",
        threat="a redirect to another origin keeps the credentials",
        defence="syncer.registry.network.urls.Origin.__eq__",
        attack=redirect,
        switch_off=one_origin,
    ),
    Row(
        name="S8-return",
        threat="a redirect there and back makes Syncer ask what the attacker chose, with credentials",
        defence="syncer.registry.client.RegistryClient._follow",
        attack=there_and_back,
        switch_off=lambda patch: rewritten(
            patch, RegistryClient, "_follow", "has_left = has_left or not", "has_left = not"
        ),
        refusal=Unauthorized,
    ),
]
