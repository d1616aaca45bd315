"""Every token is taken back in mid-run, as by a registry that starts anew with another key: a fresh one is fetched."""

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

pytestmark = pytest.mark.untraced

LAYER = images.random_bytes(2000, "shared")


@pytest.mark.parametrize("step", [Step.TAGS, Step.MOUNT, Step.PUT, Step.MANIFEST_PUT_DIGEST, Step.MANIFEST_PUT_TAG])
def test_older_tokens_are_no_better(step: Step, tmp_path: Path) -> None:
    """Where mounts have left several tokens for one repository, the refusal of one does not end in another old one."""
    internet = Internet()
    source, target = Model(internet, "source.example"), Model(internet, "target.example", tokens=True)
    source.keep("lib", images.image(seed="lib", layers=0, shared=[LAYER]), "v1")
    registries = {"source": source, "target": target}
    first = "name: lib, from: source/lib, to: target/lib"
    assert virtually(synced_between(internet, registries, [first], tmp_path)).status is RunStatus.DONE
    for number in range(3):
        source.keep("app", images.index(seed=number, layers=1, size=300, shared=[LAYER]), f"v{number}")
    Injector(internet).at(step, exchanges.EXPIRED, site=target.host, when=lambda seen: seen.repository == "app")
    second = "name: app, from: source/app, to: target/app"
    report = virtually(synced_between(internet, registries, [first, second], tmp_path))
    assert report.status is RunStatus.DONE
    assert not internet.violations
