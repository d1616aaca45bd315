"""Many tags and random faults of all kinds: none is lost, and nothing false is said of any."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tests
from tests.faults.load import REPOSITORIES, Load
from tests.support.faults import exchanges
from tests.support.faults.injection import Injector
from tests.support.faults.syncing import synced_between
from tests.support.faults.virtual_time import virtually
from tests.support.personalities.history import Step

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.untraced


def test_a_budget_is_what_a_sync_without_faults_costs() -> None:
    """The budget that faults are added to is not a loose one."""
    outcome = virtually(Load(60).run(0.0, 1))
    assert outcome.is_as_promised, str(outcome)
    assert not outcome.faults
    assert 0.75 * outcome.budget < outcome.requests <= outcome.budget


@pytest.mark.timeout(300)
def test_many_tags() -> None:
    """120 tags through faults at every twentieth request."""
    outcome = virtually(Load(120).run(1 / 20, 1))
    assert outcome.is_as_promised, "\n".join([str(outcome), *outcome.violations])
    assert outcome.faults.total() > 50


def test_a_registry_that_never_recovers_is_not_tried_as_often_for_every_tag(tmp_path: Path) -> None:
    """One that answers 503 for ever is tried so often for a whole run, and each tag is reported as failed."""
    load = Load(80)
    Injector(load.internet).at(Step.MANIFEST_GET, exchanges.UNAVAILABLE, times=None)
    entries = [f"name: {name}, from: source/{name}, to: target/{name}" for name in REPOSITORIES]
    report = virtually(synced_between(load.internet, {"source": load.source, "target": load.target}, entries, tmp_path))
    tags = {failure.place for failure in report.failures}
    assert len(tags) == 80
    struck = sum(bool(seen.fault) for seen in load.internet.seen)
    # Once for each tag, a hundred times more, and one in five of all that is asked.
    assert struck <= 80 + 100 + len(load.internet.seen) / 5 + 1
    assert not load.internet.violations


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_ten_thousand_tags(record_property: Callable[[str, object], None]) -> None:
    """10,000 tags through faults at every hundredth request; what came of it is told at the end."""
    command = [sys.executable, "-m", "tests.faults.load", "--tags", "10000", "--rate", "0.01"]
    done = subprocess.run(command, cwd=Path(tests.__path__[0]).parent, capture_output=True, text=True, check=False)
    record_property("told", done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
