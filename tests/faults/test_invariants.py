"""Each invariant is broken once, and the checker says so; where nothing is broken, it says nothing."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest

from syncer.cli.exits import code_of_report
from syncer.content import verified
from syncer.events import RunStatus, TagFinished, TagOutcome
from syncer.oci import Descriptor, Digest
from tests.support import images
from tests.support.careless import send
from tests.support.faults import exchanges, invariants
from tests.support.faults.footprint import Footprint, Watcher, bounded
from tests.support.faults.injection import Injector
from tests.support.faults.invariants import Course
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced
from tests.support.faults.virtual_time import virtually
from tests.support.observing import Recorder
from tests.support.personalities.history import Step
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from syncer.telemetry.report import Report
    from tests.support.faults.injection import Fault

pytestmark = pytest.mark.untraced

OLD, NEW = images.image(seed="old", layers=1), images.image(seed="new", layers=1)
SOURCE, TARGET = ("source.example", "app"), ("target.example", "app")
TYPE = {"Content-Type": NEW.manifest.media_type}


class World:
    """A source with one tag, a target that trusts its clients, and what a client does to them."""

    def __init__(self) -> None:
        self.internet = Internet()
        self.source = Model(self.internet, SOURCE[0], tokens=True)
        self.target = Model(self.internet, TARGET[0], trusting=True, believing=True)
        self.source.keep("app", OLD, "v1")
        self.recorder = Recorder()

    @property
    def at(self) -> str:
        """The target repository."""
        return f"{self.internet.origin(TARGET[0])}/v2/app"

    def play(self, *acts: Callable[[World], Awaitable[object]]) -> Course:
        """Let a client act, in virtual time, and return the course of that."""
        since = len(self.internet.history.entries)

        async def acted() -> None:
            async with self.internet.running():
                for act in acts:
                    await act(self)

        virtually(acted())
        return Course(since=since, pairs={TARGET: SOURCE})

    def sync(self, base: Path, *, is_rerun: bool = False) -> Report:
        """Run Syncer."""

        async def run() -> Report:
            async with self.internet.running():
                registries = {"source": self.source, "target": self.target}
                text = spec_of(registries, "name: e, from: source/app, to: target/app")
                return await synced(self.internet, text, base, self.recorder, is_rerun=is_rerun)

        return virtually(run())

    def told(self) -> list[TagFinished]:
        """What Syncer said of the tags."""
        return self.recorder.of(TagFinished)


async def put_manifest(world: World) -> None:
    """Write a tag, and nothing that it needs."""
    await send("PUT", f"{world.at}/manifests/v1", headers=TYPE, body=NEW.manifest.raw)


async def put_image(world: World, sample: images.Sample = NEW) -> None:
    """Write a whole image."""
    for digest, data in sample.blobs.items():
        await put_blob(world, str(digest), data)
    await send("PUT", f"{world.at}/manifests/v1", headers=TYPE, body=sample.manifest.raw)


async def put_blob(world: World, digest: str, data: bytes) -> None:
    """Write a blob, in the right way."""
    opened = await send("POST", f"{world.at}/blobs/uploads/", body=b"")
    location = f"{world.internet.origin(TARGET[0])}{opened.headers['Location']}"
    await send("PUT", f"{location}&digest={digest}", body=data)


def invariants_of(found: list[invariants.Violation]) -> set[str]:
    """Return the names of what was broken."""
    return {violation.invariant for violation in found}


def judged(world: World, course: Course) -> list[invariants.Violation]:
    """Return all that a course has broken."""
    return invariants.check(world.internet.history, course, world.internet.secrets)


def test_i1_a_tag_without_its_content() -> None:
    """A manifest that is pushed before its blobs makes a tag that resolves to something incomplete."""
    world = World()
    course = world.play(put_manifest)
    (found,) = invariants.closed_tags(world.internet.history, course)
    assert "app:v1 is" in found.text
    assert "I1" in invariants_of(judged(world, course))


def test_i1_is_judged_at_every_instant() -> None:
    """That it was complete a moment later does not help."""
    world = World()
    course = world.play(put_manifest, put_image)
    found = list(invariants.closed_tags(world.internet.history, course))
    assert len(found) == 1
    assert not invariants.held_at(world.internet.history)[TARGET].hole(str(NEW.digest))


def test_i2_a_value_that_the_source_never_had() -> None:
    """A tag is written with an image that the source's tag does not stand for."""
    world = World()
    course = world.play(put_image)
    (found,) = invariants.tag_values(world.internet.history, course)
    assert "its source never was" in found.text
    assert invariants_of(judged(world, course)) == {"I2"}


def test_i2_a_step_back() -> None:
    """Both values were the source's in this run, and the older one is written last."""
    world = World()

    async def move(world: World) -> None:
        world.source.keep("app", NEW, "v1")

    course = world.play(lambda it: put_image(it, OLD), move, put_image, lambda it: put_image(it, OLD))
    (found,) = invariants.tag_values(world.internet.history, course)
    assert "went back" in found.text
    assert invariants_of(judged(world, course)) == {"I2"}


def test_i3_writing_where_nothing_is_new(tmp_path: Path) -> None:
    """A run that copies is taken for one after a success: each of its writes is told."""
    world = World()
    since = len(world.internet.history.entries)
    assert world.sync(tmp_path).status is RunStatus.DONE
    found = list(invariants.quiet(world.internet.history, Course(since=since)))
    assert {violation.text.split()[8] for violation in found} == {"POST", "PUT"}
    assert not world.internet.violations
    world.sync(tmp_path, is_rerun=True)
    assert not world.internet.violations


def test_i4_a_secret_at_another_origin() -> None:
    """The source's password and its token are shown to the target, plainly, in Basic and in a query."""
    world = World()
    password = world.source.login.password
    basic = "Basic amFuZTpjYW5hcnktcGFzc3dvcmQtb2Ytc291cmNlLmV4YW1wbGU="

    async def show(world: World) -> None:
        await send("GET", f"{world.at}/tags/list", headers={"Authorization": f"Bearer {password}"})
        await send("GET", f"{world.at}/tags/list", headers={"Authorization": basic})
        await send("GET", f"{world.at}/tags/list?password={password}")

    course = world.play(show)
    found = list(invariants.secrecy(world.internet.history, course, world.internet.secrets))
    assert ["was sent to target.example" in violation.text for violation in found] == [True] * 3
    assert invariants_of(judged(world, course)) == {"I4"}


def test_i4_a_secret_in_what_is_written() -> None:
    """A password that is in a state file or a message, plain or in base64, is found."""
    world = World()
    password = world.source.login.password.encode()
    texts = {
        "state.db": b"\0" + password,
        "clean": b"canary",
        **{f"log {before}": base64.b64encode(b"j" * before + password + b"!") for before in range(4)},
    }
    found = judged(world, replace(world.play(), texts=texts))
    assert [violation.text.rpartition(" is in ")[2] for violation in found] == [
        "state.db",
        *(f"log {before}" for before in range(4)),
    ]


def test_i5_other_bytes_under_a_digest() -> None:
    """A registry that looks at nothing was given other bytes than the digest says."""
    world = World()
    digest, data = next(iter(NEW.blobs.items()))
    course = world.play(lambda it: put_blob(it, str(digest), data[:-1] + b"?"))
    (found,) = invariants.contents(world.internet.history, course)
    assert str(digest) in found.text
    assert invariants_of(judged(world, course)) == {"I5"}


def test_i6_a_request_in_a_pause() -> None:
    """Who was told to wait for seven seconds comes back after six; after seven it is fine."""
    world = World()
    Injector(world.internet).at(Step.TAGS, exchanges.TOO_MANY_SECONDS)

    async def ask(world: World) -> None:
        await send("GET", f"{world.at}/tags/list")

    course = world.play(ask, lambda _: anyio.sleep(6), ask, lambda _: anyio.sleep(1.1), ask)
    (found,) = invariants.pauses(world.internet.history, course)
    assert "sent 1.00 s before the end of a pause" in found.text
    assert invariants_of(judged(world, course)) == {"I6"}


@pytest.mark.parametrize(("heard", "broken"), [(1, set()), (2, {"I6"})])
def test_i6_a_pause_that_nobody_heard_of(heard: int, broken: set[str]) -> None:
    """Of two answers of a kind one was given up when it came: it may be the one that asks to be left alone."""
    world = World()
    injector = Injector(world.internet)
    injector.at(Step.TAGS, exchanges.UNAVAILABLE)
    injector.at(Step.CATALOG, exchanges.UNAVAILABLE_SECONDS)

    async def ask(world: World) -> None:
        for path in ("app/tags/list", "_catalog", "app/tags/list"):
            await send("GET", f"{world.internet.origin(TARGET[0])}/v2/{path}")
            await anyio.sleep(1)

    course = replace(world.play(ask), heard={200: 1, 503: heard})
    assert invariants_of(judged(world, course)) == broken


def test_i6_more_requests_than_faults_explain() -> None:
    """One fault may cost eight requests, and not a ninth."""
    world = World()
    Injector(world.internet).at(Step.TAGS, exchanges.INTERNAL)

    async def ask(world: World) -> None:
        for _ in range(11):
            await send("GET", f"{world.at}/tags/list")

    course = world.play(ask)
    assert not judged(world, replace(course, budget=3))
    (found,) = judged(world, replace(course, budget=2))
    assert found.invariant == "I6"
    assert found.text.startswith("11 requests")


def test_i6_failures_do_not_excuse_each_other() -> None:
    """However many faults there are, one and the same request is not sent again and again."""
    world = World()
    Injector(world.internet).at(Step.TAGS, exchanges.INTERNAL, times=None)

    async def ask(world: World) -> None:
        for _ in range(invariants.MOST_STRIKES + 3):
            await send("GET", f"{world.at}/tags/list")

    (found,) = judged(world, replace(world.play(ask), budget=1))
    assert found.text.startswith(f"asked again after {invariants.MOST_STRIKES} failures")


def test_i6_refusals_do_not_excuse_each_other() -> None:
    """Who is refused with one token after the other, and asks again, is not excused by each of the refusals."""
    world = World()

    async def ask(world: World) -> None:
        url = f"{world.internet.origin(SOURCE[0])}/v2/app/tags/list"
        for number in range(40):
            await send("GET", url, headers={"Authorization": f"Bearer {number}"})

    (found,) = judged(world, replace(world.play(ask), budget=1))
    assert found.text.startswith("40 requests, where 1 and 8 for each of 2 faults")


def test_i7_memory_and_files_that_grow() -> None:
    """A process that keeps what it should pass on, and what it should close, is over its bound."""
    size, bound = 48 * 1024 * 1024, Footprint(memory=24 * 1024 * 1024, files=20)
    with Watcher() as watcher:
        kept = bytearray(size)
        # Written to, so that it is there.
        kept[::4096] = b"\1" * (size // 4096)
        handles = [Path("/dev/null").open("rb") for _ in range(40)]  # noqa: SIM115 - to be open is what they are for
        watcher.look()
        for handle in handles:
            handle.close()
        del kept
    assert [violation.text.partition(":")[0] for violation in bounded(watcher.most, bound)] == ["memory", "files"]


async def test_i7_a_stream_is_bounded() -> None:
    """A blob of 48 MiB that is made and checked piece by piece takes next to nothing."""
    piece, count = bytes(256 * 1024), 192

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            await anyio.lowlevel.checkpoint()
            yield piece

    whole = Descriptor(media_type="application/octet-stream", digest=ZEROS, size=len(piece) * count)
    with Watcher() as watcher:
        async for _ in verified(pieces(), whole):
            pass
        watcher.look()
    assert not list(bounded(watcher.most, Footprint(memory=24 * 1024 * 1024, files=20)))


#: Of 48 MiB of zeros.
ZEROS = Digest("sha256:152ba99dbaf6c7dde5955a8484835194ed4fc0f20a0ea774667f148a25cb03c4")


def test_i8_an_upload_that_is_left_open() -> None:
    """An upload that was opened, and neither committed nor deleted; one that was deleted is none."""
    world = World()

    async def open_two(world: World) -> None:
        await send("POST", f"{world.at}/blobs/uploads/", body=b"")
        other = await send("POST", f"{world.at}/blobs/uploads/", body=b"")
        await send("DELETE", f"{world.internet.origin(TARGET[0])}{other.headers['Location']}")

    course = world.play(open_two)
    (found,) = invariants.sessions(world.internet.history, course)
    assert "upload-1 was left open" in found.text
    assert invariants_of(judged(world, course)) == {"I8"}
    assert not judged(world, replace(course, is_graceful=False))


def test_i8_a_registry_that_is_not_there_any_more() -> None:
    """Nothing can be deleted where no answer comes any more; a few that are lost are no excuse."""
    for lost, expected in ((invariants.GIVEN_UP, set()), (invariants.GIVEN_UP - 1, {"I8"})):
        world = World()
        Injector(world.internet).at(Step.PATCH, exchanges.RESET_AT_ONCE, times=None)

        async def leave(world: World, lost: int = lost) -> None:
            opened = await send("POST", f"{world.at}/blobs/uploads/", body=b"")
            for _ in range(lost):
                # What is asked by GET, aiohttp asks once more by itself.
                with pytest.raises(aiohttp.ClientConnectionError):
                    await send("PATCH", f"{world.internet.origin(TARGET[0])}{opened.headers['Location']}", body=b"1")

        assert invariants_of(judged(world, world.play(leave))) == expected


@pytest.fixture
def done(tmp_path: Path) -> tuple[World, Course]:
    """A run that copied one tag, and its course."""
    world = World()
    since = len(world.internet.history.entries)
    report = world.sync(tmp_path)
    course = Course(since=since, pairs={TARGET: SOURCE}, report=report, finished=world.told(), is_whole=True)
    return world, replace(course, exit_code=code_of_report(report))


@pytest.mark.parametrize("fault", [exchanges.TOO_MANY_BARE, exchanges.TOO_MANY_ZERO], ids=lambda fault: fault.name)
def test_i8_a_registry_that_throttles_a_run_that_is_stopped(fault: Fault, done: tuple[World, Course]) -> None:
    """A run that is stopped does not wait until a registry can be asked again; one that is not stopped does."""
    world, course = done
    assert course.report is not None
    stopped = replace(course.report, status=RunStatus.INTERRUPTED)
    Injector(world.internet).at(Step.TAGS, fault, times=None)

    async def leave(world: World) -> None:
        await send("POST", f"{world.at}/blobs/uploads/", body=b"")
        await send("GET", f"{world.at}/tags/list")

    left = world.play(leave)
    assert not list(invariants.sessions(world.internet.history, replace(left, report=stopped)))
    assert list(invariants.sessions(world.internet.history, replace(left, report=course.report)))
    long_ago = world.play(leave, lambda _: anyio.sleep(invariants.LONGEST_BACKOFF + 1))
    assert list(invariants.sessions(world.internet.history, replace(long_ago, report=stopped)))


def test_i9_nothing_to_object_to(done: tuple[World, Course]) -> None:
    """What Syncer says of a run without faults is what the registries hold."""
    world, course = done
    assert not judged(world, course)


def test_i9_a_false_success(done: tuple[World, Course]) -> None:
    """A tag that is said to be copied is another, or has lost a blob, or is not there."""
    world, course = done
    held = world.target.repository("app")
    held.drop(str(OLD.manifest.layers[0].digest))
    assert ["and lacks" in violation.text for violation in judged(world, course)] == [True]
    (told,) = course.finished
    other = replace(course, finished=[replace(told, digest=NEW.digest)])
    assert [f"as {NEW.digest}" in violation.text for violation in judged(world, other)] == [True]
    nowhere = replace(course, finished=[replace(told, tag="v2")])
    assert any("not there" in violation.text for violation in judged(world, nowhere))


def test_i9_a_false_failure(done: tuple[World, Course]) -> None:
    """A tag that was written, with an answer that said so, is said to have failed."""
    world, course = done
    (told,) = course.finished
    failed = replace(course, finished=[replace(told, outcome=TagOutcome.FAILED)])
    assert any("was written, and the run could know" in violation.text for violation in judged(world, failed))


def test_i9_an_oversight(done: tuple[World, Course]) -> None:
    """A run that calls itself done has said nothing of a tag."""
    world, course = done
    silent = replace(course, finished=[])
    assert ["was overlooked" in violation.text for violation in judged(world, silent)] == [True]


def test_i9_a_false_skip(done: tuple[World, Course]) -> None:
    """A tag is said to have gone from the source, which has it; of one that did go that is true."""
    world, course = done
    (told,) = course.finished
    skipped = replace(course, finished=[replace(told, outcome=TagOutcome.SKIPPED)])
    assert any("the source has it" in violation.text for violation in judged(world, skipped))
    world.source.repository("app").untag("v1")
    assert not any("the source has it" in violation.text for violation in judged(world, skipped))


def test_i9_an_exit_code_that_disagrees(done: tuple[World, Course]) -> None:
    """The run is done, and the command ends with 1."""
    world, course = done
    assert course.exit_code == 0
    assert ["the exit code is 1" in each.text for each in judged(world, replace(course, exit_code=1))] == [True]


@pytest.mark.parametrize("seed", range(3))
def test_a_run_with_faults_breaks_nothing(seed: int, tmp_path: Path) -> None:
    """A sync of several tags through random faults keeps all invariants; and so does the run after it, with none."""
    world = World()
    for number in range(8):
        world.source.keep("app", images.index(seed=number), f"i{number}")
    injector = Injector(world.internet).random(seed, 0.08, exchanges.SURVIVABLE)
    assert world.sync(tmp_path).status is RunStatus.DONE
    assert injector.struck
    assert not world.internet.violations
    injector.stop()
    assert world.sync(tmp_path, is_rerun=True).status is RunStatus.DONE
    assert not world.internet.violations
