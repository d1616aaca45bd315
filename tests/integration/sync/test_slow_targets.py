"""A target that takes nothing for a while, among targets that do: the others are brought in step meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.events import TagOutcome
from tests.support import images
from tests.support.streams import streaming
from tests.support.world import embedded, fill, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.images import Sample

pytestmark = pytest.mark.untraced

#: Seconds that nobody waits for where nothing is wrong.
DEADLINE = 20


@asynccontextmanager
async def holding(host: str, held: bytes, release: anyio.Event) -> AsyncIterator[str]:
    """Relay to ``host``, and hold requests that begin with ``held`` until the ``release``; give the address."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_request: bool) -> None:
        while data := await reader.read(65536):
            if is_request and data.startswith(held):
                await release.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, _, port = host.rpartition(":")
        there, to = await asyncio.open_connection(name, int(port))
        try:
            await asyncio.gather(relay(reader, to, is_request=True), relay(there, writer, is_request=False))
        finally:
            to.close()

    async with streaming(connection) as address:
        yield address


def at(address: str, name: str) -> str:
    """Return ``address`` under another ``name`` of this machine."""
    return f"{name}:{address.rpartition(':')[2]}"


#: What is copied to whom, unless a test has something else in mind.
ONE_TO_BOTH = ("from: source/app, to: slow/app", "from: source/app, to: quick/app")


async def brought_while_one_stalls(
    folder: Path,
    samples: dict[str, Sample],
    *,
    hosts: tuple[str, ...] = ("127.0.0.1", "127.0.0.1"),
    more: dict[str, dict[str, Sample]] | None = None,
    entries: tuple[str, str] = ONE_TO_BOTH,
) -> None:
    """Copy ``samples`` to two targets, of which one answers no upload before the other has got everything.

    The source, at the first of ``hosts``, lets eight blobs move at once; the targets are at the second. There may be
    ``more`` in the source, by repository, and other ``entries``: those for the slow target, and for the quick one.
    """
    release = anyio.Event()
    async with (
        embedded(folder / "source") as source,
        embedded(folder / "quick") as quick,
        embedded(folder / "slow") as slow,
        holding(slow.host, b"POST", release) as address,
    ):
        for repository, content in {"app": samples, **(more or {})}.items():
            await fill(source.host, repository, content)
        targets = {"slow": address, "quick": quick.host}
        lines = [
            f"  source: {{host: '{at(source.host, hosts[0])}', plain_http: true, limits: {{connections: 8}}}}",
            *(f"  {name}: {{host: '{at(host, hosts[1])}', plain_http: true}}" for name, host in targets.items()),
        ]
        listed = [f"  - {{name: e{number}, {entry}}}" for number, entry in enumerate(entries)]
        text = "\n".join(["version: 1", "state: ./state.db", "registries:", *lines, "sync:", *listed])

        async def release_in_the_end() -> None:
            with anyio.move_on_after(DEADLINE):
                while quick.counts()["PUT", "manifests"] < len(samples):
                    await quick.until(len(quick.requests) + 1)
            assert quick.counts()["PUT", "manifests"] == len(samples)
            release.set()

        async with anyio.create_task_group() as group:
            group.start_soon(release_in_the_end)
            report = await run(text, folder)
        expected = sum(map(len, more.values())) if more else len(samples)
        assert report.totals.tags[TagOutcome.COPIED] == len(samples) + expected


async def test_the_images_of_a_target_that_stalls_leave_room_for_others(tmp_path: Path) -> None:
    """Many more tags than a run has open at once arrive at one target while the other does not take the first."""
    sample = images.image(layers=0)
    await brought_while_one_stalls(tmp_path, {f"v{at:03}": sample for at in range(150)})


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
async def test_the_slots_of_a_target_that_stalls_leave_some_for_others(tmp_path: Path, is_first: bool) -> None:  # noqa: FBT001 - a parameter
    """Many more blobs than may move at once arrive at one target while the other takes none of them.

    It holds whether slots of the source are taken first or last, which is by the registries' names.
    """
    samples = {f"v{at:03}": images.image(layers=0, seed=at) for at in range(30)}
    await brought_while_one_stalls(tmp_path, samples, hosts=("127.0.0.1", "localhost")[:: 1 if is_first else -1])


async def test_the_repositories_of_a_target_that_stalls_let_the_next_entry_start(tmp_path: Path) -> None:
    """An entry has more repositories than a run has open at once, and its target takes none of them.

    The next entry, which reads something else and goes elsewhere, waits for none of it.
    """
    sample = images.image(layers=0)
    await brought_while_one_stalls(
        tmp_path,
        {"v1": sample, "v2": sample},
        more={f"team/app{at:02}": {"v1": sample} for at in range(70)},
        entries=("from: 'source/team/*', to: 'slow/{path}', referrers: false", "from: source/app, to: quick/app"),
    )
