"""Whatever happens, in whatever order: what a run reports is so, and what it does not report is in step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tests
from tests.faults.stateful.fatal import KINDS, Fatal
from tests.faults.stateful.graphs import Image, Index
from tests.faults.stateful.machine import search
from tests.faults.stateful.passing import ALL
from tests.faults.stateful.scenario import Scenario, Violated

pytestmark = pytest.mark.untraced

SHARED = Image(seed=1, layers=(1, 2, 4))
INDEX = Index(of=(SHARED, Image(seed=2, layers=(2, 5))))


@pytest.fixture
def scenario() -> Scenario:
    """Return a world with a few images."""
    it = Scenario(source={"storage": True}, target={"tokens": True})
    it.push("app", {"v1": SHARED, "v2": INDEX, "v3": Image(seed=3, layers=(3,))})
    it.push("lib", {"v1": SHARED, "latest": Image(seed=4, layers=(4,))})
    it.attach("app", "v2", 1)
    return it


def test_random_worlds() -> None:
    """Random worlds, pushes, losses, faults, stops and moves: nothing is lost, nothing false is said."""
    search(12, steps=6)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2))
def test_many_random_worlds(seed: int) -> None:
    """The same, much longer, from two beginnings; the command takes as long as one likes."""
    search(400, seed=seed, steps=15)


@pytest.mark.parametrize(
    "drain", [0, 12, 24, 36, *(pytest.param(after, marks=pytest.mark.torture) for after in range(1, 80))]
)
def test_a_drain_at_any_request(drain: int, scenario: Scenario) -> None:
    """Wherever a run is drained, what it reports is so, no upload is left open, and the next run does the rest."""
    scenario.run(drain=drain)
    scenario.run()
    scenario.run()
    scenario.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_who_is_hit_by_a_fault_that_nobody_survives_fails_and_nobody_else(kind: str, scenario: Scenario) -> None:
    """Exactly the tags that need what is broken are reported; the rest is in step, and all is when it is mended."""
    scenario.run(fatal=Fatal(kind=kind, repository="app", tag="v2", number=3))
    scenario.run()
    scenario.run()
    scenario.close()


@pytest.mark.torture
@pytest.mark.parametrize("name", sorted(ALL))
def test_each_fault_alone(name: str, scenario: Scenario) -> None:
    """Each kind of fault that has to be survived, at every tenth request where it can strike."""
    for seed in range(5):
        scenario.run(seed=seed, rate=0.1, kinds=(name,), recheck=seed % 2 == 1)
        scenario.push("app", {"v4": Image(seed=seed, layers=(5, 0))})
    scenario.close()


def test_a_violation_is_told_with_a_script_that_shows_it_again(scenario: Scenario, tmp_path: Path) -> None:
    """What the message prints can be pasted into a file, and run."""
    scenario.run()
    scenario.rot("app", "v3")
    with pytest.raises(Violated, match=r"app:v3 is there without") as caught:
        scenario.run()
    scenario.close()
    assert caught.value.script in str(caught.value)
    file = tmp_path / "shown.py"
    file.write_text(caught.value.script)
    command = [sys.executable, "-m", "tests.faults.replay", str(file)]
    done = subprocess.run(
        command, cwd=Path(tests.__path__[0]).parent, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 1
    assert "app:v3 is there without" in done.stdout


def test_what_has_rotted_is_repaired_by_a_recheck(scenario: Scenario) -> None:
    """A blob that the target has lost behind a tag's back is brought again by who looks at everything."""
    scenario.run()
    scenario.rot("app", "v2")
    scenario.run(recheck=True)
    scenario.run()
    scenario.close()
