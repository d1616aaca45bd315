"""A registry that redirects reading to another, which wants a token of its own (registry.k8s.io)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.errors import Side, Unauthorized
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials.values import Anonymous, Basic, Credential
from tests.support import images
from tests.support.guarded import GuardedRegistry, guarded_registry
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Scripted, connected, scripted
from tests.support.token_service import TokenService, token_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USER = Basic(username="u", password="canary")
OTHER = Basic(username="other", password="canary-other")


class KeysOf:
    """Knows a credential for each host."""

    def __init__(self, credentials: dict[str, Credential]) -> None:
        self.credentials = credentials

    async def get(self, registry: str, repository: str) -> Credential:
        """Return the credential of the host."""
        del repository
        return self.credentials.get(registry, Anonymous())

    async def renew(self, registry: str, repository: str, refused: Credential) -> Credential:
        """Return the credential of the host: there is no other."""
        del refused
        return await self.get(registry, repository)


@dataclass
class Pair:
    """A registry that sends reading on, and the one that it sends to."""

    front: Scripted
    back: GuardedRegistry
    service: TokenService

    def client(self, credentials: dict[str, Credential] | None = None, *trusted: str) -> RegistryClient:
        """Return a client of the front."""
        known = {self.front.address: USER, **(credentials or {})}
        settings = RegistrySettings(host=self.front.address, plain_http=True, trusted_hosts=trusted)
        clock = Clock()
        return RegistryClient(settings, KeysOf(known), Recorder(), clock=clock, sleep=clock.sleep, random=lambda: 1.0)


@asynccontextmanager
async def front_of(back: Scripted) -> AsyncIterator[Scripted]:
    """Serve a registry with Basic credentials that redirects all reading to ``back``."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        if not request.headers.get("Authorization"):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="front"'})
        there = request.path_qs.replace("/v2/", "/v2/k8s-artifacts-prod/")
        return web.Response(status=307, headers={"Location": f"{back.url}{there}"})

    async with scripted(handle) as server:
        yield server


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Serve both, and the token service of the second."""
    async with token_service() as service, guarded_registry(service) as back, front_of(back.server) as front:
        yield Pair(front=front, back=back, service=service)


async def test_the_other_registry_gets_a_token_of_its_own(pair: Pair) -> None:
    """Its challenge is answered anonymously, once; after that each request carries the token at once."""
    async with pair.client() as client:
        for _ in range(2):
            await client.repository("pause").fetch_manifest("3.9")
    assert pair.back.server.lines == ["GET /v2/k8s-artifacts-prod/pause/manifests/3.9"] * 3
    assert [asked.scopes for asked in pair.service.asked] == [("repository:k8s-artifacts-prod/pause:pull",)]
    assert [asked.user for asked in pair.service.asked] == [""]
    # The first answer of the front is a challenge, and the first of the other costs the way once more.
    assert len(pair.front.lines) == 4


async def test_nobody_sees_the_credentials_of_another(pair: Pair) -> None:
    """The password of a registry is seen by it alone, also that of one that is trusted and led to."""
    async with pair.client({pair.back.server.address: OTHER}, pair.back.server.address) as client:
        await client.repository("pause").fetch_manifest("3.9")
    basic = {seen.authorization for seen in pair.front.seen}
    bearer = {seen.authorization for seen in pair.back.server.seen}
    assert all(header == "" or header.startswith("Basic dTpjYW5hcnk") for header in basic)
    assert all(header == "" or header.startswith("Bearer ") for header in bearer)
    assert [(asked.user, asked.secret) for asked in pair.service.asked] == [("other", "canary-other")]


async def test_a_redirect_is_no_use_of_other_credentials(pair: Pair) -> None:
    """What is kept for the other registry is not used because the first one leads there, unless it is trusted."""
    async with pair.client({pair.back.server.address: OTHER}) as client:
        await client.repository("pause").fetch_manifest("3.9")
    assert [asked.user for asked in pair.service.asked] == [""]


async def test_one_token_for_many(pair: Pair) -> None:
    """Many requests that are redirected at once share the token of the other registry."""
    async with pair.client() as client, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(client.repository("pause").fetch_manifest, f"t{number}")
    assert len(pair.service.asked) == 1


async def test_refusal_of_the_other_registry_is_final(pair: Pair) -> None:
    """A token that does not help there is no reason to go round: one typed error that names the other registry."""
    pair.service.granted = {"k8s-artifacts-prod/pause": set()}
    async with pair.client() as client:
        with pytest.raises(Unauthorized) as caught:
            await client.repository("pause").fetch_manifest("3.9")
    assert pair.back.server.address in caught.value.message
    assert len(pair.service.asked) == 1
    assert len(pair.back.server.lines) == 2


async def test_writing_is_not_answered_elsewhere(pair: Pair) -> None:
    """A push that is redirected shows nothing to the other registry, whatever it asks for."""
    async with pair.client() as client:
        with pytest.raises(Unauthorized):
            await client.repository("pause", Side.TARGET).push_manifest(images.image().manifest, "1")
    assert pair.service.asked == []
    assert {seen.authorization for seen in pair.back.server.seen} == {""}


async def test_storage_that_refuses_is_shown_nothing() -> None:
    """A storage that answers 401 without a challenge gets no credentials, and no ping is sent."""

    async def storage(request: web.BaseRequest) -> web.StreamResponse:
        del request
        return web.Response(status=401)

    async with scripted(storage) as back, front_of(back) as front, connected(front.address, credential=USER) as it:
        with pytest.raises(Unauthorized):
            await it.client.repository("a").fetch_manifest("1")
        assert {seen.authorization for seen in back.seen} == {""}
        assert not any(line.endswith("/v2/") for line in front.lines)
