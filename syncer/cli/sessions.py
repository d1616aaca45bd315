"""What every command that talks to registries does around its work: the loop, and what was opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from syncer.app import stopping
from syncer.app.loop import run
from syncer.app.places import Opened
from syncer.app.surroundings import Surroundings
from syncer.cli.voices import logs, speaker
from syncer.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import anyio

    from syncer.cli.options import Voice

T = TypeVar("T")


def opened(work: Callable[[Opened], Awaitable[T]], *, voice: Voice, authfile: str, registries_conf: str = "") -> T:
    """Run ``work`` on a loop of its own, with a place to open things that are closed behind it."""
    surroundings = Surroundings.of_process(authfile=authfile, registries_conf=registries_conf)

    async def body() -> T:
        async with Opened(surroundings, logs(voice)) as places:
            return await work(places)

    return run(lambda: stopping.stoppable(lambda stop: until(stop, body, hint="Run it again."), say=speaker(voice)))


async def until(
    stop: anyio.Event,
    work: Callable[[], Awaitable[T]],
    *,
    hint: str = "Run it again to go on: what was sent whole is not sent again.",
) -> T:
    """Run ``work``, but no longer than until ``stop`` is set.

    Raises:
        Interrupted: with ``hint``, when it was stopped before its end.
    """
    results: list[T] = []

    async def keep() -> None:
        results.append(await work())

    if not await stopping.until(stop, keep):
        raise Interrupted("stopped before the end", hint=hint)
    return results[0]
