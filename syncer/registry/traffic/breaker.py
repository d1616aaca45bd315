"""Whether a registry is there: who finds out, and who waits for the news (reference 4.1).

A registry that answers is asked by everybody. One that has not answered yet is asked by a few, and
one that failed several times in a row by one request at a time, with growing delays; whoever else
wants something of it waits for what becomes of these. When they have failed as often as the policy
allows, all who wait fail with the same error, and who comes later does, too, for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from syncer.errors import CertificateError, TransportError
from syncer.registry.traffic.retry import Reaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from syncer.registry.traffic.retry import RetryPolicy

#: Requests that are under way at once to a registry that has not answered yet.
_FIRST = 4
#: Failures in a row, without an answer between them, after which one request at a time is sent.
_DOUBTED = 3
#: Seconds for which a registry that was given up is not asked again.
REST = 30.0


class Breaker:
    """Lets requests to one registry through, or holds them, or refuses them."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._has_answered = False
        self._failures = 0
        self._probes = 0
        self._next_probe = 0.0
        self._verdict: TransportError | CertificateError | None = None
        self._rested_at = 0.0
        self._changed = anyio.Event()

    @property
    def is_doubted(self) -> bool:
        """True when requests are sent one at a time, or not at all."""
        return self._failures >= _DOUBTED or self._verdict is not None

    def passage(self, *, is_telling: bool = True) -> Passage:
        """Return what waits for leave to send one request, which is under way for the length of the block.

        What the block raises counts as the registry's failure to answer when it is an error of the
        connection, unless the request is not ``is_telling``: a body may be what the connection broke
        over. When the block raises nothing, there was an answer.

        Raises:
            TransportError, CertificateError: when the registry was given up.
        """
        return Passage(self, is_telling=is_telling)

    def verdict(self) -> TransportError | CertificateError | None:
        """Return the error for everyone who asks a registry that was given up; None while there is hope."""
        if self._verdict is None or self._clock() >= self._rested_at:
            return None
        known = self._verdict
        verdict = type(known)(
            known.message, registry=known.registry, method=known.method, url=known.url, hint=known.hint
        )
        # Who is told so has not tried, and is not to try.
        verdict.attempts = max(known.attempts, 1)
        return verdict

    async def enter(self) -> bool:
        """Wait for leave to send; return whether others wait for what becomes of it."""
        while True:
            if verdict := self.verdict():
                raise verdict
            if self._verdict is not None:
                # It has rested: one request may find out whether it is back.
                self._verdict = None
                self._failures = max(self._failures - 1, _DOUBTED)
            if not self.is_doubted and self._has_answered:
                return False
            if self._probes >= (1 if self.is_doubted else _FIRST):
                await self._changed.wait()
                continue
            self._probes += 1
            try:
                while (delay := self._next_probe - self._clock()) > 0 and self.is_doubted:
                    await self._sleep(delay)
            except BaseException:
                self._probes -= 1
                self._wake()
                raise
            return True

    def answered(self) -> None:
        """Take note of an answer."""
        was_open = self._has_answered and not self.is_doubted
        self._has_answered = True
        self._failures = 0
        self._verdict = None
        self._next_probe = 0.0
        if not was_open:
            self._wake()

    def failed(self, error: TransportError | CertificateError, *, was_doubted: bool) -> None:
        """Take note that a request got no answer, which was sent while the registry ``was_doubted`` or not."""
        # Many that were sent together fail together: that is one failure more than was known, not many.
        self._failures = self._failures + 1 if was_doubted else min(self._failures + 1, _DOUBTED)
        decision = self._policy.decide(error, self._failures, self._random)
        self._next_probe = self._clock() + decision.delay
        if decision.reaction is Reaction.GIVE_UP:
            error.attempts = self._failures
            if self._failures > 1:
                error.hint = f"It was tried {self._failures} times. {error.hint}".strip()
            self._verdict = error
            self._rested_at = self._clock() + REST
        self._wake()

    def left(self) -> None:
        """Take note that a request on which others wait has come to its end."""
        self._probes -= 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class Passage:
    """Leave to send one request; see :meth:`Breaker.passage`."""

    __slots__ = ("_breaker", "_is_probe", "_is_telling", "_was_doubted")

    def __init__(self, breaker: Breaker, *, is_telling: bool) -> None:
        self._breaker = breaker
        self._is_telling = is_telling
        self._is_probe = self._was_doubted = False

    async def __aenter__(self) -> None:
        """Wait for it."""
        self._is_probe = await self._breaker.enter()
        self._was_doubted = self._breaker.is_doubted

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Note what became of the request."""
        if error is None:
            self._breaker.answered()
        elif isinstance(error, CertificateError) or (self._is_telling and isinstance(error, TransportError)):
            self._breaker.failed(error, was_doubted=self._was_doubted)
        if self._is_probe:
            self._breaker.left()
