"""Lists of tags and of repositories, in pages (distribution-spec endpoint 8, and Docker's catalog)."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from syncer.errors import StatusError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from syncer.layout.tree import LayoutTree
    from syncer.server.exchange import Exchange
    from syncer.server.settings import ServerSettings

#: Seconds for which the pages after the first are cut from the same list of repositories.
_CATALOG_AGE = 10.0


def take_page(names: Sequence[str], last: str, count: int) -> tuple[Sequence[str], bool]:
    """Return up to ``count`` of the sorted ``names`` that come after ``last``, and whether there are more."""
    start = bisect_right(names, last) if last else 0
    return names[start : start + count], start + count < len(names)


class Listing:
    """Answers with pages of names."""

    def __init__(self, tree: LayoutTree, settings: ServerSettings) -> None:
        self._tree = tree
        self._page_size = settings.page_size
        self._with_digests = settings.tag_digests
        self._catalog: tuple[float, list[str]] = (0.0, [])

    async def tags(self, exchange: Exchange) -> web.StreamResponse:
        """List the tags of a repository."""
        request, route = exchange.request, exchange.route
        count = self._count(request)
        store = await self._tree.store(route.repository)
        page, more = take_page(store.tags(), request.query.get("last", ""), count)
        document: dict[str, object] = {"name": route.repository, "tags": list(page)}
        if self._with_digests:
            document["manifest"] = _by_digest(store.tag_digests(page))
        return _answer(request, document, page, count, more=more)

    async def catalog(self, exchange: Exchange) -> web.StreamResponse:
        """List the repositories."""
        request = exchange.request
        count = self._count(request)
        last = request.query.get("last", "")
        page, more = take_page(await self._repositories(fresh=not last), last, count)
        return _answer(request, {"repositories": list(page)}, page, count, more=more)

    def _count(self, request: web.Request) -> int:
        text = request.query.get("n")
        if text is None:
            return self._page_size
        if not (text.isascii() and text.isdigit()):
            raise StatusError(
                f"n is not a natural number: {text[:40]!r}", status=400, codes=("PAGINATION_NUMBER_INVALID",)
            )
        return min(int(text[:18]), self._page_size)

    async def _repositories(self, *, fresh: bool) -> list[str]:
        # Each page would otherwise walk the whole tree again, and a hundred pages do so in seconds.
        taken, names = self._catalog
        now = time.monotonic()
        if fresh or now - taken > _CATALOG_AGE:
            names = [name async for name in self._tree.repositories()]
            self._catalog = (now, names)
        return names


def _by_digest(digests: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Return the ``manifest`` member of gcr.io's lists of tags: ``{"sha256:…": {"tag": [...]}}``."""
    found: dict[str, dict[str, list[str]]] = {}
    for tag, digest in digests.items():
        found.setdefault(digest, {"tag": []})["tag"].append(tag)
    return found


def _answer(
    request: web.Request, document: dict[str, object], page: Sequence[str], count: int, *, more: bool
) -> web.Response:
    response = web.Response(body=json.dumps(document, separators=(",", ":")).encode(), content_type="application/json")
    if more and page:
        target = f"{request.rel_url.raw_path}?n={count}&last={quote(page[-1], safe='')}"
        response.headers["Link"] = f'<{target}>; rel="next"'
    return response
