"""Running things side by side, and meeting others who do the same thing."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from syncer.errors import SyncerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

    from anyio.abc import TaskGroup

K = TypeVar("K")


async def run_all(calls: Sequence[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Run every call side by side; the first to fail cancels the rest.

    Raises:
        SyncerError: the first one raised, alone. An error that is none of ours comes in its group:
            it is a defect, and nothing of its trace is to be lost.
    """
    if len(calls) == 1:
        await calls[0]()
        return
    async with open_group() as group:
        for call in calls:
            group.start_soon(call)


@asynccontextmanager
async def open_group() -> AsyncIterator[TaskGroup]:
    """Open a task group whose failures leave as :func:`run_all` lets them."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise only_syncer_error(errors) from None


def only_syncer_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first leaf of ``errors`` when all leaves are ours, else ``errors`` itself."""
    ours, others = errors.split(SyncerError)
    if ours is None or others is not None:
        return errors
    first: BaseException = ours
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


class Flights(Generic[K]):
    """Single flight: of those who want the same thing at once, one does it and the others wait.

    The waiting hold nothing. When the leader fails, one of them leads next, for the failure may have
    been the leader's own (its source, its cancellation).
    """

    def __init__(self) -> None:
        self._landed: dict[K, anyio.Event] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._landed

    async def wait(self, key: K) -> None:
        """Wait until nobody leads ``key``, or until the one who leads now is done."""
        if event := self._landed.get(key):
            await event.wait()

    @contextmanager
    def lead(self, key: K) -> Iterator[None]:
        """Lead ``key`` for the length of the block; the caller has checked that nobody does."""
        event = self._landed[key] = anyio.Event()
        try:
            yield
        finally:
            del self._landed[key]
            event.set()
