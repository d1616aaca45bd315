"""A source whose answer announces another length than the manifest does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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

    from tests.support.faults.injection import Fault

ENTRY = "name: e, from: source/app, to: target/app"


@pytest.mark.parametrize("fault", [exchanges.SHORT, exchanges.EXTRA, exchanges.EMPTY], ids=str)
@pytest.mark.parametrize("times", [1, 2])
def test_once_is_no_verdict(fault: Fault, times: int, tmp_path: Path) -> None:
    """One wrong length is read again, also where the blob was opened beside its upload; two are a corrupt source."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example")
    source.keep("app", images.image(layers=1), "v1")
    Injector(internet).at(Step.BLOB_GET, fault, times=times, when=lambda seen: seen.reference == layer)
    layer = str(images.image(layers=1).manifest.layers[0].digest)
    report = virtually(synced_between(internet, {"source": source, "target": target}, [ENTRY], tmp_path))
    assert report.status is (RunStatus.DONE if times == 1 else RunStatus.FAILED)
    assert all("is corrupt" in failure.message for failure in report.failures)
    assert not internet.violations
    assert sum(seen.reference == layer for seen in internet.seen) == 2
