"""What a registry asked for is remembered: for repositories not seen yet, and from one run to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from syncer.events import RequestKind
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.auth.memory import Demand
from syncer.registry.credentials.values import Basic
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Keys, connected
from tests.support.token_service import SERVICE, TokenService, token_service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.guarded import GuardedRegistry

USER = Basic(username="u", password="canary")


def client_of(registry: GuardedRegistry, learned: Iterable[Demand]) -> RegistryClient:
    """Return a client that starts with what another one has learned."""
    clock = Clock()
    settings = RegistrySettings(host=registry.server.address, plain_http=True)
    return RegistryClient(
        settings, Keys(USER), Recorder(), clock=clock, sleep=clock.sleep, random=lambda: 1.0, learned=learned
    )


async def test_second_run_starts_with_a_token(registry: GuardedRegistry, service: TokenService) -> None:
    """With what an earlier run has learned, the first request carries a token: no 401, and no ping."""
    async with connected(registry.server.address, credential=USER) as it:
        await it.client.repository("team/a").resolve("1")
        learned = it.client.learned()
    assert learned == (Demand(prefix="", realm=service.realm, service=SERVICE),)
    assert "canary" not in repr(learned)
    registry.server.seen.clear()
    async with client_of(registry, learned) as client:
        await client.repository("other/b").resolve("1")
    assert registry.server.lines == ["HEAD /v2/other/b/manifests/1"]
    assert [asked.scopes for asked in service.asked][1:] == [("repository:other/b:pull",)]


async def test_namespaces_with_realms_of_their_own(registry: GuardedRegistry, service: TokenService) -> None:
    """A realm for each namespace is met once in each, and serves its other repositories; both outlast the run."""
    async with token_service() as second:
        registry.service_of = lambda name: second if name.startswith("two/") else service
        async with connected(registry.server.address, credential=USER) as it:
            for name in ("one/a", "two/a", "one/b", "two/b", "one/c/d", "two/c/d"):
                await it.client.repository(name).resolve("1")
            # One challenge for all, and one for the second namespace, met with a token of the first.
            assert len(registry.server.lines) == 6 + 2
            learned = it.client.learned()
        assert {(demand.prefix, demand.realm) for demand in learned} == {
            ("", second.realm),
            ("one", service.realm),
        }
        before = len(service.asked), len(second.asked)
        async with client_of(registry, learned) as client:
            for name in ("one/x", "two/x"):
                await client.repository(name).resolve("1")
        assert (len(service.asked), len(second.asked)) == (before[0] + 1, before[1] + 1)


async def test_what_was_learned_may_be_wrong(registry: GuardedRegistry, service: TokenService) -> None:
    """A realm that the registry has left meanwhile costs one refusal, and is forgotten."""
    async with token_service() as former:
        former.granted = {"a": set()}
        async with client_of(registry, [Demand(realm=former.realm, service="former")]) as client:
            await client.repository("a").resolve("1")
            assert client.learned() == (Demand(realm=service.realm, service=SERVICE),)
    assert len(former.asked) == 1


async def test_basic_is_learned_too(registry: GuardedRegistry) -> None:
    """Where Basic was asked for, a later run shows it at once."""
    async with client_of(registry, [Demand()]) as client:
        await client.repository("a").resolve("1")
    assert registry.server.seen[0].authorization.startswith("Basic ")


async def test_no_ping_is_sent(registry: GuardedRegistry) -> None:
    """/v2/ is never asked where the refusals bring their challenge."""
    async with connected(registry.server.address, credential=USER) as it:
        for name in ("a", "b"):
            await it.client.repository(name).resolve("1")
    assert all(getattr(event, "kind", None) is not RequestKind.PING for event in it.recorder.events)


async def test_a_token_service_that_is_gone_is_forgotten(registry: GuardedRegistry, service: TokenService) -> None:
    """What an earlier run learned must not keep this one out: the registry is asked again, and says where to go."""
    async with token_service() as former:
        gone = Demand(realm=former.realm, service="former")
    async with client_of(registry, [gone]) as client:
        await client.repository("a").resolve("1")
        assert client.learned() == (Demand(realm=service.realm, service=SERVICE),)


async def test_a_token_service_that_refuses_is_asked_for_anew(registry: GuardedRegistry, service: TokenService) -> None:
    """The same where the former token service is there, and gives nothing."""
    async with token_service() as former:
        former.answer = lambda _: web.Response(status=403)
        async with client_of(registry, [Demand(realm=former.realm, service="former")]) as client:
            await client.repository("a").resolve("1")
            assert client.learned() == (Demand(realm=service.realm, service=SERVICE),)
