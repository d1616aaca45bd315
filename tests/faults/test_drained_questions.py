"""A question that a stop or a drain leaves without its answer: nobody takes that for the registry's word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.engine.draining import Drain
from syncer.events import RunStatus, TagOutcome
from tests.support import images
from tests.support.faults.injection import Fault, Injector, Struck
from tests.support.faults.model import Model
from tests.support.faults.syncing import spec_of, synced
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.history import Step
from tests.support.personalities.internet import Internet
from tests.support.personalities.sites import refusal

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.telemetry.report import Report


def test_a_stop_while_a_second_look_is_taken(tmp_path: Path) -> None:
    """Who is stopped while it asks whether a tag has vanished is told of all the same."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example")
    source.keep("app", images.image(layers=1), "v1")

    async def main() -> Report:
        stop = anyio.Event()

        async def hang(struck: Struck) -> web.StreamResponse:
            stop.set()
            await anyio.sleep(60)
            return await struck.answer()

        async def refuse(struck: Struck) -> web.StreamResponse:
            injector.at(Step.MANIFEST_HEAD, Fault("hanging", hang), site="source.example")
            struck.was_answered(gone := refusal(404, "MANIFEST_UNKNOWN"))
            return gone

        injector = Injector(internet).at(Step.MANIFEST_GET, Fault("gone", refuse), site="source.example")
        async with internet.running():
            text = spec_of({"source": source, "target": target}, "name: e, from: source/app, to: target/app")
            return await synced(internet, text, tmp_path, stop=stop)

    report = virtually(main())
    assert report.status is RunStatus.INTERRUPTED
    assert report.totals.tags[TagOutcome.CANCELLED] == report.totals.finished == 1


@pytest.mark.parametrize(
    ("site", "step", "answer"),
    [
        # Has the tag vanished at the source since it was listed?
        ("source.example", Step.MANIFEST_GET, (404, "MANIFEST_UNKNOWN")),
        # Is what the immutable tag holds what was to be written?
        ("target.example", Step.MANIFEST_PUT_TAG, (400, "TAG_IMMUTABLE")),
    ],
)
def test_a_pause_that_keeps_a_second_look_from_being_taken(
    site: str, step: Step, answer: tuple[int, str], tmp_path: Path
) -> None:
    """A tag whose failure is to be explained by a HEAD that a drain does not wait for was stopped, and did not fail."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example")
    source.keep("app", images.image(layers=1), "v1")

    async def main() -> Report:
        drain = Drain(7)

        async def refuse(struck: Struck) -> web.StreamResponse:
            injector.at(Step.MANIFEST_HEAD, Fault("paused", pause), site=site)
            return struck_by(struck, refusal(*answer))

        async def pause(struck: Struck) -> web.StreamResponse:
            asyncio.get_running_loop().call_later(0.1, drain.begin)
            return struck_by(struck, web.Response(status=429, headers={"Retry-After": "60"}))

        def struck_by(struck: Struck, response: web.Response) -> web.Response:
            struck.was_answered(response)
            return response

        injector = Injector(internet).at(step, Fault("refused", refuse), site=site)
        async with internet.running():
            text = spec_of({"source": source, "target": target}, "name: e, from: source/app, to: target/app")
            return await synced(internet, text, tmp_path, drain=drain)

    report = virtually(main())
    assert report.status is RunStatus.INTERRUPTED
    assert not report.failures
    assert report.totals.tags[TagOutcome.CANCELLED] == 1
