"""Which request meets which fault, the same in every run of one seed.

What a random injector decides about a request depends on the seed, on the request, and on how often
it came before: not on the order in which requests of different tasks happen to arrive.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.personalities.history import Step
from tests.support.personalities.internet import received_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web

    from tests.support.personalities.history import Exchange
    from tests.support.personalities.internet import Internet

    Predicate = Callable[[Exchange], bool]


@dataclass(frozen=True, kw_only=True)
class Struck:
    """A request that meets a fault.

    Attributes:
        answer: lets the site take the request, and returns what it answers.
        chance: the fault's own randomness.
    """

    internet: Internet
    exchange: Exchange
    request: web.BaseRequest = field(repr=False)
    answer: Callable[[], Awaitable[web.StreamResponse]] = field(repr=False)
    chance: random.Random = field(repr=False)

    def was_answered(self, response: web.StreamResponse, *, is_delivered: bool = True) -> None:
        """Note the site's answer, for a fault that does not pass it on as it is."""
        self.internet.history.end(self.exchange, response.status, response.headers, received_of(self.request))
        self.exchange.is_delivered = is_delivered


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one exchange.

    Attributes:
        name: what it is called in tables and histories.
        act: answers in place of the site, or lets it; returns None when the connection has been dealt with.
        steps: where it can happen.
    """

    name: str
    act: Callable[[Struck], Awaitable[web.StreamResponse | None]] = field(repr=False)
    steps: frozenset[Step] = field(default=frozenset(Step), repr=False)


class Injector:
    """Stands between requests and sites (``internet.interceptor``), and lets faults strike."""

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        #: Every exchange that met a fault, in order.
        self.struck: list[Exchange] = []
        self._rules: list[_At | _Random] = []
        internet.interceptor = self

    def at(
        self,
        step: Step,
        fault: Fault,
        *,
        nth: int = 1,
        times: int | None = 1,
        site: str = "",
        when: Predicate | None = None,
    ) -> Injector:
        """Let ``fault`` strike the ``nth`` request of ``step`` (from 1) and those after it, ``times`` in all.

        Args:
            step: the step of the protocol.
            fault: what goes wrong.
            nth: the first that it strikes.
            times: how many it strikes; None for all from then on.
            site: only requests to this name count.
            when: only requests of which this is true count.
        """
        self._rules.append(_At(step=step, fault=fault, nth=nth, times=times, site=site, when=when))
        return self

    def random(
        self,
        seed: object,
        rate: float,
        faults: Sequence[Fault],
        *,
        when: Predicate | None = None,
        most_in_a_row: int = 2,
    ) -> Injector:
        """Let one of ``faults`` strike a share ``rate`` of all requests.

        Args:
            seed: the same seed, the same faults for the same requests.
            rate: from 0 to 1.
            faults: one is chosen each time, all alike.
            when: only requests of which this is true are struck.
            most_in_a_row: how often one and the same request is struck; so much a client has to bear.
        """
        self._rules.append(_Random(seed=seed, rate=rate, faults=faults, when=when, most_in_a_row=most_in_a_row))
        return self

    def stop(self) -> None:
        """Let nothing go wrong from now on."""
        self._rules.clear()

    async def __call__(
        self, exchange: Exchange, request: web.BaseRequest, answer: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse | None:
        """Answer ``request``."""
        chosen = [fault for rule in self._rules if (fault := rule.choose(exchange)) is not None]
        if not chosen:
            return await answer()
        fault = chosen[0]
        exchange.fault = fault.name
        self.struck.append(exchange)
        chance = random.Random(f"{exchange.site} {exchange.method} {exchange.target}")  # noqa: S311 - a test's
        struck = Struck(internet=self.internet, exchange=exchange, request=request, answer=answer, chance=chance)
        return await fault.act(struck)


@dataclass(kw_only=True)
class _At:
    step: Step
    fault: Fault
    nth: int
    times: int | None
    site: str
    when: Predicate | None
    seen: int = 0

    def choose(self, exchange: Exchange) -> Fault | None:
        if exchange.step is not self.step or (self.site and exchange.site != self.site):
            return None
        if self.when is not None and not self.when(exchange):
            return None
        self.seen += 1
        last = self.nth + self.times if self.times is not None else self.seen + 1
        return self.fault if self.nth <= self.seen < last else None


@dataclass(kw_only=True)
class _Random:
    seed: object
    rate: float
    faults: Sequence[Fault]
    when: Predicate | None
    most_in_a_row: int
    came: Counter[str] = field(default_factory=Counter)
    row: Counter[str] = field(default_factory=Counter)

    def choose(self, exchange: Exchange) -> Fault | None:
        if self.when is not None and not self.when(exchange):
            return None
        # The number of an upload is chance, its blob is not.
        place, _, query = exchange.target.partition("?")
        asked = f"{exchange.site} {exchange.step} {query[-71:] if exchange.step in _SESSIONS else place}"
        self.came[asked] += 1
        digest = hashlib.sha256(f"{self.seed} {asked} {self.came[asked]}".encode()).digest()
        if int.from_bytes(digest[:8], "big") >= self.rate * 2**64 or self.row[asked] >= self.most_in_a_row:
            self.row[asked] = 0
            return None
        fitting = [fault for fault in self.faults if exchange.step in fault.steps]
        if not fitting:
            return None
        self.row[asked] += 1
        return fitting[int.from_bytes(digest[8:16], "big") % len(fitting)]


_SESSIONS = frozenset({Step.PATCH, Step.PUT, Step.STATUS, Step.ABORT})
