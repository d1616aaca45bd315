"""Running things side by side, and meeting others who do the same thing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from syncer.errors import SyncerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from types import TracebackType

    from anyio.abc import TaskGroup

K = TypeVar("K")


#: How many calls of one fan-out are under way at once: bounds memory by depth, not by an index's length.
WIDTH = 16


async def run_all(calls: Sequence[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Run every call side by side, sixteen at a time; the first to fail cancels the rest.

    A call may wait for one that another fan-out has begun, never for one that has not begun yet.

    Raises:
        SyncerError: the first one raised, alone. An error that is none of ours comes in its group:
            it is a defect, and nothing of its trace is to be lost.
    """
    if len(calls) == 1:
        await calls[0]()
        return
    if len(calls) <= WIDTH:
        async with open_group() as group:
            for call in calls:
                group.start_soon(call)
        return
    places = anyio.Semaphore(WIDTH)

    async def one(call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await call()
        finally:
            places.release()

    async with open_group() as group:
        for call in calls:
            await places.acquire()
            group.start_soon(one, call)


class open_group:  # noqa: N801 - stands where anyio's function would
    """Open a task group whose failures leave as :func:`run_all` lets them."""

    __slots__ = ("_group",)

    def __init__(self) -> None:
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> TaskGroup:
        """Open it."""
        return await self._group.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Wait for its tasks."""
        try:
            return await self._group.__aexit__(kind, error, trace)
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

    The waiting hold nothing. They learn how the leader failed, and decide for themselves whether to
    lead next: the failure may have been the leader's own (its source, its cancellation).
    """

    def __init__(self) -> None:
        self._landed: dict[K, _Landing] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._landed

    async def wait(self, key: K) -> SyncerError | None:
        """Wait until nobody leads ``key``, or until the one who leads now is done; return its failure."""
        landing = self._landed.get(key)
        if landing is None:
            return None
        landing.event = landing.event or anyio.Event()
        await landing.event.wait()
        return landing.failure

    @contextmanager
    def lead(self, key: K) -> Iterator[None]:
        """Lead ``key`` for the length of the block; the caller has checked that nobody does."""
        landing = self._landed[key] = _Landing()
        try:
            yield
        except SyncerError as error:
            landing.failure = error
            raise
        finally:
            del self._landed[key]
            if landing.event is not None:
                landing.event.set()


class _Landing:
    """How a flight ended, for those who wait for it."""

    def __init__(self) -> None:
        #: Made by the first who waits: mostly nobody does.
        self.event: anyio.Event | None = None
        self.failure: SyncerError | None = None
