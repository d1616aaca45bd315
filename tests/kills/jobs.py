"""Every job that is killed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.kills.copying import PLACES, Copy
from tests.kills.filling import Fill
from tests.kills.migrating import Migrate, TornMigrate, earlier_versions
from tests.kills.mirroring import Mirror
from tests.kills.serving import Serve
from tests.kills.withdrawing import Withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kills.crashes import Job


def jobs() -> Iterator[Callable[[], Job]]:
    """Yield what makes each job; making one takes a while, and belongs in a thread."""
    yield Mirror
    yield Withdraw
    yield Fill
    for place in PLACES:
        yield partial(Copy, place)
    yield Serve
    yield partial(Serve, clients=3)
    for version in earlier_versions():
        yield partial(Migrate, version)
        yield partial(TornMigrate, version)
