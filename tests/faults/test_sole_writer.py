"""A target that nobody else writes, and tags that go back to what they were after a run that did not come to an end."""

from __future__ import annotations

import pytest

from syncer.events import TagOutcome
from tests.faults.stateful.fatal import Fatal
from tests.faults.stateful.graphs import Image
from tests.faults.stateful.scenario import Scenario
from tests.support.faults.exchanges import DONE_BUT_FAILED

pytestmark = pytest.mark.untraced

BEFORE, AFTER = Image(seed=1, layers=(1,)), Image(seed=2, layers=(2,))
#: What a run asks that follows a moved tag, and each of its writes twice more.
REQUESTS = 22


@pytest.fixture
def scenario() -> Scenario:
    """Return a world with six tags that a first run has brought, to be taken from the record by the next."""
    it = Scenario(is_sole=True)
    it.push("app", {"v1": BEFORE, **{f"v{at}": Image(seed=at, layers=(3,)) for at in range(2, 7)}})
    it.run()
    return it


@pytest.mark.parametrize("fault", ["", DONE_BUT_FAILED.name])
def test_a_run_that_was_stopped_at_any_request(fault: str, scenario: Scenario) -> None:
    """Whatever the stopped run has written, with an answer or without, the next one does not believe the old record."""
    has_been_written = False
    for stop in range(REQUESTS):
        scenario.push("app", {"v1": AFTER})
        before, said = dict(scenario.target.repository("app").tags), scenario.tally.tags[TagOutcome.COPIED]
        scenario.run(stop=stop, rate=1.0 if fault else 0.0, kinds=(fault,) if fault else ())
        is_written = scenario.target.repository("app").tags != before
        has_been_written |= is_written and scenario.tally.tags[TagOutcome.COPIED] == said
        scenario.push("app", {"v1": BEFORE})
        scenario.run()
        assert scenario.target.repository("app").tags == scenario.source.repository("app").tags
    # What this is about has happened: the tag was written, and the run could not say so.
    assert has_been_written or not fault
    assert scenario.tally.recorded
    scenario.close()


@pytest.mark.parametrize("kind", ["the tag is denied", "the allowance is used up"])
def test_a_run_that_failed(kind: str, scenario: Scenario) -> None:
    """A tag that failed, or was deferred, is asked for; and the others are not."""
    for number in range(5):
        scenario.push("app", {"v1": AFTER})
        scenario.run(fatal=Fatal(kind=kind, repository="app", tag="v1", number=number))
        scenario.push("app", {"v1": BEFORE})
        scenario.run()
        assert scenario.target.repository("app").tags == scenario.source.repository("app").tags
    assert scenario.tally.recorded
    scenario.close()


def test_runs_through_faults(scenario: Scenario) -> None:
    """Answers that are lost after the tag was written, and all else that has to be survived."""
    for seed in range(6):
        scenario.push("app", {"v1": AFTER if seed % 2 else BEFORE})
        scenario.run(seed=seed, rate=0.3 if seed % 3 else 0.0)
    scenario.push("app", {"v1": BEFORE})
    scenario.run()
    assert scenario.target.repository("app").tags == scenario.source.repository("app").tags
    scenario.close()
