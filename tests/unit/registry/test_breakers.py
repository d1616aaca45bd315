"""Registries that are not there: who asks, who waits, who is told."""

from __future__ import annotations

from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from syncer.errors import CertificateError, ConnectionFailed, SyncerError
from syncer.registry.traffic.breaker import REST, Breaker
from syncer.registry.traffic.retry import RetryPolicy
from tests.support.scripted import Clock


class Host:
    """A host that is there or not, asked through a breaker on a clock of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.breaker = Breaker(RetryPolicy(), clock=self.clock, sleep=self.clock.sleep, random=lambda: 1.0)
        self.error: SyncerError | None = None
        self.asked: list[float] = []
        self.under_way = 0
        self.most = 0

    async def ask(self) -> None:
        """Ask once."""
        async with self.breaker.passage():
            self.asked.append(self.clock.now)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await anyio.lowlevel.checkpoint()
            self.under_way -= 1
            if self.error is not None:
                raise self.error

    async def insist(self) -> SyncerError:
        """Ask until it is final, as the client does; return the error."""
        while True:
            try:
                await self.ask()
            except (ConnectionFailed, CertificateError) as error:
                if error.attempts:
                    return error


async def test_two_hundred_who_ask_a_dead_registry() -> None:
    """A registry that is not there gets a dozen requests at most, with growing delays; all are told the same."""
    host = Host()
    host.error = ConnectionFailed("cannot connect", registry="r", hint="Check.")
    told: list[SyncerError] = []

    async def one() -> None:
        told.append(await host.insist())

    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(one)
    assert len(host.asked) <= 12
    assert {error.message for error in told} == {"cannot connect"}
    assert {error.hint for error in told} == {"It was tried 6 times. Check."}
    assert host.clock.slept == sorted(host.clock.slept)
    assert len(told) == 200


async def test_one_at_a_time_when_in_doubt() -> None:
    """After three failures in a row one request at a time is sent, and who waits goes on when it is answered."""
    host = Host()
    await host.ask()
    host.error = ConnectionFailed("gone")
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            await host.ask()
    assert host.breaker.is_doubted
    host.error = None
    host.most = 0
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(host.ask)
        await anyio.lowlevel.checkpoint()
        assert host.under_way <= 1
        assert len(host.asked) <= 5
    assert len(host.asked) == 14
    assert host.most > 1


async def test_failures_that_were_sent_together_are_no_verdict() -> None:
    """A registry that restarts under thirty requests is doubted for it, and not given up."""
    host = Host()
    await host.ask()
    host.error = ConnectionFailed("reset")

    async def one() -> None:
        with suppress(ConnectionFailed):
            await host.ask()

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(one)
    assert host.breaker.is_doubted
    assert host.breaker.verdict() is None
    host.error = None
    await host.ask()
    assert not host.breaker.is_doubted


async def test_an_answer_between_them_forgives() -> None:
    """Failures count in a row only."""
    host = Host()
    for _ in range(5):
        host.error = ConnectionFailed("reset")
        for _ in range(2):
            with pytest.raises(ConnectionFailed):
                await host.ask()
        host.error = None
        await host.ask()
    assert not host.breaker.is_doubted


async def test_a_certificate_is_a_verdict_at_once() -> None:
    """Whose certificate is not trusted gets one request, and whoever asks later is told without another."""
    host = Host()
    host.error = CertificateError("not trusted", registry="r")
    for _ in range(5):
        assert isinstance(await host.insist(), CertificateError)
    assert len(host.asked) == 1


async def test_a_registry_comes_back() -> None:
    """After a rest one request finds out whether a registry that was given up is there again."""
    host = Host()
    host.error = ConnectionFailed("gone")
    await host.insist()
    before = len(host.asked)
    await host.insist()
    assert len(host.asked) == before
    host.clock.now += REST
    await host.insist()
    assert len(host.asked) == before + 1
    host.clock.now += REST
    host.error = None
    await host.ask()
    assert host.breaker.verdict() is None


async def test_a_probe_that_is_cancelled_leaves_its_place() -> None:
    """Who is cancelled while all wait for it lets the next one ask."""
    host = Host()
    host.error = ConnectionFailed("gone")
    for _ in range(3):
        with suppress(ConnectionFailed):
            await host.ask()
    host.error = None
    with anyio.CancelScope() as scope:
        async with host.breaker.passage():
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    with anyio.fail_after(1):
        await host.ask()


async def test_a_body_that_breaks_a_connection_says_nothing_of_the_host() -> None:
    """Uploads that are cut off do not make others doubt the registry."""
    host = Host()
    await host.ask()
    for _ in range(10):
        with suppress(ConnectionFailed):
            async with host.breaker.passage(is_telling=False):
                raise ConnectionFailed
    assert not host.breaker.is_doubted
