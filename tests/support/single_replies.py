"""Single odd replies without a server: aioresponses, under aiohttp as it is today.

Sockets are what the tests use; this is for the handful of answers whose bytes do not matter. They may be
64 KiB long: over that aiohttp wants to hold back a connection, and there is none.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import aiohttp
from aioresponses import aioresponses

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator


class Reply(aiohttp.ClientResponse):
    """A response that was never on a wire.

    aiohttp 3.14 wants the writer of its request, which aioresponses 0.7 leaves out.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("stream_writer", Mock())
        super().__init__(*args, **options)


@contextmanager
def single_replies() -> Iterator[Replies]:
    """Answer what is registered, and refuse every other request; no socket is opened."""
    with aioresponses() as mocked:
        yield Replies(mocked)


class Replies:
    """The answers to come."""

    def __init__(self, mocked: aioresponses) -> None:
        self._mocked = mocked

    def add(self, method: str, url: str | re.Pattern[str], **answer: Any) -> None:
        """Answer the next ``method`` of ``url``: ``status``, ``body`` or ``payload``, ``headers``."""
        self._mocked.add(url, method, response_class=Reply, **answer)

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Every request, as method and URL without its query, in order of first appearance."""
        requests = self._mocked.requests.items()
        return [(method, str(url.with_query(None))) for (method, url), calls in requests for _ in calls]
