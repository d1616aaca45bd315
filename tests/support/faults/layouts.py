"""Judges what an embedded registry holds while it serves: I1 after each accepted manifest, I9 after each run.

The layout is read as another program would read it, with none of Syncer's code.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from anyio import to_thread

from syncer.cli.exits import code_of_report
from syncer.events import TagOutcome
from tests.support.faults.invariants import Course, inconsistencies

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from syncer.events import TagFinished
    from syncer.server import RequestRecord
    from syncer.telemetry.report import Report

#: Rounds of the loop.
_MOMENT = 20
_REF_NAME = "org.opencontainers.image.ref.name"


def tags_of(layout: Path) -> dict[str, str]:
    """Return the digest of each tag, by index.json and the journal beside it; nothing where there is no layout."""
    tags: dict[str, str] = {}
    try:
        index = json.loads((layout / "index.json").read_bytes())
        journal = layout / ".syncer" / "journal"
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    except FileNotFoundError:
        return tags
    for entry in index["manifests"]:
        if tag := entry.get("annotations", {}).get(_REF_NAME):
            tags[tag] = entry["digest"]
    for change in map(json.loads, lines):
        if "put" in change:
            if change.get("tag"):
                tags[change["tag"]] = change["put"]["digest"]
        elif "untag" in change:
            tags.pop(change["untag"], None)
        else:
            tags = {tag: digest for tag, digest in tags.items() if digest != change["remove"]}
    return tags


def hole_in(layout: Path, digest: str, whole: set[str]) -> str:
    """Return something that is missing at or below the manifest ``digest``; what is ``whole`` is added there."""
    if digest in whole:
        return ""
    try:
        manifest = json.loads(_file(layout, digest).read_bytes())
    except FileNotFoundError:
        return digest
    for child in manifest.get("manifests", ()):
        if missing := hole_in(layout, child["digest"], whole):
            return missing
    blobs: list[dict[str, Any]] = [*manifest.get("layers", ()), *filter(None, [manifest.get("config")])]
    for blob in blobs:
        if not blob.get("urls") and not _file(layout, blob["digest"]).exists():
            return str(blob["digest"])
    whole.add(digest)
    return ""


def _file(layout: Path, digest: str) -> Path:
    algorithm, _, encoded = digest.partition(":")
    return layout / "blobs" / algorithm / encoded


class LayoutJudge:
    """Looks at the repositories of one embedded registry whenever a manifest was accepted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._whole: dict[str, set[str]] = {}
        self._due: set[str] = set()
        self._is_due = anyio.Event()
        self._looking = anyio.Lock()
        self.problems: list[str] = []

    def answered(self, record: RequestRecord) -> None:
        """Hear of a request."""
        repository, slash, _ = record.path.removeprefix("/v2/").rpartition("/manifests/")
        if record.method == "DELETE":
            self._whole.clear()
        elif record.method == "PUT" and slash and record.status == 201:
            self._due.add(repository)
            self._is_due.set()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Judge for the length of the block.

        Raises:
            AssertionError: at its end, with what was found.
        """
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.settled()
        assert not self.problems, "\n".join(self.problems)

    async def settled(self) -> None:
        """Judge what is due, now; a server tells of a request a moment after its answer has gone out."""
        for _ in range(_MOMENT):
            await anyio.lowlevel.checkpoint()
        await self._judge()

    async def _watch(self) -> None:
        while True:
            await self._is_due.wait()
            self._is_due = anyio.Event()
            await self._judge()

    async def _judge(self) -> None:
        # Who wants to know waits for a look that is under way, too.
        async with self._looking:
            due, self._due = self._due, set()
            for repository in due:
                self.problems += await to_thread.run_sync(self._holes, repository)

    def _holes(self, repository: str) -> list[str]:
        layout = self._root / repository
        whole = self._whole.setdefault(repository, set())
        found = [
            f"I1: {repository}:{tag} is {digest} without {missing}"
            for tag, digest in tags_of(layout).items()
            if (missing := hole_in(layout, digest, whole))
        ]
        # A tag may have gone between the two looks.
        return [text for text in found if tags_of(layout).get(text.partition(" is ")[0].rpartition(":")[2])]


def agreement(report: Report, finished: Sequence[TagFinished], roots: dict[str, Path]) -> list[str]:
    """I9: what a run says of each tag is what the layouts hold, by the hosts that serve them."""
    found = list(inconsistencies(Course(report=report, finished=finished, exit_code=code_of_report(report))))
    tags: dict[Path, dict[str, str]] = {}
    whole: dict[Path, set[str]] = {}
    for event in finished:
        host, _, repository = event.target.partition("/")
        if host not in roots or event.outcome not in (TagOutcome.COPIED, TagOutcome.IN_SYNC) or event.digest is None:
            continue
        layout = roots[host] / repository
        if layout not in tags:
            tags[layout], whole[layout] = tags_of(layout), set()
        now = tags[layout].get(event.tag, "")
        if now != event.digest:
            found.append(f"{event.target}:{event.tag} is said to be {event.digest}, and is {now or 'not there'}")
        elif missing := hole_in(layout, now, whole[layout]):
            found.append(f"{event.target}:{event.tag} is said to be {event.outcome}, and lacks {missing}")
    return [f"I9: {text}" for text in found]
