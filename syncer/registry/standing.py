"""What all who ask one registry share, however many clients and keys of a spec lead to it.

A pause, a ceiling, an allowance or a registry that is not there concern everybody alike, and so do
the locks on its lists of referrers and what it turned out to offer.
"""

from __future__ import annotations

import random as random_module
import time
from typing import TYPE_CHECKING

import anyio

from syncer.registry.capabilities import Capabilities
from syncer.registry.hosts import traits_of
from syncer.registry.referrers import FallbackTags
from syncer.registry.traffic.allowance import Allowance
from syncer.registry.traffic.breaker import Breaker
from syncer.registry.traffic.limits import Limits
from syncer.registry.traffic.retry import RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from syncer.events import RequestKind
    from syncer.registry.settings import RegistrySettings


class Standing:
    """How things stand with one registry.

    Attributes:
        policy: how often and when a request is tried again.
        budget: what the run may spend on that.
        limits: how much is asked at once, a second, and not at all for a while.
        breaker: whether it is there.
        capabilities: what it turned out to offer.
        fallback_tags: the locks of the lists of referrers that Syncer keeps in its tags.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        policy: RetryPolicy | None = None,
        budget: RetryBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Begin with what is configured; where no rate is, with what the registry's name makes likely."""
        traits = traits_of(settings.host)
        is_configured = settings.requests_per_second is not None
        self.policy = policy or RetryPolicy()
        self.budget = budget or RetryBudget()
        self.limits = Limits(
            control=settings.connections,
            data=settings.data_connections,
            bulk=settings.bulk_connections,
            requests_per_second=settings.requests_per_second if is_configured else traits.requests_per_second,
            bandwidth=settings.bandwidth,
            rates=None if is_configured else traits.rates,
            clock=clock,
            sleep=sleep,
            random=random,
            is_fixed=settings.is_fixed,
        )
        self._host = settings.host
        self._clock = clock
        self._allowances = {"": Allowance(settings.host, metered_pulls=traits.metered_pulls, clock=clock)}
        self.breaker = Breaker(self.policy, clock=clock, sleep=sleep, random=random)
        self.capabilities = Capabilities(traits=traits, clock=clock)
        self.fallback_tags = FallbackTags()

    def allowance(self, place: str = "") -> Allowance:
        """Return what the registry still allows, or another ``place`` that it leads to (an origin)."""
        return self._allowances.get(place) or Allowance(place, metered_pulls=False, clock=self._clock)

    def close(self, seconds: float, place: str = "") -> None:
        """Ask the registry, or ``place``, nothing for ``seconds``; only such places are kept: storages are many."""
        self._allowances.setdefault(place, self.allowance(place)).close(seconds)

    async def leave(self, kind: RequestKind, place: str = "") -> None:
        """Wait until a request of ``kind`` may be sent to the registry, or to ``place``.

        Raises:
            RateLimitReached: when that is not going to be in this run.
        """
        while True:
            await self.limits.wait_pause(place)
            await self.allowance(place).wait(kind)
            if not self.limits.is_paused(place):
                return


class Standings:
    """The standing of every registry of a run, and the one budget for trying again that they share."""

    def __init__(
        self,
        budget: RetryBudget | None = None,
        policy: RetryPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.budget = budget or RetryBudget()
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._known: dict[str, Standing] = {}

    def with_policy(self, policy: RetryPolicy) -> Standings:
        """Return others that share the budget and the clock, and try again as ``policy`` says."""
        return Standings(self.budget, policy, clock=self._clock, sleep=self._sleep, random=self._random)

    def of(self, settings: RegistrySettings, location: str = "") -> Standing:
        """Return the standing of the registry at ``location``, which is else its host.

        Of the ceilings that several ``settings`` for it name, the lowest holds.
        """
        known = self._known.get(location or settings.host)
        if known is None:
            known = self._known[location or settings.host] = Standing(
                settings,
                policy=self._policy,
                budget=self.budget,
                clock=self._clock,
                sleep=self._sleep,
                random=self._random,
            )
        else:
            known.limits.tighten(
                control=settings.connections,
                data=settings.data_connections,
                bulk=settings.bulk_connections,
                requests_per_second=settings.requests_per_second,
                bandwidth=settings.bandwidth,
            )
        return known
