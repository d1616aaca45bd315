"""The harness of the fault tests: what it promises to those who build on it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest
from anyio import to_thread

import tests
from syncer.events import RunStatus
from tests.support import images
from tests.support.docker_registry import Witness, docker_registry
from tests.support.faults import connections, exchanges
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.faults.syncing import synced_between
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.history import Change, Exchange, Step, What
from tests.support.personalities.internet import Internet
from tests.support.world import HERE, run, spec_between

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from syncer.telemetry.report import Report

pytestmark = pytest.mark.untraced

ENTRY = "name: e, from: source/app, to: target/app"


class Pair:
    """A source with a few images, and an empty target."""

    def __init__(self, tags: int = 3) -> None:
        self.internet = Internet()
        self.source = Model(self.internet, "source.example", storage=True)
        self.target = Model(self.internet, "target.example", tokens=True)
        for number in range(tags):
            self.source.keep("app", images.image(seed=number, layers=1), f"v{number}")
        self.injector = Injector(self.internet)

    def sync(self, base: Path) -> Report:
        """Run once, in virtual time."""
        registries = {"source": self.source, "target": self.target}
        return virtually(synced_between(self.internet, registries, [ENTRY], base))


def test_waiting_takes_no_time() -> None:
    """Those who wait wake in the order of their times, and a deadline passes, without a second going by."""

    async def waiting() -> list[float]:
        woken: list[float] = []
        loop = asyncio.get_running_loop()

        async def wait(seconds: float) -> None:
            await anyio.sleep(seconds)
            woken.append(loop.time() - began)

        began = loop.time()
        async with anyio.create_task_group() as group:
            for seconds in (3600, 5, 60):
                group.start_soon(wait, seconds)
        with anyio.move_on_after(86_400):
            await anyio.sleep_forever()
        return [*woken, loop.time() - began]

    assert virtually(waiting()) == [5, 60, 3600, 3600 + 86_400]


def test_threads_are_waited_for() -> None:
    """Time does not jump over what a thread is still doing."""

    async def working() -> float:
        with anyio.fail_after(1):
            await to_thread.run_sync(lambda: sum(range(2_000_000)))
        return asyncio.get_running_loop().time()

    assert virtually(working()) == 1000.0


def test_the_history_tells_everything(tmp_path: Path) -> None:
    """Every exchange with its bytes and its pause, and every change with what caused it, in order."""
    pair = Pair(tags=1)
    pair.injector.at(Step.PUT, exchanges.TOO_MANY_SECONDS)
    assert pair.sync(tmp_path).status is RunStatus.DONE
    entries = pair.internet.history.entries
    assert [entry.number for entry in entries] == list(range(len(entries)))
    by_number = dict(enumerate(entries))
    (throttled,) = pair.injector.struck
    assert (throttled.status, throttled.pause, throttled.fault) == (429, 7.0, "429, 7 seconds")
    for change in pair.internet.history.changes():
        cause = by_number[change.cause] if change.cause is not None else None
        assert isinstance(cause, Exchange) == (change.site == pair.target.host)
        if change.what is What.BLOB_STORED:
            assert change.content == change.name
            if isinstance(cause, Exchange):
                assert cause.step is Step.PUT
                assert cause.received == len(pair.source.repository("app").blobs[change.name])
    (tagged,) = [one for one in pair.internet.history.changes(What.TAG_SET) if one.site == pair.target.host]
    assert (tagged.name, tagged.before) == ("v0", "")


def test_a_lost_answer_was_given(tmp_path: Path) -> None:
    """The change has happened, and nobody heard of it."""
    pair = Pair(tags=1)
    pair.injector.at(Step.MANIFEST_PUT_TAG, exchanges.LOST_ANSWER)
    assert pair.sync(tmp_path).status is RunStatus.DONE
    (lost,) = pair.injector.struck
    assert (lost.status, lost.is_delivered, lost.is_success) == (201, False, False)
    changes = [entry for entry in pair.internet.history.entries if isinstance(entry, Change)]
    assert [one.what for one in changes if one.cause == lost.number] == [What.MANIFEST_STORED, What.TAG_SET]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_faults_are_those_of_their_seed(seed: int, tmp_path: Path) -> None:
    """The same seed strikes the same requests with the same faults; and a run comes through."""

    def struck(name: str) -> list[tuple[str, str]]:
        pair = Pair(tags=10)
        pair.injector.random(seed, 0.1, exchanges.PASSING, when=lambda exchange: exchange.step is not Step.TOKEN)
        (tmp_path / name).mkdir()
        assert pair.sync(tmp_path / name).status is RunStatus.DONE
        assert not pair.internet.violations
        return sorted((exchange.step, exchange.fault) for exchange in pair.injector.struck)

    first = struck("one")
    assert first == struck("two")
    assert first


async def test_a_server_outlives_its_clients(tmp_path: Path) -> None:
    """As a process of its own it serves others, and tells them what has happened."""
    command = [sys.executable, "-m", "tests.support.faults", "--tags", "3", "--seed", "5", "--rate", "0.05"]
    root = Path(tests.__path__[0]).parent

    def start() -> tuple[subprocess.Popen[str], dict[str, str]]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    process, addresses = await to_thread.run_sync(start)
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"http://{addresses['control']}/faults?rate=0") as changed:
                assert changed.status == 204
            report = await run(spec_between(addresses["source"], addresses["target"], ENTRY), tmp_path)
            assert report.status is RunStatus.DONE
            async with session.get(f"http://{addresses['control']}/history") as told:
                history = await told.json()
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close() if process.stdout else None
        await to_thread.run_sync(process.wait)
    tagged = [entry for entry in history["entries"] if entry.get("what") == "tag set" and entry["cause"] is not None]
    assert sorted(entry["name"] for entry in tagged) == ["v0", "v1", "v2"]
    assert not history["violations"]


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """Run one of Debian's registries."""
    with docker_registry(tmp_path / "witness") as running:
        yield running


@pytest.mark.witness
async def test_connections_are_spoilt_in_front_of_others_servers(tmp_path: Path, witness: Witness) -> None:
    """Cuts, resets and slices between Syncer and Debian's registry: what is copied is copied whole."""
    pair = Pair(tags=4)
    spoils = connections.Spoils.at(
        {
            1: connections.Slices(7),
            2: connections.Cut(300),
            3: connections.Cut(800, connections.Way.UP),
            4: connections.Cut(500, is_reset=False),
            5: connections.Refused(),
        }
    )
    async with pair.internet.running(), connections.spoiling(witness.host, spoils) as proxy:
        # The least that the dice can say: nobody waits.
        spec = spec_between(pair.source.address, proxy.address, ENTRY)
        report = await run(spec, tmp_path, surroundings=replace(HERE, random=lambda: 0.0))
    assert report.status is RunStatus.DONE
    assert set(proxy.spoilt) >= {1, 2, 3}


def test_random_spoils_are_those_of_their_seed() -> None:
    """The same seed spoils the same connections in the same way."""
    kinds: Sequence[connections.Spoil] = [
        connections.Cut(10),
        connections.Refused(),
        connections.BlackHole(5),
        connections.Trickle(1, 0.01),
    ]

    def chosen(seed: int) -> list[connections.Spoil | None]:
        spoils = connections.Spoils.random(seed, 0.5, kinds)
        return [spoils.choose(number) for number in range(40)]

    assert chosen(1) == chosen(1) != chosen(2)
    assert 10 < sum(spoil is not None for spoil in chosen(1)) < 30
