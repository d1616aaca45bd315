"""What every command that talks to registries does around its work: the loop, and what was opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from syncer.app.loop import run
from syncer.app.places import Opened
from syncer.app.running import Ticking
from syncer.app.surroundings import Surroundings
from syncer.cli.voices import logs
from syncer.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from syncer.cli.options import Voice
    from syncer.events import Observer

T = TypeVar("T")


def opened(work: Callable[[Opened], Awaitable[T]], *, voice: Voice, authfile: str) -> T:
    """Run ``work`` on a loop of its own, with a place to open things that are closed behind it."""

    async def body() -> T:
        async with Opened(Surroundings.of_process(authfile=authfile), logs(voice)) as places:
            return await work(places)

    return run(body)


async def beside(observers: Sequence[Observer], work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work``, and beside it those of ``observers`` that draw or write as time passes."""
    async with anyio.create_task_group() as group:
        for observer in observers:
            if isinstance(observer, Ticking):
                group.start_soon(observer.run)
        result = await work()
        group.cancel_scope.cancel()
    return result


async def until(stop: anyio.Event, work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work``, but no longer than until ``stop`` is set.

    Raises:
        Interrupted: when it was stopped before its end.
    """
    results: list[T] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await stop.wait()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        results.append(await work())
        group.cancel_scope.cancel()
    if not results:
        raise Interrupted(
            "stopped before the end", hint="Run it again to go on: what was sent whole is not sent again."
        )
    return results[0]
