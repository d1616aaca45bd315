"""Lists that come in pages, each with a Link to the next (distribution-spec "Listing Tags")."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import anyio.to_thread

from syncer.errors import ProtocolViolation
from syncer.registry.network.urls import Origin, links, redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yarl import URL

    from syncer.registry.call import Call, Reply
    from syncer.registry.client import RegistryClient

#: Bytes of one page. Some registries send every tag at once, with a few hundred bytes on each.
PAGE_LIMIT = 32 * 1024 * 1024
#: A document of this size is parsed in a thread: JSON holds the loop for about 10 ms per MiB.
_PARSED_ON_LOOP = 256 * 1024
_ENTRIES_AT_ONCE = 1000
_MOST_PAGES = 100_000
_IMPOSTOR = "Something that is not a registry may be answering: a proxy, or a log-in page."


async def pages(
    client: RegistryClient, call: Call, *, most: int = _MOST_PAGES, allows_empty: bool = False
) -> AsyncIterator[tuple[dict[str, Any], Reply]]:
    """Yield each page of a list as its JSON object and its answer; ``allows_empty`` takes a body of nothing for one.

    Raises:
        ProtocolViolation: when a page is no JSON object, the links lead away or in a circle, or there are
            more than ``most`` pages.
        NotFound, RegistryError: as the client's exchange.
    """
    seen: set[URL] = set()
    url: URL | None = call.url
    while url is not None:
        if url in seen or len(seen) >= most:
            raise ProtocolViolation(
                f"{client.host} lists {call.asked} {'in a circle' if url in seen else f'on over {most} pages'}",
                registry=client.host,
                method=call.method,
                url=redact(url),
                side=call.side,
            )
        seen.add(url)
        reply = await client.exchange(replace(call, url=url))
        yield ({} if allows_empty and not reply.body else await _parse(client, call, reply)), reply
        url = _next(client, call, reply)


async def entries(client: RegistryClient, document: dict[str, Any], key: str, reply: Reply) -> AsyncIterator[str]:
    """Yield the strings of a page's list, and let others run now and then: a page may have 100,000 of them.

    A list that is null is empty, and what is no string (Nexus lists nulls) is left out.

    Raises:
        ProtocolViolation: when the page has no such list: an answer of something else is no empty list.
    """
    listed = document.get(key)
    if listed is None and (key in document or "name" in document):
        listed = []
    if not isinstance(listed, list):
        raise ProtocolViolation(
            f"{client.host} answered with an object that has no list of {key}",
            registry=client.host,
            method="GET",
            url=redact(reply.url),
            hint=_IMPOSTOR,
        )
    for at, entry in enumerate(listed):
        if at % _ENTRIES_AT_ONCE == _ENTRIES_AT_ONCE - 1:
            await anyio.lowlevel.checkpoint()
        if isinstance(entry, str):
            yield entry


async def _parse(client: RegistryClient, call: Call, reply: Reply) -> dict[str, Any]:
    try:
        if len(reply.body) > _PARSED_ON_LOOP:
            document = await anyio.to_thread.run_sync(json.loads, reply.body)
        else:
            document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    raise ProtocolViolation(
        f"{client.host} answered {call.asked} with something that is no JSON object",
        registry=client.host,
        method=call.method,
        url=redact(reply.url),
        side=call.side,
        hint=_IMPOSTOR,
    )


def _next(client: RegistryClient, call: Call, reply: Reply) -> URL | None:
    for target in links(reply.headers.getall("Link", ())):
        url = client.resolve(reply.url, target)
        if Origin.of(url) != Origin.of(reply.url):
            raise ProtocolViolation(
                f"the next page of {call.asked} is on another host, {Origin.of(url)}",
                registry=client.host,
                method=call.method,
                url=redact(reply.url),
                side=call.side,
                hint="A list is read from one host. A registry behind a proxy must know its own name, or send relative "
                "links.",
            )
        return url
    return None
