"""A registry pauses everybody for longer than its tokens hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.events import RunStatus
from tests.support import images
from tests.support.faults import exchanges
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.faults.syncing import synced_between
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.history import Step
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = "name: e, from: source/app, to: target/app"


def test_who_has_waited_shows_a_token_that_is_good_now(tmp_path: Path) -> None:
    """After a pause of five minutes hardly anybody comes with a token from before: only who was about to leave."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example", tokens=True)
    for number in range(12):
        source.keep("app", images.image(seed=number, layers=2, size=300), f"v{number}")
    injector = Injector(internet)
    for nth in (10, 20):
        injector.at(Step.POST, exchanges.TOO_MANY_ABSURD, nth=nth)
    report = virtually(synced_between(internet, {"source": source, "target": target}, [ENTRY], tmp_path))
    assert report.status is RunStatus.DONE
    assert not internet.violations
    refused = [str(seen) for seen in internet.seen if seen.status == 401 and "Authorization" in seen.headers]
    assert len(refused) < 6, refused


def test_an_upload_that_outlives_its_token_twice_goes_on(tmp_path: Path) -> None:
    """Twice the source breaks off and pauses for longer than the target's token holds, while the PUT is open."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example", tokens=True)
    source.keep("app", images.image(layers=1, size=300), "v1")
    injector = Injector(internet)
    # The config is read between the first two; then the layer alone.
    for nth in (1, 4, 7):
        injector.at(Step.BLOB_GET, exchanges.RESET_BODY, nth=nth, site="source.example")
        injector.at(Step.BLOB_GET, exchanges.TOO_MANY_ABSURD, nth=nth + 1, site="source.example")
    report = virtually(synced_between(internet, {"source": source, "target": target}, [ENTRY], tmp_path))
    assert report.status is RunStatus.DONE, report.failures
    assert not internet.violations
    sent = [str(seen) for seen in internet.seen if "PUT /v2/app/blobs/uploads/" in str(seen)]
    assert [line[-3:] for line in sent] == ["201", "401", "401", "201"]


def test_an_upload_whose_tokens_are_taken_back_twice_goes_on(tmp_path: Path) -> None:
    """The target takes its tokens back while a blob is sent, and once more after a pause of five minutes."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example", tokens=True)
    source.keep("app", images.image(layers=0, size=300), "v1")
    injector = Injector(internet)
    injector.at(Step.PUT, exchanges.EXPIRED, times=2)
    injector.at(Step.BLOB_GET, exchanges.TOO_MANY_ABSURD, nth=2, site="source.example")
    report = virtually(synced_between(internet, {"source": source, "target": target}, [ENTRY], tmp_path))
    assert report.status is RunStatus.DONE, report.failures
    assert not internet.violations
    sent = [str(seen) for seen in internet.seen if "PUT /v2/app/blobs/uploads/" in str(seen)]
    assert ["401" in line for line in sent] == [True, True, False]
