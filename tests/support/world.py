"""Real registries for whole runs: embedded ones and Debian's, filled with samples, and specs between them."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from syncer.app.places import Opened
from syncer.app.running import run_spec
from syncer.app.surroundings import Surroundings
from syncer.events import TagFinished
from syncer.layout.tree import LayoutTree
from syncer.oci import Reference
from syncer.server import RegistryServer, RequestRecord, ServerSettings
from syncer.spec import parse_spec
from tests.support.faults.embedded import LayoutJudge, agreement
from tests.support.observing import Recorder
from tests.support.transfer import push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncer.events import Observer
    from syncer.telemetry.report import Report
    from tests.support.images import Sample

HERE = Surroundings(environ={}, home=Path("/nonexistent"), etc=Path("/nonexistent"))


@dataclass
class Embedded:
    """A running embedded registry and what it was asked."""

    host: str
    root: Path
    judge: LayoutJudge
    requests: list[RequestRecord] = field(default_factory=list)
    _more: anyio.Event = field(default_factory=anyio.Event)

    def answered(self, record: RequestRecord) -> None:
        """Note a request; the server calls this."""
        self.requests.append(record)
        self.judge.answered(record)
        self._more.set()

    async def until(self, count: int) -> None:
        """Wait until ``count`` requests have been answered."""
        while len(self.requests) < count:
            self._more = anyio.Event()
            await self._more.wait()

    def counts(self) -> Counter[tuple[str, str]]:
        """Count requests by method and the kind of thing they were about."""
        return Counter((record.method, kind_of(record.path)) for record in self.requests)


#: The embedded registries that are served now, by host.
_SERVED: dict[str, Embedded] = {}


def kind_of(path: str) -> str:
    """Return which endpoint a path belongs to."""
    for kind in ("/blobs/uploads/", "/blobs/", "/manifests/", "/tags/list", "/referrers/", "/_catalog"):
        if kind in path:
            return kind.strip("/")
    return path


@asynccontextmanager
async def embedded(root: Path, **settings: Any) -> AsyncIterator[Embedded]:
    """Run an embedded registry over ``root`` until the end of the block.

    Its layout is judged after each manifest that it accepts, and by what runs say of it.
    """
    tree = LayoutTree(root, durable=False)
    registry = Embedded(host="", root=root, judge=LayoutJudge(root))
    options = {"durable": False, "on_request": registry.answered, **settings}
    try:
        async with RegistryServer(tree, ServerSettings(**options)) as server, registry.judge.watching():
            registry.host = server.address
            _SERVED[registry.host] = registry
            yield registry
    finally:
        _SERVED.pop(registry.host, None)
        await tree.close()


async def fill(host: str, repository: str, samples: dict[str, Sample]) -> None:
    """Push samples by tag; a key that starts with ``@`` is pushed by digest only."""
    async with Opened(HERE, Recorder()) as opened:
        target = await opened.target(Reference(registry=host, repository=repository))
        for tag, sample in samples.items():
            await push(target, sample, "" if tag.startswith("@") else tag)
    if host in _SERVED:
        # What a test does to the layout by hand from now on is no fault of the registry's.
        await _SERVED[host].judge.settled()


async def run(text: str, base: Path, *observers: Observer, surroundings: Surroundings = HERE, **options: Any) -> Report:
    """Run the spec in ``text``, whose paths are relative to ``base``.

    Raises:
        AssertionError: when the report does not agree with what embedded registries hold.
    """
    spec = await to_thread.run_sync(lambda: parse_spec(text, file="spec.yaml", base=base, environ={}))
    heard = Recorder()
    report = await run_spec(spec, surroundings=surroundings, observers=(heard, *observers), **options)
    roots = {host: registry.root for host, registry in _SERVED.items()}
    problems = await to_thread.run_sync(agreement, report, heard.of(TagFinished), roots)
    assert not problems, "\n".join(problems)
    return report


def spec_between(source: str, target: str, *entries: str, layout: str = "") -> str:
    """Return a spec with the registries ``source``, ``target`` (hosts) and ``usb`` (a layout), and ``entries``."""
    registries = [
        f"  source: {{host: '{source}', plain_http: true}}",
        f"  target: {{host: '{target}', plain_http: true}}",
    ]
    if layout:
        registries.append(f"  usb: {{layout: '{layout}'}}")
    return "\n".join(
        ["version: 1", "state: ./state.db", "registries:", *registries, "sync:", *(f"  - {{{e}}}" for e in entries)]
    )
